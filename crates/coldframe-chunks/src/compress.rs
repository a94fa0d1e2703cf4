//! Compression of single chunks: never longer than raw, never more than was announced.

use std::ops::Range;

use coldframe_chunkfile::Compression;
use coldframe_units::ChunkId;

use crate::error::{ChunkDamage, StoreError};

/// A chunk is stored compressed if that saves at least one byte in this many.
const GAIN_MIN: usize = 16;

/// The level of Zstandard: the fastest of the usual ones.
#[cfg(feature = "zstd")]
const ZSTD_LEVEL: i32 = 1;

/// Compresses chunks one after the other, with tables that are made once, into room that is used
/// again.
pub(crate) struct Compressor {
    wanted: Compression,
    /// Compressed chunks, one behind the other: its first `used` bytes.
    room: Vec<u8>,
    used: usize,
    #[cfg(feature = "zstd")]
    zstd: Option<zstd::bulk::Compressor<'static>>,
}

impl Compressor {
    pub fn new(wanted: Compression) -> Self {
        let wanted = effective(wanted);
        Self {
            wanted,
            room: Vec::new(),
            used: 0,
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

    /// Forgets what was compressed, and keeps its room.
    pub const fn clear(&mut self) {
        self.used = 0;
    }

    /// Where in [`Compressor::bytes`] the bytes to store are; `None` for the chunk's own.
    pub fn compress(&mut self, raw: &[u8]) -> Option<Range<usize>> {
        let most = match self.wanted {
            Compression::None => return None,
            Compression::Lz4 => lz4_flex::block::get_maximum_output_size(raw.len()),
            Compression::Zstd => zstd_most(raw.len()),
        };
        self.reserve(most);
        let start = self.used;
        let len = match self.wanted {
            Compression::None => None,
            Compression::Lz4 => lz4_flex::block::compress_into(raw, &mut self.room[start..]).ok(),
            Compression::Zstd => self.zstd(raw, start),
        };
        let limit = raw.len().saturating_sub(raw.len() / GAIN_MIN);
        let len = len.filter(|len| 0 < *len && *len < limit)?;
        self.used += len;
        Some(start..self.used)
    }

    /// Keeps bytes as they are beside those that were compressed.
    pub fn keep(&mut self, bytes: &[u8]) -> Range<usize> {
        self.reserve(bytes.len());
        let start = self.used;
        self.used += bytes.len();
        self.room[start..self.used].copy_from_slice(bytes);
        start..self.used
    }

    /// Room for so many more; what was made once is not filled again.
    fn reserve(&mut self, len: usize) {
        let end = self.used + len;
        if self.room.len() < end {
            self.room.resize(end, 0);
        }
    }

    /// What was compressed since the room was cleared.
    pub fn bytes(&self) -> &[u8] {
        &self.room[..self.used]
    }

    #[cfg(feature = "zstd")]
    fn zstd(&mut self, raw: &[u8], start: usize) -> Option<usize> {
        let room = &mut self.room[start..];
        self.zstd.as_mut()?.compress_to_buffer(raw, room).ok()
    }

    #[cfg(not(feature = "zstd"))]
    const fn zstd(&self, _raw: &[u8], _start: usize) -> Option<usize> {
        None
    }
}

#[cfg(feature = "zstd")]
fn zstd_most(len: usize) -> usize {
    zstd::zstd_safe::compress_bound(len)
}

#[cfg(not(feature = "zstd"))]
const fn zstd_most(_len: usize) -> usize {
    0
}

/// What a build without Zstandard writes in its place.
const fn effective(wanted: Compression) -> Compression {
    match wanted {
        Compression::Zstd if !cfg!(feature = "zstd") => Compression::Lz4,
        wanted => wanted,
    }
}

/// Decompresses chunks one after the other, with tables that are made once.
#[derive(Default)]
pub(crate) struct Decompressor {
    #[cfg(feature = "zstd")]
    zstd: Option<zstd::bulk::Decompressor<'static>>,
}

impl Decompressor {
    /// Exactly as many bytes as `raw` has room for, out of stored ones.
    pub fn decompress(
        &mut self,
        id: ChunkId,
        stored: &[u8],
        compression: Compression,
        raw: &mut [u8],
    ) -> Result<Result<(), ChunkDamage>, StoreError> {
        let len = match compression {
            Compression::None => {
                let fits = stored.len() == raw.len();
                if fits {
                    raw.copy_from_slice(stored);
                }
                fits.then_some(raw.len())
            }
            Compression::Lz4 => lz4_flex::block::decompress_into(stored, raw).ok(),
            Compression::Zstd => self.zstd(id, stored, raw)?,
        };
        Ok(match len == Some(raw.len()) {
            true => Ok(()),
            false => Err(ChunkDamage::Decompress),
        })
    }

    #[cfg(feature = "zstd")]
    fn zstd(
        &mut self,
        _id: ChunkId,
        stored: &[u8],
        raw: &mut [u8],
    ) -> Result<Option<usize>, StoreError> {
        if self.zstd.is_none() {
            self.zstd = zstd::bulk::Decompressor::new().ok();
        }
        let zstd = self.zstd.as_mut();
        Ok(zstd.and_then(|zstd| zstd.decompress_to_buffer(stored, raw).ok()))
    }

    #[cfg(not(feature = "zstd"))]
    fn zstd(
        &mut self,
        id: ChunkId,
        _stored: &[u8],
        _raw: &mut [u8],
    ) -> Result<Option<usize>, StoreError> {
        let compression = Compression::Zstd;
        Err(StoreError::Unsupported { id, compression })
    }
}
