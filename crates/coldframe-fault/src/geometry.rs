//! Blocks and pages of guest memory, and where its regions are in the host's address space.
//!
//! Invariant: regions are whole pages, in rising RAM offset without a gap, and their host ranges do
//! not overlap. A block has at most 16 pages.

use std::fmt;

use coldframe_units::{BLOCK_BYTES, ByteLen, PageIndex, PageRun, PageSize, RamOffset};

use crate::FaultError;

/// The number of a block of guest memory, counted from 0 in RAM offset space.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BlockIndex(u64);

impl BlockIndex {
    /// From a plain number.
    #[must_use]
    pub const fn new(index: u64) -> Self {
        Self(index)
    }

    /// The plain number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for BlockIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Some pages of one block: a bit for each, the lowest for the first.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct PageMask(u16);

impl PageMask {
    pub(crate) const NONE: Self = Self(0);

    /// The first `count` pages, at most 16.
    pub(crate) const fn first(count: u32) -> Self {
        match u16::MAX.checked_shr(16_u32.saturating_sub(count)) {
            Some(pages) => Self(pages),
            None => Self(0),
        }
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(crate) const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(crate) const fn count(self) -> u32 {
        self.0.count_ones()
    }

    /// The lowest run of pages in it: its first page and its length.
    const fn lowest_run(self) -> Option<(u32, u32)> {
        if self.0 == 0 {
            return None;
        }
        let start = self.0.trailing_zeros();
        Some((start, (self.0 >> start).trailing_ones()))
    }

    /// The least run that has all of them.
    const fn span(self) -> Option<(u32, u32)> {
        if self.0 == 0 {
            return None;
        }
        let start = self.0.trailing_zeros();
        Some((start, u16::BITS - self.0.leading_zeros() - start))
    }
}

/// A part of guest memory that is one range of host addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Its first host address.
    pub host: u64,
    /// Where it begins in RAM offset space.
    pub ram: RamOffset,
    /// Its length.
    pub len: ByteLen,
}

/// The blocks and pages of guest memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Geometry {
    regions: Vec<Region>,
    page: PageSize,
    block: PageSize,
    pages: u64,
}

impl Geometry {
    /// Regions in rising RAM offset, of whole pages of the host's size. A block is 64 KiB, or one
    /// page where pages are larger.
    ///
    /// # Errors
    /// [`FaultError::Geometry`] if there is no region, or if they are not as said above.
    pub fn new(regions: Vec<Region>, page: PageSize) -> Result<Self, FaultError> {
        let mut next = RamOffset::ZERO;
        for region in &regions {
            let end = region.ram.checked_add(region.len);
            let is_whole = page.divides(region.len.get()) && page.divides(region.host);
            let fits = region.host.checked_add(region.len.get()).is_some();
            let overlaps = regions.iter().any(|other| overlap(region, other));
            let is_next = region.ram == next && region.len.get() > 0;
            match end {
                Some(end) if is_whole && fits && is_next && !overlaps => next = end,
                _ => {
                    return Err(FaultError::Geometry {
                        host: region.host,
                        ram: region.ram,
                        len: region.len,
                        page,
                    });
                }
            }
        }
        if next == RamOffset::ZERO {
            return Err(FaultError::NoRegions);
        }
        Ok(Self {
            regions,
            page,
            block: PageSize::SIZE_64K.max(page),
            pages: next.get() / page.bytes(),
        })
    }

    /// The size of a page.
    #[must_use]
    pub const fn page(&self) -> PageSize {
        self.page
    }

    /// The size of a block.
    #[must_use]
    pub const fn block(&self) -> PageSize {
        self.block
    }

    /// The regions.
    #[must_use]
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// All memory together.
    #[must_use]
    pub const fn ram(&self) -> ByteLen {
        ByteLen::new(self.pages * self.page.bytes())
    }

    /// How many blocks there are, the last perhaps in part.
    #[must_use]
    pub const fn blocks(&self) -> u64 {
        self.ram().get().div_ceil(self.block.bytes())
    }

    /// How many hash blocks of 64 KiB a block has.
    #[must_use]
    pub const fn hash_blocks_per_block(&self) -> u64 {
        self.block.bytes() / BLOCK_BYTES
    }

    /// The bytes of a block: its length, shorter at the end of memory.
    #[must_use]
    pub fn block_len(&self, block: BlockIndex) -> ByteLen {
        let start = block.0.saturating_mul(self.block.bytes());
        let rest = self.ram().get().saturating_sub(start);
        ByteLen::new(rest.min(self.block.bytes()))
    }

    /// The page that a host address is in; `None` outside of all regions.
    #[must_use]
    pub fn page_at(&self, host: u64) -> Option<PageIndex> {
        let region = self.regions.iter().find(|region| {
            host.checked_sub(region.host)
                .is_some_and(|inside| inside < region.len.get())
        })?;
        let inside = RamOffset::new(region.ram.get() + (host - region.host));
        Some(self.page.page_of(inside))
    }

    /// Where a page is in the host's address space; `None` past the end of memory.
    #[must_use]
    pub fn host_of(&self, page: PageIndex) -> Option<u64> {
        let offset = self.page.offset_of(page)?;
        let region = self.region_of(offset)?;
        Some(region.host + (offset.get() - region.ram.get()))
    }

    /// Calls `each` with the pages of the part of a host range that is guest memory, one run for
    /// each region.
    pub fn pages_in(&self, start: u64, end: u64, mut each: impl FnMut(PageRun)) {
        for region in &self.regions {
            let from = start.max(region.host);
            let to = end.min(region.host + region.len.get());
            if from >= to {
                continue;
            }
            let page = |host: u64| (region.ram.get() + (host - region.host)) / self.page.bytes();
            let (first, last) = (page(from), page(to - 1));
            if let Some(run) = PageRun::new(PageIndex::new(first), last - first + 1) {
                each(run);
            }
        }
    }

    fn region_of(&self, offset: RamOffset) -> Option<&Region> {
        let after = self.regions.partition_point(|region| region.ram <= offset);
        let region = self.regions.get(after.checked_sub(1)?)?;
        (offset.get() - region.ram.get() < region.len.get()).then_some(region)
    }

    const fn pages_per_block(&self) -> u64 {
        self.block.bytes() / self.page.bytes()
    }

    /// The block of a page, and the page's bit in it; `None` past the end of memory.
    pub(crate) fn locate(&self, page: PageIndex) -> Option<(BlockIndex, PageMask)> {
        if page.get() >= self.pages {
            return None;
        }
        let inside = page.get() % self.pages_per_block();
        let block = BlockIndex(page.get() / self.pages_per_block());
        Some((block, PageMask(1 << inside)))
    }

    /// The pages that a block has.
    pub(crate) fn pages_of(&self, block: BlockIndex) -> PageMask {
        let pages = self.block_len(block).get() / self.page.bytes();
        PageMask::first(u32::try_from(pages).unwrap_or(16))
    }

    /// Calls `each` with every block that a run touches, and the pages that it touches there.
    pub(crate) fn blocks_in(&self, run: PageRun, mut each: impl FnMut(BlockIndex, PageMask)) {
        let per_block = self.pages_per_block();
        let end = run.end().get().min(self.pages);
        let mut next = run.start().get();
        while next < end {
            let block = next / per_block;
            let stop = ((block + 1) * per_block).min(end);
            let below =
                |page: u64| PageMask::first(u32::try_from(page - block * per_block).unwrap_or(16));
            each(BlockIndex(block), below(stop).without(below(next)));
            next = stop;
        }
    }

    /// The lowest run of `pages` that is one range of host addresses.
    pub(crate) fn lowest_run(&self, block: BlockIndex, pages: PageMask) -> Option<PageRun> {
        let (start, count) = pages.lowest_run()?;
        let first = PageIndex::new(block.0 * self.pages_per_block() + u64::from(start));
        let region = self.region_of(self.page.offset_of(first)?)?;
        let end = (region.ram.get() + region.len.get()) / self.page.bytes();
        PageRun::new(first, u64::from(count).min(end - first.get()))
    }

    /// The least run that has all of `pages`, up to the end of the first one's region.
    pub(crate) fn span(&self, block: BlockIndex, pages: PageMask) -> Option<PageRun> {
        let (start, count) = pages.span()?;
        let all = PageMask::first(start + count).without(PageMask::first(start));
        self.lowest_run(block, all)
    }

    /// The pages of a run in a block.
    pub(crate) fn mask_of(&self, block: BlockIndex, run: PageRun) -> PageMask {
        let mut mask = PageMask::NONE;
        self.blocks_in(run, |found, pages| {
            if found == block {
                mask = pages;
            }
        });
        mask
    }
}

fn overlap(one: &Region, other: &Region) -> bool {
    one.ram != other.ram
        && one.host < other.host.saturating_add(other.len.get())
        && other.host < one.host.saturating_add(one.len.get())
}
