//! What was changed and is in no index yet: where the log has the 4 KiB pages of blocks, and runs
//! of zero blocks.
//!
//! Invariants: a page of a block wins over a run of zeros that covers it, for a run that comes
//! later removes the pages that it covers; what is counted is what is held.

use std::collections::{BTreeMap, HashMap};

use coldframe_ring::RingPlace;
use coldframe_units::BLOCK_BYTES;
use twox_hash::XxHash3_64;

use crate::record::PAGE_BYTES;

pub(crate) const PAGE: usize = PAGE_BYTES as usize;
pub(crate) const PAGES_PER_BLOCK: u64 = BLOCK_BYTES / PAGE_BYTES;

/// What a block or a run costs, about.
pub(crate) const ENTRY_BYTES: u64 = 352;

/// A page in the log. Its hash is what reading a part of a record is checked by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Logged {
    pub place: RingPlace,
    hash: u64,
}

impl Logged {
    pub fn new(place: RingPlace, page: &[u8]) -> Self {
        let hash = XxHash3_64::oneshot(page);
        Self { place, hash }
    }

    /// Whether these are the bytes that were logged.
    pub fn is_of(&self, page: &[u8]) -> bool {
        XxHash3_64::oneshot(page) == self.hash
    }
}

/// What the overlay says of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageState {
    Absent,
    Zero,
    Logged(Logged),
}

/// The changed pages of one block.
#[derive(Clone, Debug, Default)]
pub(crate) struct Block {
    /// A bit for each page that is zero.
    zeros: u16,
    /// A bit for each page that the log has.
    logged: u16,
    /// Those of the pages that the log has count.
    pages: [Logged; PAGES_PER_BLOCK as usize],
}

impl Block {
    pub fn page(&self, page: usize) -> PageState {
        match self.pages.get(page) {
            Some(logged) if self.logged >> page & 1 == 1 => PageState::Logged(*logged),
            _ if self.zeros >> page & 1 == 1 => PageState::Zero,
            _ => PageState::Absent,
        }
    }

    /// A bit for each page that it has.
    pub const fn present(&self) -> u16 {
        self.zeros | self.logged
    }

    /// Takes over what a newer layer has of the block.
    fn cover(&mut self, newer: &Self) {
        self.zeros = self.zeros & !newer.logged | newer.zeros;
        self.logged = self.logged & !newer.zeros | newer.logged;
        for page in (0..self.pages.len()).filter(|page| newer.logged >> page & 1 == 1) {
            self.pages[page] = newer.pages[page];
        }
    }

    fn put(&mut self, page: usize, logged: Logged) {
        self.zeros &= !(1 << page);
        self.logged |= 1 << page;
        self.pages[page] = logged;
    }

    fn zero(&mut self, page: usize) {
        self.zeros |= 1 << page;
        self.logged &= !(1 << page);
    }
}

/// Changed blocks; those of one shard, or of all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Blocks(HashMap<u64, Block>);

impl Blocks {
    pub fn get(&self, block: u64) -> Option<&Block> {
        self.0.get(&block)
    }

    pub fn iter(&self) -> impl Iterator<Item = (u64, &Block)> {
        self.0.iter().map(|(number, block)| (*number, block))
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Bytes that are held, about.
    pub fn held(&self) -> u64 {
        self.0.len() as u64 * ENTRY_BYTES
    }

    /// Puts whole pages, from byte `at` of the disk on, which the log has at `place`.
    pub fn put(&mut self, at: u64, place: RingPlace, data: &[u8]) {
        for (index, bytes) in (0..).zip(data.chunks_exact(PAGE)) {
            let page = at / PAGE_BYTES + index;
            let logged = Logged::new(place.plus(index * PAGE_BYTES), bytes);
            let block = self.0.entry(page / PAGES_PER_BLOCK).or_default();
            block.put((page % PAGES_PER_BLOCK) as usize, logged);
        }
    }

    /// Makes whole pages zero, from byte `at` of the disk on.
    pub fn zero(&mut self, at: u64, len: u64) {
        for page in at / PAGE_BYTES..(at + len) / PAGE_BYTES {
            let block = self.0.entry(page / PAGES_PER_BLOCK).or_default();
            block.zero((page % PAGES_PER_BLOCK) as usize);
        }
    }

    /// Takes over what a newer layer has.
    pub fn cover(&mut self, newer: Self) {
        for (number, block) in newer.0 {
            self.0.entry(number).or_default().cover(&block);
        }
    }

    /// Forgets all blocks from `first` up to `end`.
    pub fn remove(&mut self, first: u64, end: u64) {
        if end - first < self.0.len() as u64 {
            for block in first..end {
                self.0.remove(&block);
            }
            return;
        }
        self.0.retain(|number, _| !(first..end).contains(number));
    }
}

/// Runs of blocks, apart from each other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Runs(BTreeMap<u64, u64>);

impl Runs {
    /// Adds the blocks from `first` up to `end`.
    pub fn insert(&mut self, first: u64, end: u64) {
        if first >= end {
            return;
        }
        let (mut from, mut to) = (first, end);
        // Those that touch the new one become part of it.
        let touching: Vec<u64> = self
            .0
            .range(..=end)
            .rev()
            .take_while(|(_, run_end)| **run_end >= first)
            .map(|(start, _)| *start)
            .collect();
        for start in touching {
            if let Some(run_end) = self.0.remove(&start) {
                from = from.min(start);
                to = to.max(run_end);
            }
        }
        self.0.insert(from, to);
    }

    /// The end of the run that holds the block.
    pub fn end_of(&self, block: u64) -> Option<u64> {
        let (_, end) = self.0.range(..=block).next_back()?;
        (block < *end).then_some(*end)
    }

    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0.iter().map(|(start, end)| (*start, *end))
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Bytes that it holds, about.
    pub fn held(&self) -> u64 {
        self.0.len() as u64 * ENTRY_BYTES
    }
}
