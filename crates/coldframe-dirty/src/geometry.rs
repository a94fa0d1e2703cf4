//! How a RAM is cut into pages.
//!
//! Invariants: at least one page and at most [`PAGES_MAX`]; the last page may be partial; no sum
//! or shift of page numbers in here can overflow, since 2^34 pages shifted by the widest ratio of
//! page sizes (2^18) stay below 2^64.

use coldframe_units::{ByteLen, PageIndex, PageRun, PageSize, RamOffset};

use crate::DirtyError;

/// The most pages that are tracked at once: 64 TiB of RAM at 4 KiB, in a bitmap of 2 GiB.
pub const PAGES_MAX: u64 = 1 << 34;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    ram: ByteLen,
    page_size: PageSize,
    pages: u64,
}

impl Geometry {
    pub(crate) const fn new(ram: ByteLen, page_size: PageSize) -> Result<Self, DirtyError> {
        match page_size.pages_for(ram) {
            0 => Err(DirtyError::EmptyRam),
            pages if pages > PAGES_MAX => Err(DirtyError::TooManyPages {
                pages,
                max: PAGES_MAX,
            }),
            pages => Ok(Self {
                ram,
                page_size,
                pages,
            }),
        }
    }

    /// Of a RAM that [`Geometry::new`] has accepted before.
    #[inline]
    pub(crate) const fn within_limits(ram: ByteLen, page_size: PageSize) -> Self {
        Self {
            ram,
            page_size,
            pages: page_size.pages_for(ram),
        }
    }

    pub(crate) const fn ram(&self) -> ByteLen {
        self.ram
    }

    pub(crate) const fn page_size(&self) -> PageSize {
        self.page_size
    }

    pub(crate) const fn pages(&self) -> u64 {
        self.pages
    }

    #[inline]
    pub(crate) fn check_range(&self, offset: RamOffset, len: ByteLen) -> Result<(), DirtyError> {
        match offset.checked_add(len) {
            Some(end) if end.get() <= self.ram.get() => Ok(()),
            _ => Err(DirtyError::OutsideRam {
                offset,
                len,
                ram: self.ram,
            }),
        }
    }

    /// The pages that bytes inside the RAM touch; `None` if there are no bytes.
    #[inline]
    pub(crate) fn pages_of(&self, offset: RamOffset, len: ByteLen) -> Option<PageRun> {
        let last_byte = len.get().checked_sub(1)?;
        let first = self.page_size.page_of(offset);
        let last = RamOffset::new(offset.get() + last_byte);
        let last = self.page_size.page_of(last);
        PageRun::new(first, last.get() - first.get() + 1)
    }

    /// The pages that lie inside bytes of the RAM as a whole; a partial last page does if its
    /// bytes do.
    pub(crate) fn whole_pages_of(&self, offset: RamOffset, len: ByteLen) -> Option<PageRun> {
        let page = self.page_size.bytes();
        let end = offset.get() + len.get();
        let first = offset.get().div_ceil(page);
        let last = if end == self.ram.get() {
            self.pages
        } else {
            end / page
        };
        PageRun::new(PageIndex::new(first), last.checked_sub(first)?)
    }

    /// The bits of word `index` that have pages of the RAM.
    #[inline]
    pub(crate) const fn mask_of(&self, index: usize) -> u64 {
        match self.pages.saturating_sub(index as u64 * 64) {
            0 => 0,
            left if left >= 64 => u64::MAX,
            left => (1 << left) - 1,
        }
    }

    #[inline]
    pub(crate) const fn check_page(&self, page: PageIndex) -> Result<(), DirtyError> {
        if page.get() < self.pages {
            return Ok(());
        }
        Err(DirtyError::PageOutsideRam {
            page,
            pages: self.pages,
        })
    }

    pub(crate) const fn check_run(&self, run: PageRun) -> Result<(), DirtyError> {
        self.check_page(PageIndex::new(run.end().get() - 1))
    }

    pub(crate) fn check_same_ram(&self, other: &Self) -> Result<(), DirtyError> {
        if self.ram == other.ram {
            return Ok(());
        }
        Err(DirtyError::OtherRam {
            ours: self.ram,
            theirs: other.ram,
        })
    }

    /// The pages of `to`, a cut of the same RAM, that `run` shares a byte with.
    pub(crate) fn convert(&self, run: PageRun, to: &Self) -> PageRun {
        let (ours, theirs) = (self.page_size.log2(), to.page_size.log2());
        let (start, end) = (run.start().get(), run.end().get());
        let (start, end) = if theirs <= ours {
            let finer = ours - theirs;
            (start << finer, (end << finer).min(to.pages))
        } else {
            let coarser = theirs - ours;
            (start >> coarser, ((end - 1) >> coarser) + 1)
        };
        PageRun::new(PageIndex::new(start), end - start)
            .expect("a run of this RAM covers a byte of it, and so a page of any size")
    }
}
