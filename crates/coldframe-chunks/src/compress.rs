//! Compression of single chunks: never longer than raw, never more than was announced.

use coldframe_chunkfile::Compression;
use coldframe_units::ChunkId;

use crate::error::{ChunkDamage, StoreError};

/// A chunk is stored compressed if that saves at least one byte in this many.
const GAIN_MIN: usize = 16;

/// The level of Zstandard: the fastest of the usual ones.
#[cfg(feature = "zstd")]
const ZSTD_LEVEL: i32 = 1;

/// The bytes to store, and how they are stored; `None` for the chunk's own.
pub(crate) fn compress(raw: &[u8], wanted: Compression) -> Option<Vec<u8>> {
    let limit = raw.len().saturating_sub(raw.len() / GAIN_MIN);
    let stored = match wanted {
        Compression::None => return None,
        Compression::Lz4 => lz4_flex::block::compress(raw),
        Compression::Zstd => zstd_compress(raw)?,
    };
    (stored.len() < limit && !stored.is_empty()).then_some(stored)
}

#[cfg(feature = "zstd")]
fn zstd_compress(raw: &[u8]) -> Option<Vec<u8>> {
    zstd::bulk::compress(raw, ZSTD_LEVEL).ok()
}

#[cfg(not(feature = "zstd"))]
fn zstd_compress(raw: &[u8]) -> Option<Vec<u8>> {
    Some(lz4_flex::block::compress(raw))
}

/// What a build without Zstandard writes in its place.
pub(crate) const fn effective(wanted: Compression) -> Compression {
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
