//! Writing: whole pages go into the log, and where they are into memory; the rest of a page that
//! is written in part is read first.

use std::cell::RefCell;

use coldframe_chunks::Backend;
use coldframe_storage::Storage;
use coldframe_units::BLOCK_BYTES;

use crate::BlockError;
use crate::device::inner::{Inner, Refused};
use crate::error::log;
use crate::image::check_range;
use crate::overlay::PAGE;
use crate::record::{OVERHEAD, PAGE_BYTES, WRITE_BYTES_MAX, write_head};

/// How often the log is relieved for one record: others may fill it again each time.
const TRIES: u32 = 64;

thread_local! {
    /// Pages that are written in part; kept, so that a write allocates nothing for them.
    static PAGES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl<B: Backend, S: Storage> Inner<B, S> {
    pub fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), BlockError> {
        check_range(offset, data.len() as u64, self.size())?;
        let mut at = offset;
        let mut rest = data;
        while !rest.is_empty() {
            // A piece lies in one shard, and with its pages in one record.
            let page = at / PAGE_BYTES * PAGE_BYTES;
            let shard_end = (at / WRITE_BYTES_MAX + 1) * WRITE_BYTES_MAX;
            let end = shard_end.min(page + self.piece_bytes);
            let len = rest.len().min((end - at) as usize);
            let (piece, behind) = rest.split_at(len);
            self.write_piece(at, piece)?;
            at += len as u64;
            rest = behind;
        }
        Ok(())
    }

    fn write_piece(&self, at: u64, data: &[u8]) -> Result<(), BlockError> {
        let len = data.len() as u64;
        let is_whole = at.is_multiple_of(PAGE_BYTES) && len.is_multiple_of(PAGE_BYTES);
        if !is_whole {
            // From the store it comes without a lock, which all that freezes the layer waits for.
            self.fetch(at / BLOCK_BYTES);
            self.fetch((at + len - 1) / BLOCK_BYTES);
        }
        PAGES.with_borrow_mut(|pages| {
            self.with_room(|| {
                let _writer = self.shard(at / BLOCK_BYTES).writer();
                // The disk may have been cut since.
                check_range(at, len, self.size()).map_err(Pass::Error)?;
                if is_whole {
                    return self.log_pages(at, data);
                }
                let page = at / PAGE_BYTES * PAGE_BYTES;
                self.assemble(pages, page, at, data).map_err(Pass::Error)?;
                self.log_pages(page, pages)
            })
        })
    }

    /// Appends a write to whole pages of one shard, and takes down where it is. The caller holds
    /// the writer.
    pub(super) fn log_pages(&self, at: u64, pages: &[u8]) -> Result<(), Pass> {
        let head = write_head(at, pages.len() as u64);
        let place = self.append(&[&head, pages])?.plus(OVERHEAD);
        self.change(at / BLOCK_BYTES, |blocks| blocks.put(at, place, pages));
        Ok(())
    }

    /// Whole pages from `page` on, with `data` at `at`.
    fn assemble(
        &self,
        pages: &mut Vec<u8>,
        page: u64,
        at: u64,
        data: &[u8],
    ) -> Result<(), BlockError> {
        let end = at + data.len() as u64;
        let pages_end = end.next_multiple_of(PAGE_BYTES);
        pages.clear();
        pages.resize((pages_end - page) as usize, 0);
        if at > page {
            self.read_page(page, pages)?;
        }
        let last = pages.len() - PAGE;
        // The first page is read once, if it is the last too.
        if end < pages_end && (last > 0 || at == page) {
            self.read_page(pages_end - PAGE_BYTES, &mut pages[last..])?;
        }
        pages[(at - page) as usize..][..data.len()].copy_from_slice(data);
        Ok(())
    }

    /// A page as it is now; zeros behind the end of the disk.
    pub(super) fn read_page(&self, at: u64, out: &mut [u8]) -> Result<(), BlockError> {
        let from = (at % BLOCK_BYTES) as usize;
        self.read_block(at / BLOCK_BYTES, from, &mut out[..PAGE])?;
        let have = self.size().saturating_sub(at).min(PAGE_BYTES);
        out[have as usize..PAGE].fill(0);
        Ok(())
    }

    /// Tries something that appends to the log; relieves memory and log in between.
    pub(super) fn with_room<T>(
        &self,
        mut attempt: impl FnMut() -> Result<T, Pass>,
    ) -> Result<T, BlockError> {
        let mut tries = 0;
        loop {
            let folds = self.fold_count();
            if self.dirty_bytes() >= self.options.dirty_bytes_max {
                self.fold_since(folds)?;
            }
            match attempt() {
                Ok(done) => {
                    if self.is_pressed() {
                        self.want_fold();
                    }
                    return Ok(done);
                }
                Err(Pass::Error(error)) => return Err(error),
                Err(Pass::Full { alone: false }) => std::thread::yield_now(),
                Err(Pass::Full { alone: true }) => {
                    if tries == TRIES {
                        return Err(BlockError::LogFull);
                    }
                    tries += 1;
                    self.fold_since(folds)?;
                }
            }
        }
    }
}

/// Why an attempt to write came to nothing.
pub(super) enum Pass {
    Full { alone: bool },
    Error(BlockError),
}

impl From<Refused> for Pass {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Full { alone } => Self::Full { alone },
            Refused::Failed(error) => Self::Error(log(error)),
        }
    }
}
