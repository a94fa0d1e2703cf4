//! What was changed and is in no index yet: 4 KiB pages by block, and runs of zero blocks.
//!
//! Invariants: a page of a block wins over a run of zeros that covers it, for a run that comes
//! later removes the pages that it covers; what is counted is what is held.

use std::collections::{BTreeMap, HashMap};

use coldframe_units::BLOCK_BYTES;

use crate::record::PAGE_BYTES;

pub(crate) const PAGE: usize = PAGE_BYTES as usize;
pub(crate) const PAGES_PER_BLOCK: u64 = BLOCK_BYTES / PAGE_BYTES;
const ALL: u16 = u16::MAX;

/// What a block or a run costs beside its pages, about.
pub(crate) const ENTRY_BYTES: u64 = 224;

/// What the overlay says of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageState<'a> {
    Absent,
    Zero,
    Data(&'a [u8; PAGE]),
}

/// The changed pages of one block.
#[derive(Clone, Debug, Default)]
pub(crate) struct Block {
    /// A bit for each page that is zero.
    zeros: u16,
    /// A bit for each page that has bytes.
    data: u16,
    pages: [Option<Box<[u8; PAGE]>>; PAGES_PER_BLOCK as usize],
}

impl Block {
    pub fn page(&self, page: usize) -> PageState<'_> {
        match self.pages.get(page) {
            Some(Some(bytes)) => PageState::Data(bytes),
            _ if self.zeros >> page & 1 == 1 => PageState::Zero,
            _ => PageState::Absent,
        }
    }

    /// A bit for each page that it has.
    pub const fn present(&self) -> u16 {
        self.zeros | self.data
    }

    /// Whether nothing of the block comes from below.
    pub const fn is_whole(&self) -> bool {
        self.present() == ALL
    }

    /// Bytes that it holds.
    pub fn held(&self) -> u64 {
        ENTRY_BYTES + u64::from(self.data.count_ones()) * PAGE_BYTES
    }

    /// Puts the bytes of a page; returns by how much the block grew.
    fn put(&mut self, page: usize, bytes: &[u8]) -> u64 {
        self.zeros &= !(1 << page);
        let slot = &mut self.pages[page];
        if let Some(held) = slot {
            held.copy_from_slice(bytes);
            return 0;
        }
        let bytes: &[u8; PAGE] = bytes.try_into().expect("a page is 4 KiB long");
        *slot = Some(Box::new(*bytes));
        self.data |= 1 << page;
        PAGE_BYTES
    }

    /// Makes a page zero; returns by how much the block shrank.
    fn zero(&mut self, page: usize) -> u64 {
        self.zeros |= 1 << page;
        self.data &= !(1 << page);
        self.pages[page].take().map_or(0, |_| PAGE_BYTES)
    }
}

/// Changed blocks; those of one shard, or of all.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    blocks: HashMap<u64, Block>,
    held: u64,
}

impl Blocks {
    pub fn get(&self, block: u64) -> Option<&Block> {
        self.blocks.get(&block)
    }

    pub fn iter(&self) -> impl Iterator<Item = (u64, &Block)> {
        self.blocks.iter().map(|(number, block)| (*number, block))
    }

    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Bytes that are held.
    pub const fn held(&self) -> u64 {
        self.held
    }

    fn entry(&mut self, block: u64) -> &mut Block {
        let held = &mut self.held;
        self.blocks.entry(block).or_insert_with(|| {
            *held += ENTRY_BYTES;
            Block::default()
        })
    }

    /// Puts whole pages, from byte `at` of the disk on.
    pub fn put(&mut self, at: u64, data: &[u8]) {
        for (page, bytes) in (at / PAGE_BYTES..).zip(data.chunks_exact(PAGE)) {
            let grown = self
                .entry(page / PAGES_PER_BLOCK)
                .put((page % PAGES_PER_BLOCK) as usize, bytes);
            self.held += grown;
        }
    }

    /// Makes whole pages zero, from byte `at` of the disk on.
    pub fn zero(&mut self, at: u64, len: u64) {
        for page in at / PAGE_BYTES..(at + len) / PAGE_BYTES {
            let shrunk = self
                .entry(page / PAGES_PER_BLOCK)
                .zero((page % PAGES_PER_BLOCK) as usize);
            self.held -= shrunk;
        }
    }

    /// Forgets all blocks from `first` up to `end`.
    pub fn remove(&mut self, first: u64, end: u64) {
        if end - first < self.blocks.len() as u64 {
            for block in first..end {
                if let Some(gone) = self.blocks.remove(&block) {
                    self.held -= gone.held();
                }
            }
            return;
        }
        let held = &mut self.held;
        self.blocks.retain(|number, block| {
            let stays = !(first..end).contains(number);
            if !stays {
                *held -= block.held();
            }
            stays
        });
    }

    /// Puts a block that was held back where there is none, page by page.
    pub fn put_below(&mut self, number: u64, block: &Block, keep: u16) {
        for page in (0..PAGES_PER_BLOCK as usize).filter(|page| keep >> page & 1 == 1) {
            let at = (number * PAGES_PER_BLOCK + page as u64) * PAGE_BYTES;
            match block.page(page) {
                PageState::Data(bytes) => self.put(at, bytes),
                PageState::Zero => self.zero(at, PAGE_BYTES),
                PageState::Absent => {}
            }
        }
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
