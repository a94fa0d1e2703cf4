//! How ranges are stored; no chunk is read for it.

use std::sync::Arc;

use coldframe_chunks::Backend;
use coldframe_storage::Storage;
use coldframe_units::BLOCK_BYTES;

use crate::BlockError;
use crate::device::inner::Inner;
use crate::device::lower::Lower;
use crate::image::check_range;
use crate::overlay::{Block, PAGES_PER_BLOCK, PageState};
use crate::record::PAGE_BYTES;

/// What is known of the pages of a block.
#[derive(Clone, Copy)]
struct Known {
    /// Pages of which something is known, and of these the zero ones.
    known: u16,
    zero: u16,
}

impl Known {
    const ALL: u16 = u16::MAX;

    fn take(&mut self, entry: &Block) {
        for page in 0..PAGES_PER_BLOCK as usize {
            let bit = 1 << page;
            let state = entry.page(page);
            if self.known & bit == 0 && state != PageState::Absent {
                self.known |= bit;
                self.zero |= if state == PageState::Zero { bit } else { 0 };
            }
        }
    }

    fn rest_is_zero(&mut self) {
        self.zero |= !self.known;
        self.known = Self::ALL;
    }
}

impl<B: Backend, S: Storage> Inner<B, S> {
    pub fn extents(
        &self,
        offset: u64,
        len: u64,
        each: &mut dyn FnMut(u64, bool) -> bool,
    ) -> Result<(), BlockError> {
        check_range(offset, len, self.size())?;
        let end = offset + len;
        // The run that was looked up last: its end, and whether it is zero. It is of one image: a
        // fold may bring another one meanwhile.
        let mut run = (0, false);
        let mut run_of = Arc::clone(&self.lower().image);
        let mut told = (0, false);
        let mut at = offset;
        while at < end {
            let block = at / BLOCK_BYTES;
            let block_end = ((block + 1) * BLOCK_BYTES).min(end);
            let (mut known, lower) = self.known(block);
            if known.known != Known::ALL && known_below(&lower, block, &mut known) {
                if block >= run.0 || !Arc::ptr_eq(&run_of, &lower.image) {
                    let blocks = end.div_ceil(BLOCK_BYTES) - block;
                    // What cannot be looked up is data: reading it is what fails.
                    let (is_zero, count) = lower.image.run_at(block, blocks)?;
                    run = (block + count, is_zero);
                    run_of = Arc::clone(&lower.image);
                }
                if run.1 {
                    known.rest_is_zero();
                }
            }
            while at < block_end {
                let page = at / PAGE_BYTES;
                let to = ((page + 1) * PAGE_BYTES).min(block_end);
                let is_zero = known.zero >> (page % PAGES_PER_BLOCK) & 1 == 1;
                if told.1 != is_zero && told.0 > 0 {
                    if !each(told.0, told.1) {
                        return Ok(());
                    }
                    told.0 = 0;
                }
                told = (told.0 + to - at, is_zero);
                at = to;
            }
        }
        if told.0 > 0 {
            each(told.0, told.1);
        }
        Ok(())
    }

    /// What the active layer knows, and what is below it.
    fn known(&self, block: u64) -> (Known, Arc<Lower<B>>) {
        let mut known = Known { known: 0, zero: 0 };
        let pages = self.shard(block).pages();
        if let Some(entry) = pages.get(block) {
            known.take(entry);
        }
        if self.zeros().end_of(block).is_some() {
            known.rest_is_zero();
        }
        (known, self.lower())
    }
}

/// Adds what the frozen layer knows; whether something is left for the image.
fn known_below<B: Backend>(lower: &Lower<B>, block: u64, known: &mut Known) -> bool {
    if let Some(frozen) = &lower.frozen {
        if let Some(entry) = frozen.block(block) {
            known.take(entry);
        }
        if frozen.zeros.end_of(block).is_some() {
            known.rest_is_zero();
        }
    }
    known.known != Known::ALL
}
