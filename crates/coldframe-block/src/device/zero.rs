//! Writing zeros and discarding: whole pages take no space, runs of blocks cost as much as one.

use coldframe_chunks::Backend;
use coldframe_storage::Storage;
use coldframe_units::BLOCK_BYTES;

use crate::BlockError;
use crate::device::inner::Inner;
use crate::device::write::Pass;
use crate::image::check_range;
use crate::record::{PAGE_BYTES, Record};

const ZEROS: [u8; PAGE_BYTES as usize] = [0; PAGE_BYTES as usize];

impl<B: Backend, S: Storage> Inner<B, S> {
    pub fn write_zeroes(&self, offset: u64, len: u64) -> Result<(), BlockError> {
        loop {
            let size = self.size();
            check_range(offset, len, size)?;
            let end = offset + len;
            let first = offset.next_multiple_of(PAGE_BYTES).min(end);
            // The page in which the disk ends is whole, as far as there is any of it.
            let is_end = end == size;
            let last = if is_end {
                end
            } else {
                end / PAGE_BYTES * PAGE_BYTES
            };
            self.write_at(offset, &ZEROS[..(first - offset) as usize])?;
            if last <= first {
                return self.write_at(first, &ZEROS[..(end - first) as usize]);
            }
            self.write_at(last, &ZEROS[..(end - last) as usize])?;
            if self.zero_pages(first, last)? {
                return Ok(());
            }
        }
    }

    /// Makes the whole pages of a range zero. The others stay: to make a part of one zero it would
    /// have to be read, and nobody is promised zeros here.
    pub fn discard(&self, offset: u64, len: u64) -> Result<(), BlockError> {
        loop {
            let size = self.size();
            check_range(offset, len, size)?;
            let first = offset.next_multiple_of(PAGE_BYTES);
            // The page in which the disk ends is whole, as far as there is any of it.
            let last = match offset + len {
                end if end == size => end,
                end => end / PAGE_BYTES * PAGE_BYTES,
            };
            if last <= first || self.zero_pages(first, last)? {
                return Ok(());
            }
        }
    }

    /// `end` is that of a page, or of the disk; false if it is neither any more.
    fn zero_pages(&self, at: u64, end: u64) -> Result<bool, BlockError> {
        self.with_room(|| {
            let _writers = self.lock_writers(at / BLOCK_BYTES, end.div_ceil(BLOCK_BYTES));
            check_range(at, end - at, self.size()).map_err(Pass::Error)?;
            if !end.is_multiple_of(PAGE_BYTES) && end != self.size() {
                return Ok(false);
            }
            if self.is_zero(at, end) {
                return Ok(true);
            }
            self.log_zeros(at, end.next_multiple_of(PAGE_BYTES))?;
            Ok(true)
        })
    }

    /// Appends that whole pages are zero, and makes them so. The caller holds the writers.
    pub(super) fn log_zeros(&self, at: u64, end: u64) -> Result<(), Pass> {
        let mut payload = Vec::new();
        let len = end - at;
        Record::Zero { at, len }.encode(&mut payload);
        self.append(&[&payload])?;
        self.apply_zero(at, end);
        Ok(())
    }

    /// Whether all of the range is known to be zero; what cannot be looked up is not.
    fn is_zero(&self, at: u64, end: u64) -> bool {
        let mut all = true;
        let seen = self.extents(at, end - at, &mut |_, is_zero| {
            all &= is_zero;
            all
        });
        seen.is_ok() && all
    }

    /// Makes whole pages zero in the active layer. The caller holds the writers.
    pub(super) fn apply_zero(&self, at: u64, end: u64) {
        let (first, last) = (at.div_ceil(BLOCK_BYTES), end / BLOCK_BYTES);
        if first >= last {
            let seam = (first * BLOCK_BYTES).clamp(at, end);
            self.zero_in_block(at, seam);
            self.zero_in_block(seam, end);
            return;
        }
        self.zero_in_block(at, first * BLOCK_BYTES);
        self.zero_in_block(last * BLOCK_BYTES, end);
        {
            // The run first: a page of these blocks is either as it was, or zero.
            let mut zeros = self.zeros_mut();
            let before = zeros.held();
            zeros.insert(first, last);
            let grown = zeros.held().wrapping_sub(before);
            self.active_held
                .fetch_add(grown, std::sync::atomic::Ordering::Relaxed);
        }
        for shard in 0..self.shards.len() as u64 {
            let per_shard = crate::record::WRITE_BYTES_MAX / BLOCK_BYTES;
            self.change(shard * per_shard, |blocks| blocks.remove(first, last));
        }
    }

    fn zero_in_block(&self, at: u64, end: u64) {
        if at < end {
            self.change(at / BLOCK_BYTES, |blocks| blocks.zero(at, end - at));
        }
    }
}
