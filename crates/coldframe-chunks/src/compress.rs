//! Compression of single chunks: never longer than raw, never more than was announced.

use coldframe_chunkfile::Compression;
use coldframe_units::ChunkId;

use crate::error::{ChunkDamage, StoreError};

/// A chunk is stored compressed if that saves at least one byte in this many.
const GAIN_MIN: usize = 16;

/// The level of Zstandard: the fastest of the usual ones.
#[cfg(feature = "zstd")]
const ZSTD_LEVEL: i32 = 1;

/// Compresses chunks one after the other, with tables and room that are made once.
pub(crate) struct Compressor {
    wanted: Compression,
    /// As long as the longest output so far may have been.
    room: Vec<u8>,
    #[cfg(feature = "zstd")]
    zstd: Option<zstd::bulk::Compressor<'static>>,
}

impl Compressor {
    pub fn new(wanted: Compression) -> Self {
        let wanted = effective(wanted);
        Self {
            wanted,
            room: Vec::new(),
            // Without it chunks are stored as they are.
            #[cfg(feature = "zstd")]
            zstd: match wanted {
                Compression::Zstd => zstd::bulk::Compressor::new(ZSTD_LEVEL).ok(),
                _ => None,
            },
        }
    }

    /// How what [`Compressor::compress`] gives is compressed.
    pub const fn compression(&self) -> Compression {
        self.wanted
    }

    /// The bytes to store; `None` for the chunk's own.
    pub fn compress(&mut self, raw: &[u8]) -> Option<Vec<u8>> {
        let limit = raw.len().saturating_sub(raw.len() / GAIN_MIN);
        let fits = |len: usize| 0 < len && len < limit;
        match self.wanted {
            Compression::None => None,
            Compression::Lz4 => {
                let most = lz4_flex::block::get_maximum_output_size(raw.len());
                if self.room.len() < most {
                    self.room.resize(most, 0);
                }
                let len = lz4_flex::block::compress_into(raw, &mut self.room).ok()?;
                fits(len).then(|| self.room[..len].to_vec())
            }
            Compression::Zstd => self.zstd(raw).filter(|stored| fits(stored.len())),
        }
    }

    #[cfg(feature = "zstd")]
    fn zstd(&mut self, raw: &[u8]) -> Option<Vec<u8>> {
        self.zstd.as_mut()?.compress(raw).ok()
    }

    #[cfg(not(feature = "zstd"))]
    const fn zstd(&self, _raw: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

/// What a build without Zstandard writes in its place.
const fn effective(wanted: Compression) -> Compression {
    match wanted {
        Compression::Zstd if !cfg!(feature = "zstd") => Compression::Lz4,
        wanted => wanted,
    }
}

/// Exactly `raw_len` bytes out of stored ones.
pub(crate) fn decompress(
    id: ChunkId,
    stored: &[u8],
    raw_len: u32,
    compression: Compression,
) -> Result<Result<Vec<u8>, ChunkDamage>, StoreError> {
    let mut raw = vec![0; raw_len as usize];
    let len = match compression {
        Compression::None => {
            let fits = stored.len() == raw.len();
            if fits {
                raw.copy_from_slice(stored);
            }
            fits.then_some(raw.len())
        }
        Compression::Lz4 => lz4_flex::block::decompress_into(stored, &mut raw).ok(),
        Compression::Zstd => zstd_decompress(id, stored, &mut raw)?,
    };
    Ok(if len == Some(raw.len()) {
        Ok(raw)
    } else {
        Err(ChunkDamage::Decompress)
    })
}

#[cfg(feature = "zstd")]
fn zstd_decompress(
    _id: ChunkId,
    stored: &[u8],
    raw: &mut [u8],
) -> Result<Option<usize>, StoreError> {
    Ok(zstd::bulk::decompress_to_buffer(stored, raw).ok())
}

#[cfg(not(feature = "zstd"))]
fn zstd_decompress(
    id: ChunkId,
    _stored: &[u8],
    _raw: &mut [u8],
) -> Result<Option<usize>, StoreError> {
    let compression = Compression::Zstd;
    Err(StoreError::Unsupported { id, compression })
}
