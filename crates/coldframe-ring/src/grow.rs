//! Making a log larger, in place.
//!
//! Records keep their logical positions; only what maps them to offsets changes, with one control
//! block. Until that block is on the disk nothing of the old ring is touched: what lies before
//! the seam is copied behind the old end first.

use std::time::Duration;

use coldframe_storage::{Storage, StorageError};
use coldframe_units::ByteLen;
use coldframe_walframe::ring::{Control, RING_START};

use crate::create::zero_fill;
use crate::open::mark_end;
use crate::{Region, RingError, RingWal, control};

/// Bytes that are copied at a time.
const COPY_BYTES: u64 = 64 * 1024;

impl<S: Storage> RingWal<S> {
    /// Makes the region `size` bytes long. The bytes of the storage behind the old region must
    /// be free for it; the storage itself grows if it must. A crash leaves the old log or the new
    /// one, with all records.
    ///
    /// Spec: RING-50
    ///
    /// # Errors
    /// [`RingError::GrowTooLittle`], [`RingError::RegionShape`], [`RingError::Prepare`] (a write
    /// failed; the log is as before, and goes on), [`RingError::Failed`].
    pub fn grow(&mut self, size: ByteLen) -> Result<(), RingError> {
        self.sync()?;
        let region = Region::new(self.region.offset(), size)?;
        let old = *self.control();
        let (tail, live) = {
            let state = self.state();
            (state.tail.position, state.used())
        };
        let (first, seam) = old.geometry().parts(tail, live);
        let min = old.ring_len + seam.len.max(1) + RING_START;
        if region.size().get() < min {
            return Err(RingError::GrowTooLittle {
                asked: size,
                min: ByteLen::new(min.next_multiple_of(16)),
            });
        }
        let mut next = old;
        next.advance()?;
        next.ring_len = region.ring_len();
        next.base = tail - first.offset;
        next.synced_sequence = next.synced_sequence.max(self.state().durable);
        prepare(&self.storage, region, &old, seam.len)
            .map_err(|source| RingError::Prepare { source })?;
        let batch = self.state().take_batch();
        // Where the head is now, old bytes may lie; they were in use until the block was durable.
        let published = self
            .storage
            .sync_data()
            .and_then(|()| control::publish(&self.storage, region, &next))
            .and_then(|()| mark_end(&self.storage, region, &next, tail + live));
        self.finish(batch, Some(Duration::ZERO), published)?;
        self.state().ring_len = next.ring_len;
        *self.control() = next;
        self.geometry = next.geometry();
        self.region = region;
        Ok(())
    }
}

/// Fills the new space, and puts what is before the seam behind the old end; not durable yet.
fn prepare<S: Storage>(
    storage: &S,
    region: Region,
    old: &Control,
    seam: u64,
) -> Result<(), StorageError> {
    let from = RING_START + old.ring_len;
    zero_fill(storage, region, from, region.size().get())?;
    let mut buf = vec![0; COPY_BYTES as usize];
    let mut done = 0;
    while done < seam {
        let piece = &mut buf[..(seam - done).min(COPY_BYTES) as usize];
        storage.read_at(region.ring_offset(done), piece)?;
        storage.write_at(region.ring_offset(old.ring_len + done), piece)?;
        done += piece.len() as u64;
    }
    Ok(())
}
