//! What is fetched in the background: what was asked for ahead of need, then all the rest; never
//! more bytes at once than allowed.

use std::collections::VecDeque;
use std::ops::Range;

use super::{Class, Depth};
use crate::geometry::BlockIndex;

#[derive(Debug)]
pub(crate) struct Background {
    bytes_max: u64,
    under_way: u64,
    prefetch: VecDeque<(Range<u64>, Depth)>,
    /// Blocks that filling up has not come to.
    fill: Range<u64>,
    is_fill_started: bool,
    fill_bytes: u64,
}

impl Background {
    pub(crate) const fn new(bytes_max: u64) -> Self {
        Self {
            bytes_max,
            under_way: 0,
            prefetch: VecDeque::new(),
            fill: 0..0,
            is_fill_started: false,
            fill_bytes: 0,
        }
    }

    pub(crate) const fn limit(&mut self, bytes_max: u64) {
        self.bytes_max = bytes_max;
    }

    pub(crate) fn prefetch(&mut self, blocks: Range<u64>, depth: Depth) {
        if !blocks.is_empty() {
            self.prefetch.push_back((blocks, depth));
        }
    }

    pub(crate) fn stop_prefetch(&mut self) {
        self.prefetch.clear();
    }

    pub(crate) fn allow_fill(&mut self, blocks: u64, bytes: u64) {
        if !self.is_fill_started {
            self.is_fill_started = true;
            self.fill = 0..blocks;
        }
        self.fill_bytes = self.fill_bytes.saturating_add(bytes);
    }

    /// The next block, if `block_bytes` more may be under way.
    pub(crate) fn peek(&self, block_bytes: u64) -> Option<(BlockIndex, Class, Depth)> {
        if self.under_way.saturating_add(block_bytes) > self.bytes_max {
            return None;
        }
        if let Some((blocks, depth)) = self.prefetch.front() {
            return Some((BlockIndex::new(blocks.start), Class::Prefetch, *depth));
        }
        let may_fill = !self.fill.is_empty() && self.fill_bytes >= block_bytes;
        may_fill.then(|| {
            (
                BlockIndex::new(self.fill.start),
                Class::Fill,
                Depth::Install,
            )
        })
    }

    /// Goes past the block that was peeked at. It counts against what is allowed only if it is
    /// acquired.
    pub(crate) fn pop(&mut self, block_bytes: u64) {
        debug_assert!(self.peek(block_bytes).is_some(), "there is one to go past");
        match self.prefetch.front_mut() {
            Some((blocks, _)) => {
                blocks.start += 1;
                if blocks.is_empty() {
                    self.prefetch.pop_front();
                }
            }
            None => self.fill.start += 1,
        }
    }

    pub(crate) const fn acquire(&mut self, block_bytes: u64, class: Class) {
        self.under_way += block_bytes;
        // A grant without a limit is never used up.
        if matches!(class, Class::Fill) && self.fill_bytes != u64::MAX {
            self.fill_bytes -= block_bytes;
        }
    }

    pub(crate) const fn release(&mut self, block_bytes: u64) {
        self.under_way -= block_bytes;
    }

    pub(crate) const fn under_way(&self) -> u64 {
        self.under_way
    }
}
