//! Growing and, when asked for, cutting the disk.

use std::sync::atomic::Ordering;

use coldframe_chunkfile::IMAGE_BYTES_MAX;
use coldframe_chunks::Backend;
use coldframe_storage::Storage;
use coldframe_units::{BLOCK_BYTES, ByteLen};

use crate::BlockError;
use crate::device::Shrink;
use crate::device::inner::Inner;
use crate::device::write::Pass;
use crate::overlay::PAGE;
use crate::record::{PAGE_BYTES, Record};

impl<B: Backend, S: Storage> Inner<B, S> {
    pub fn resize(&self, asked: u64, shrink: Shrink) -> Result<(), BlockError> {
        let max = IMAGE_BYTES_MAX;
        if asked > max {
            return Err(BlockError::TooLarge { asked, max });
        }
        if asked == 0 {
            return Ok(());
        }
        self.with_room(|| {
            let _writers = self.lock_writers(0, u64::MAX / BLOCK_BYTES);
            let size = self.size();
            if asked < size && shrink == Shrink::Refuse {
                return Err(Pass::Error(BlockError::Shrink { size, asked }));
            }
            if asked > size {
                self.clear_last_page(size)?;
            }
            let mut payload = Vec::new();
            let record = Record::Resize {
                size: ByteLen::new(asked),
            };
            record.encode(&mut payload);
            self.append(&[&payload])?;
            self.log
                .sync()
                .map_err(|error| Pass::Error(crate::error::log(error)))?;
            self.apply_resize(asked);
            Ok(())
        })
    }

    /// What lies behind the end of the last page may be left from a longer disk.
    fn clear_last_page(&self, size: u64) -> Result<(), Pass> {
        let rest = size % PAGE_BYTES;
        if rest == 0 {
            return Ok(());
        }
        let page = size - rest;
        let mut bytes = [0; PAGE];
        match self.read_page(page, &mut bytes) {
            Ok(()) => self.log_pages(page, &bytes),
            Err(error) if !error.is_unreadable_below() => Err(Pass::Error(error)),
            // It is the image's. An index of this size has the page without what lies behind.
            Err(_) if self.is_cut_below(page, size) => Ok(()),
            Err(_) => Err(Pass::Full { alone: true }),
        }
    }

    /// Whether the image ends in this page, and no layer above it has the page's block.
    fn is_cut_below(&self, page: u64, size: u64) -> bool {
        let lower = self.lower();
        let frozen = lower.frozen.as_ref();
        let is_covered = frozen.is_some_and(|frozen| frozen.block(page / BLOCK_BYTES).is_some());
        !is_covered && lower.image.size().get() <= size
    }

    /// Sets the size; whole pages behind it are zero from now on. The caller holds the writers.
    pub(super) fn apply_resize(&self, size: u64) {
        let old = self.size();
        self.size.store(size, Ordering::Release);
        let (from, to) = (
            size.next_multiple_of(PAGE_BYTES),
            old.next_multiple_of(PAGE_BYTES),
        );
        if from < to {
            // Up to the end of the block: what is behind the end is nobody's.
            self.apply_zero(from, to.next_multiple_of(BLOCK_BYTES));
        }
    }
}
