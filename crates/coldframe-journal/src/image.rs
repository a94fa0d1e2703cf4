//! A memory image rebuilt from a journal.
//!
//! Invariant: nothing is written outside the image, and its length does not change.

use coldframe_storage::{Storage, StorageError};
use coldframe_units::{ByteLen, FileOffset, RamOffset};

use super::kinds::{MemoryRegion, MemoryZero};
use super::{End, Entry, EntryError, JournalError, Source};

/// Why an image could not be rebuilt.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// An entry lies outside the image.
    #[error("{len} bytes at {start} do not fit into an image of {image}")]
    OutOfImage {
        /// Where it begins.
        start: RamOffset,
        /// How many bytes it has.
        len: ByteLen,
        /// How many the image has.
        image: ByteLen,
    },
    /// An entry's bytes are no value of its type.
    #[error("an entry of the journal is malformed")]
    Entry {
        /// Which.
        #[source]
        source: EntryError,
    },
    /// The journal could not be read.
    #[error("the journal could not be read")]
    Journal {
        /// Why.
        #[source]
        source: JournalError,
    },
    /// The image could not be written.
    #[error("the image could not be written")]
    Write {
        /// Why.
        #[source]
        source: StorageError,
    },
}

/// What [`apply_memory`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Entries that were written.
    pub regions: u64,
    /// Bytes that were written.
    pub bytes: u64,
    /// Why there was no more.
    pub end: End,
}

static ZEROS: [u8; 1 << 16] = [0; 1 << 16];

/// Writes what is left in `source` of [`MemoryRegion`] and [`MemoryZero`] to a raw image, RAM
/// offset x at byte x, and syncs it. Other entries are passed over.
///
/// # Errors
/// [`ImageError`]; what came before the failing entry is written.
pub fn apply_memory(source: &mut impl Source, image: &dyn Storage) -> Result<Applied, ImageError> {
    let write = |source| ImageError::Write { source };
    let image_len = image.len().map_err(write)?;
    let (mut regions, mut bytes) = (0, 0);
    let end = loop {
        let advanced = source.advance();
        if let Some(end) = advanced.map_err(|source| ImageError::Journal { source })? {
            break end;
        }
        let Some(entry) = source.current() else {
            continue;
        };
        let malformed = |source| ImageError::Entry { source };
        let (start, len) = if entry.type_id() == MemoryRegion::TYPE {
            let region = entry.archived::<MemoryRegion>().map_err(malformed)?;
            let (start, len) = (region.ram_offset.to_native(), region.bytes.len() as u64);
            check(start, len, image_len)?;
            image
                .write_at(FileOffset::new(start), &region.bytes)
                .map_err(write)?;
            (start, len)
        } else if entry.type_id() == MemoryZero::TYPE {
            let zero = entry.archived::<MemoryZero>().map_err(malformed)?;
            let (start, len) = (zero.ram_offset.to_native(), zero.len.to_native());
            check(start, len, image_len)?;
            write_zeros(image, start, len).map_err(write)?;
            (start, len)
        } else {
            continue;
        };
        tracing::trace!(start, len, "memory applied");
        regions += 1;
        bytes += len;
    };
    image.sync_data().map_err(write)?;
    Ok(Applied {
        regions,
        bytes,
        end,
    })
}

fn check(start: u64, len: u64, image: ByteLen) -> Result<(), ImageError> {
    match start.checked_add(len) {
        Some(end) if end <= image.get() => Ok(()),
        _ => Err(ImageError::OutOfImage {
            start: RamOffset::new(start),
            len: ByteLen::new(len),
            image,
        }),
    }
}

fn write_zeros(image: &dyn Storage, start: u64, len: u64) -> Result<(), StorageError> {
    let mut at = start;
    while at < start + len {
        let count = (start + len - at).min(ZEROS.len() as u64);
        image.write_at(FileOffset::new(at), &ZEROS[..count as usize])?;
        at += count;
    }
    Ok(())
}
