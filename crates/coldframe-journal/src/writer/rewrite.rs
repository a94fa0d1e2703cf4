//! Making durable what a reader found, before it is continued.
//!
//! What a process reads may be in the host's cache alone: after a failed writeback the pages are
//! clean and still readable, and no later sync writes them (fsync(2)). So what no sync is known to
//! have covered is written again, byte for byte. Each record is checked again as it is read for
//! that, and must be the one that was found: a clean page may have been evicted meanwhile.

use std::sync::Arc;

use coldframe_storage::{Storage, StorageError};
use coldframe_units::FileOffset;
use coldframe_walframe::journal::PART_HEADER_LEN;

use crate::JournalError;
use crate::entry::Buffer;
use crate::look::{Look, Part, look};
use crate::reader::Unproved;
use crate::window::{Backing, Window};

/// So many bytes are gathered for one write.
const WRITE_BYTES: usize = 256 * 1024;

/// Writes again what is `unproved` before `end`.
pub(super) fn rewrite(
    storage: &Arc<dyn Storage>,
    unproved: &Unproved,
    end: u64,
) -> Result<(), JournalError> {
    let mut window = Window::new(Backing::Storage(Arc::clone(storage)))?;
    let mut part: Option<Part> = None;
    if unproved.from > unproved.part {
        match look(&mut window, None, unproved.part)? {
            Look::Part(found) => part = Some(*found),
            _ => return Err(gone(unproved.part)),
        }
    }
    let mut records = unproved.records.iter();
    let (mut at, mut start, mut bytes) = (unproved.from, unproved.from, Buffer::new());
    while at < end {
        let len = match look(&mut window, part.as_ref(), at)? {
            Look::Part(found) => {
                part = Some(*found);
                PART_HEADER_LEN
            }
            Look::Record(header) if records.next() == Some(&(at, header)) => header.record_len(),
            _ => return Err(gone(at)),
        };
        // Of the window still, as it was checked.
        bytes.extend_from_slice(window.get(at, len)?);
        at += len;
        if bytes.len() >= WRITE_BYTES {
            start = write(&**storage, start, &mut bytes)?;
        }
    }
    write(&**storage, start, &mut bytes)?;
    Ok(())
}

fn write(storage: &dyn Storage, at: u64, bytes: &mut Buffer) -> Result<u64, StorageError> {
    if !bytes.is_empty() {
        storage.write_at(FileOffset::new(at), bytes)?;
    }
    let end = at + bytes.len() as u64;
    bytes.clear();
    Ok(end)
}

const fn gone(at: u64) -> JournalError {
    let offset = FileOffset::new(at);
    JournalError::Gone { offset }
}
