//! Write faults by block, and by page where a block is hot.
//!
//! Invariants: every page that a fault handler was told it may open for writing is marked, in the
//! bitmap or in a token, before it is told; a block's mode decides how much is marked, never
//! whether; one atomic word for each block holds mode and count.
//!
//! # Memory ordering
//! A fault reads the mode of its block **once**, in the `fetch_add` that counts it, and that one
//! value decides both what is marked and what the handler may open. So a switch in the same
//! instant cannot come between the two: with the old value a whole block is marked and opened, with
//! the new one a page. At worst a block is marked whole that needed it no more. The marks are those
//! of the bitmap (`Release`); modes and counts guard no other memory and are relaxed.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use coldframe_units::{PageIndex, PageRun, PageSize};

use crate::sync::{Arc, AtomicU64, Ordering, zeroed};
use crate::{DirtyBitmap, DirtyError};

/// The size of a block, 2 MiB.
pub const BLOCK_SIZE: PageSize = PageSize::SIZE_2M;

/// The block is protected, opened and marked page by page.
const FINE: u64 = 1;
/// A window since the last checkpoint had more faults than the limit.
const HOT: u64 = 2;
/// One fault in this window. The count has the upper bits: it cannot run into the flags.
const ONE_FAULT: u64 = 4;

/// Dirty tracking by write faults, for a hypervisor without a dirty log.
///
/// Memory is write-protected in granules: blocks of 2 MiB at first. A write faults, the handler
/// calls [`AdaptiveBitmap::mark_fault`] and opens the granule that it returns. A block with many
/// faults steps down to pages at the next [`AdaptiveBitmap::tick`]; one that has cooled steps back
/// at a [`AdaptiveBitmap::checkpoint`]. Writes of the VMM itself do not fault: they are marked in
/// [`AdaptiveBitmap::bitmap`] page by page. A capture takes from there, too.
///
/// A fault must be handled to its end (marked and opened) before a capture takes and protects
/// again: pause the vCPUs first. A clone is another handle to the same blocks.
#[derive(Clone)]
pub struct AdaptiveBitmap {
    bitmap: DirtyBitmap,
    faults_per_window: u64,
    blocks: Arc<Box<[AtomicU64]>>,
}

impl AdaptiveBitmap {
    /// All blocks coarse, over the pages of `bitmap`.
    ///
    /// A block is hot when it has more than `faults_per_window` faults from one tick to the next.
    ///
    /// # Errors
    /// [`DirtyError::PageNotBelowBlock`], [`DirtyError::Allocate`].
    pub fn new(bitmap: DirtyBitmap, faults_per_window: u32) -> Result<Self, DirtyError> {
        if bitmap.page_size() >= BLOCK_SIZE {
            return Err(DirtyError::PageNotBelowBlock {
                page_size: bitmap.page_size(),
                block_size: BLOCK_SIZE,
            });
        }
        // Fewer than PAGES_MAX, and targets are 64-bit.
        let blocks = zeroed(BLOCK_SIZE.pages_for(bitmap.capacity()) as usize)?;
        Ok(Self {
            bitmap,
            faults_per_window: u64::from(faults_per_window),
            blocks: Arc::new(blocks),
        })
    }

    /// The pages: here a capture takes, and here writes that do not fault are marked.
    #[must_use]
    pub const fn bitmap(&self) -> &DirtyBitmap {
        &self.bitmap
    }

    /// Marks the granule of a write fault and returns it: these pages, and no others, may be
    /// opened for writing now.
    ///
    /// # Errors
    /// [`DirtyError::PageOutsideRam`].
    pub fn mark_fault(&self, page: PageIndex) -> Result<PageRun, DirtyError> {
        self.bitmap.geometry().check_page(page)?;
        let block = self.block_of(page);
        let before = self.blocks[block].fetch_add(ONE_FAULT, Ordering::Relaxed);
        let granule = self.granule(page, before);
        self.bitmap.mark_checked(granule);
        Ok(granule)
    }

    /// The granule that the page is to be protected in now: its block, or itself.
    ///
    /// # Errors
    /// [`DirtyError::PageOutsideRam`].
    pub fn granule_of(&self, page: PageIndex) -> Result<PageRun, DirtyError> {
        self.bitmap.geometry().check_page(page)?;
        let state = self.blocks[self.block_of(page)].load(Ordering::Relaxed);
        Ok(self.granule(page, state))
    }

    /// Ends a window; returns the blocks that have stepped down, ascending, each told once.
    ///
    /// Such a block may be protected again at once, or with all others at the next capture: what
    /// was marked of it stays marked.
    #[must_use = "blocks that stepped down are protected page by page from now on"]
    pub fn tick(&self) -> Vec<PageRun> {
        let mut stepped_down = Vec::new();
        for (block, state) in self.blocks_now() {
            if state.load(Ordering::Relaxed) < ONE_FAULT {
                continue;
            }
            let ended = state.fetch_and(FINE | HOT, Ordering::Relaxed);
            if !self.has_hot_window(ended) {
                continue;
            }
            if state.fetch_or(FINE | HOT, Ordering::Relaxed) & FINE == 0 {
                stepped_down.push(self.block_run(block));
            }
        }
        stepped_down
    }

    /// Steps fine blocks back up that had no hot window since the last checkpoint; returns them,
    /// ascending.
    ///
    /// For the pause of a capture, beside the take: all that was taken is protected again then, in
    /// the new granules.
    #[must_use = "blocks that stepped up are protected as a whole from now on"]
    pub fn checkpoint(&self) -> Vec<PageRun> {
        let mut stepped_up = Vec::new();
        for (block, state) in self.blocks_now() {
            if state.load(Ordering::Relaxed) & (FINE | HOT) == 0 {
                continue;
            }
            let stays = |now: u64| now & HOT != 0 || self.has_hot_window(now);
            let next = |now: u64| now & !HOT & !(if stays(now) { 0 } else { FINE });
            let before = state
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| Some(next(now)))
                .unwrap_or_else(|now| now);
            if before & FINE != 0 && next(before) & FINE == 0 {
                stepped_up.push(self.block_run(block));
            }
        }
        stepped_up
    }

    /// The blocks that the RAM has now; more were reserved if it may grow.
    fn blocks_now(&self) -> impl Iterator<Item = (usize, &AtomicU64)> {
        let count = BLOCK_SIZE.pages_for(self.bitmap.ram()) as usize;
        self.blocks.iter().enumerate().take(count)
    }

    fn has_hot_window(&self, state: u64) -> bool {
        state / ONE_FAULT > self.faults_per_window
    }

    fn granule(&self, page: PageIndex, state: u64) -> PageRun {
        if state & FINE == 0 {
            return self.block_run(self.block_of(page));
        }
        PageRun::new(page, 1).expect("a page of the RAM has a page after it below 2^64")
    }

    fn pages_per_block_log2(&self) -> u8 {
        BLOCK_SIZE.log2() - self.bitmap.page_size().log2()
    }

    fn block_of(&self, page: PageIndex) -> usize {
        // Fewer than PAGES_MAX, and targets are 64-bit.
        (page.get() >> self.pages_per_block_log2()) as usize
    }

    /// The pages of a block; fewer than usual in a last one that is partial.
    fn block_run(&self, block: usize) -> PageRun {
        let start = (block as u64) << self.pages_per_block_log2();
        let end = (start + (1 << self.pages_per_block_log2())).min(self.bitmap.pages());
        // A RAM that shrinks in this instant may end before the block.
        let end = end.max(start + 1);
        PageRun::new(PageIndex::new(start), end - start).expect("a block of the RAM has a page")
    }
}

impl fmt::Debug for AdaptiveBitmap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdaptiveBitmap")
            .field("bitmap", &self.bitmap)
            .field("faults_per_window", &self.faults_per_window)
            .finish_non_exhaustive()
    }
}
