//! Reading.

use std::sync::Arc;

use bytes::Bytes;
use coldframe_chunks::Backend;
use coldframe_storage::Storage;

use crate::BlockError;
use crate::device::inner::Inner;
use crate::device::lower::{Lower, content};
use crate::device::pages::{copy_pages, fill_pages, pages_of, parts};
use crate::image::{by_block, check_range, copy_padded, ranges_by_block};
use crate::record::PAGE_BYTES;

impl<B: Backend, S: Storage> Inner<B, S> {
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), BlockError> {
        let len = buf.len() as u64;
        check_range(offset, len, self.size())?;
        self.ahead
            .note(offset, len, || Arc::clone(&self.lower().image));
        for (block, from, part) in by_block(offset, buf) {
            self.read_block(block, from, part)?;
        }
        Ok(())
    }

    /// The bytes from `offset` on, in pieces: those of a block that nothing covers are the chunk's
    /// own.
    pub fn read_shared(&self, offset: u64, len: u64) -> Result<Vec<Bytes>, BlockError> {
        check_range(offset, len, self.size())?;
        self.ahead
            .note(offset, len, || Arc::clone(&self.lower().image));
        ranges_by_block(offset, len)
            .map(|(block, from, len)| self.share_block(block, from, len))
            .collect()
    }

    fn share_block(&self, block: u64, from: usize, len: usize) -> Result<Bytes, BlockError> {
        if let Some(lower) = self.lower_of_uncovered(block)
            // One that cannot be read may still be known in part: that is looked at below.
            && let Ok(Some(bytes)) = lower.chunk(block)
            && bytes.len() >= from + len
        {
            return Ok(bytes.slice(from..from + len));
        }
        let mut copy = vec![0; len];
        self.read_block(block, from, &mut copy)?;
        Ok(copy.into())
    }

    /// Lets the store have a block in its memory that the active layer has nothing of.
    pub(super) fn fetch(&self, block: u64) {
        if let Some(lower) = self.lower_of_uncovered(block)
            && let Err(error) = lower.chunk(block)
        {
            tracing::debug!(block, %error, "block not fetched");
        }
    }

    /// Brings a range into the store's memory: chunks that nothing covers many at a time, and what
    /// else there is by reading it.
    pub fn fetch_range(&self, offset: u64, len: u64) -> Result<(), BlockError> {
        check_range(offset, len, self.size())?;
        let mut image = None;
        let mut ids = Vec::new();
        for (block, ..) in ranges_by_block(offset, len) {
            if let Some(lower) = self.lower_of_uncovered(block)
                && let Ok(Some(id)) = lower.chunk_id(block)
            {
                ids.push(id);
                image = Some(lower);
            }
        }
        if let Some(lower) = image {
            // What fails is read again below, which says what it is.
            drop(lower.image.chunks(&ids));
        }
        let mut page = [0; PAGE_BYTES as usize];
        for (block, from, len) in ranges_by_block(offset, len) {
            // A page of a chunk is enough: all of it is read for that.
            let part = len.min(page.len());
            self.read_block(block, from, &mut page[..part])?;
        }
        Ok(())
    }

    /// What is below a block, if the active layer has nothing of it.
    fn lower_of_uncovered(&self, block: u64) -> Option<Arc<Lower<B>>> {
        let pages = self.shard(block).pages();
        let is_covered = pages.get(block).is_some() || self.zeros().end_of(block).is_some();
        (!is_covered).then(|| self.lower())
    }

    /// Fills `buf` from `from` of a block on, wherever the disk ends.
    pub(super) fn read_block(
        &self,
        block: u64,
        from: usize,
        buf: &mut [u8],
    ) -> Result<(), BlockError> {
        if buf.is_empty() {
            return Ok(());
        }
        loop {
            match self.try_read_block(block, from, buf) {
                // A fold has brought the frozen layer into the store and given its records up.
                Err(error) if error.is_passed() => {}
                done => return done,
            }
        }
    }

    fn try_read_block(&self, block: u64, from: usize, buf: &mut [u8]) -> Result<(), BlockError> {
        let mut missing = pages_of(from, buf.len());
        let lower = {
            // What is below is looked up under the lock: no layer freezes in between.
            let pages = self.shard(block).pages();
            if let Some(entry) = pages.get(block) {
                missing = copy_pages(&self.log, entry, from, buf, missing)?;
            }
            if missing != 0 && self.zeros().end_of(block).is_some() {
                fill_pages(from, buf, missing);
                missing = 0;
            }
            if missing == 0 {
                return Ok(());
            }
            self.lower()
        };
        self.read_below(&lower, block, from, buf, missing)?;
        if self.ingested.held() >= self.ingest_max() {
            self.want_fold();
        }
        Ok(())
    }

    /// Fills the wanted pages of `buf`, which begins at `from` of the block, from below the active
    /// layer.
    fn read_below(
        &self,
        lower: &Lower<B>,
        block: u64,
        from: usize,
        buf: &mut [u8],
        wanted: u16,
    ) -> Result<(), BlockError> {
        let mut missing = wanted;
        if let Some(frozen) = &lower.frozen {
            if let Some(entry) = frozen.block(block) {
                missing = copy_pages(&self.log, entry, from, buf, missing)?;
            }
            if missing != 0 && frozen.zeros.end_of(block).is_some() {
                fill_pages(from, buf, missing);
                missing = 0;
            }
        }
        // Of a disk that has grown: nothing has to be read to know it.
        let behind = missing & !lower.image.pages_on_disk(block);
        fill_pages(from, buf, behind);
        missing &= !behind;
        if missing == 0 {
            return Ok(());
        }
        match content(
            &lower.image,
            &self.ingested,
            self.ingest_max(),
            block,
            missing,
        )? {
            None => fill_pages(from, buf, missing),
            Some(bytes) => {
                for (start, part) in parts(from, buf, missing) {
                    copy_padded(&bytes, start, part);
                }
            }
        }
        Ok(())
    }
}
