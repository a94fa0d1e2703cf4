//! Making durable what a scan found.
//!
//! What a process reads may be in the host's cache alone: after a failed writeback the pages are
//! clean and still readable, and no later sync writes them (fsync(2)). So what no sync is known to
//! have covered is written again, byte for byte, and synced. Each record is checked again as it is
//! read for that: a clean page may have been evicted since the scan, and then the disk's old bytes
//! show.

use coldframe_storage::{Storage, StorageError};
use coldframe_walframe::ring::{Chosen, RECORD_HEADER_LEN, RecordHeader, RecordKey, RingSource};

use crate::recovery::Found;
use crate::window::Window;
use crate::{Region, RingError, Sequence, control};

/// So many bytes are gathered for one write.
const WRITE_BYTES: usize = 256 * 1024;

/// Writes the unproved part of the log again, and the control block that holds if only one slot
/// has it, and syncs; does nothing if all is proved.
///
/// Spec: RING-27, RING-28
pub(crate) fn rewrite<S: Storage>(
    storage: &S,
    region: Region,
    chosen: &Chosen,
    found: &Found,
) -> Result<(), RingError> {
    let mut rewriter = Rewriter {
        storage,
        region,
        key: chosen.control.key(),
        found,
        window: Window::new(storage, region, chosen.control.geometry()),
        chosen,
        bytes: Vec::new(),
        start: 0,
    };
    let from = found.unproved_from();
    // A gap says nothing of when it was written: a repair makes it long after its records.
    for gap in found.gaps.iter().filter(|gap| gap.position < from) {
        rewriter.range(gap.position, gap.end)?;
    }
    rewriter.range(from, found.head_position)?;
    let mut is_changed = from < found.head_position || !found.gaps.is_empty();
    if !chosen.is_whole() {
        // The other slot has what was durable before: it is not touched until this one is.
        control::write_first(storage, region, &chosen.control).map_err(prepare)?;
        is_changed = true;
    }
    if is_changed {
        storage.sync_data().map_err(prepare)?;
    }
    Ok(())
}

const fn prepare(source: StorageError) -> RingError {
    RingError::Prepare { source }
}

struct Rewriter<'a, S> {
    storage: &'a S,
    region: Region,
    key: RecordKey,
    found: &'a Found,
    window: Window<&'a S>,
    chosen: &'a Chosen,
    /// What is to be written from the position `start` on.
    bytes: Vec<u8>,
    start: u64,
}

impl<S: Storage> Rewriter<'_, S> {
    /// Writes the records from one position up to another again.
    fn range(&mut self, from: u64, until: u64) -> Result<(), RingError> {
        self.start = from;
        let mut at = from;
        while at < until {
            at = self.take(at, until)?;
            if self.bytes.len() >= WRITE_BYTES {
                self.flush()?;
            }
        }
        self.flush()
    }

    /// Reads the record at a position, and returns the position behind it.
    fn take(&mut self, at: u64, until: u64) -> Result<u64, RingError> {
        let read = |source| RingError::Read { source };
        let epoch = self.found.epoch_at(at);
        let bytes = self.window.read(at, RECORD_HEADER_LEN).map_err(read)?;
        let header = RecordHeader::decode(bytes).ok().filter(|header| {
            header.position == at && header.epoch == epoch && header.extent() <= until - at
        });
        let Some(header) = header else {
            return Err(self.gone(at));
        };
        let record = self.window.read(at, header.extent()).map_err(read)?;
        if header.check(&self.key, record).is_none() {
            return Err(self.gone(at));
        }
        self.bytes.extend_from_slice(record);
        Ok(at + header.extent())
    }

    fn flush(&mut self) -> Result<(), RingError> {
        let geometry = self.chosen.control.geometry();
        let (first, rest) = geometry.parts(self.start, self.bytes.len() as u64);
        let (head, tail) = self.bytes.split_at(first.len as usize);
        for (part, bytes) in [(first, head), (rest, tail)] {
            if !bytes.is_empty() {
                let offset = self.region.ring_offset(part.offset);
                self.storage.write_at(offset, bytes).map_err(prepare)?;
            }
        }
        self.start += self.bytes.len() as u64;
        self.bytes.clear();
        Ok(())
    }

    fn gone(&self, at: u64) -> RingError {
        let starts = &self.found.starts;
        let index = starts.partition_point(|start| start.position < at);
        let sequence = starts.get(index).map_or(0, |start| start.sequence);
        let offset = self.chosen.control.geometry().offset_of(at);
        RingError::Gone {
            offset: self.region.ring_offset(offset),
            sequence: Sequence::new(sequence),
        }
    }
}
