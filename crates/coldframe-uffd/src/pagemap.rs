//! `PAGEMAP_SCAN` (Linux 6.7): the pages of a range that match, as ranges; and in the same step,
//! write protection of what matched, so that no write falls between the two.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;

use linux_raw_sys::general as raw;

use crate::{HostAddr, HostRange, Operation, UffdError, sys};

/// Ranges for each call.
const RANGES: usize = 512;

/// What the page table says of a page (`PAGE_IS_*`, Documentation/admin-guide/mm/pagemap.rst).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Categories(u64);

impl Categories {
    /// None.
    pub const NONE: Self = Self(0);
    /// In a range that is registered for asynchronous write protection.
    pub const WP_ALLOWED: Self = Self(raw::PAGE_IS_WPALLOWED as u64);
    /// Written to since it was put under write protection, or never put under it.
    pub const WRITTEN: Self = Self(raw::PAGE_IS_WRITTEN as u64);
    /// Backed by a file.
    pub const FILE: Self = Self(raw::PAGE_IS_FILE as u64);
    /// In memory.
    pub const PRESENT: Self = Self(raw::PAGE_IS_PRESENT as u64);
    /// In swap; a poisoned page too.
    pub const SWAPPED: Self = Self(raw::PAGE_IS_SWAPPED as u64);
    /// The kernel's page of zeros.
    pub const PFN_ZERO: Self = Self(raw::PAGE_IS_PFNZERO as u64);
    /// Part of a huge page.
    pub const HUGE: Self = Self(raw::PAGE_IS_HUGE as u64);
    /// Soft-dirty, on kernels that have it.
    pub const SOFT_DIRTY: Self = Self(raw::PAGE_IS_SOFT_DIRTY as u64);

    /// Both together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` are in it.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The kernel's bits.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }
}

/// Which pages match. A page matches if it is in all categories of `all`, in none of `none`, and,
/// if there are any in it, in one of `any`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScanFilter {
    /// All of these.
    pub all: Categories,
    /// None of these.
    pub none: Categories,
    /// One of these.
    pub any: Categories,
    /// What to say of the pages that match; neighbours of which the same is said are one range.
    pub report: Categories,
}

/// Pages that match, all of the same categories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScannedRange {
    /// Where.
    pub range: HostRange,
    /// Those of [`ScanFilter::report`] that they are in.
    pub categories: Categories,
}

/// The page table of a process.
pub struct PagemapScan {
    file: File,
    regions: Box<[raw::page_region]>,
}

impl PagemapScan {
    /// That of this process.
    ///
    /// # Errors
    /// [`UffdError::Pagemap`].
    pub fn open() -> Result<Self, UffdError> {
        Self::of("self")
    }

    /// That of another process, for which the caller needs the right to read it
    /// (`PTRACE_MODE_READ`, ptrace(2)).
    ///
    /// # Errors
    /// [`UffdError::Pagemap`].
    pub fn open_process(pid: u32) -> Result<Self, UffdError> {
        Self::of(&pid.to_string())
    }

    fn of(process: &str) -> Result<Self, UffdError> {
        let opened = File::open(format!("/proc/{process}/pagemap"));
        let file = opened.map_err(|source| UffdError::Pagemap {
            process: process.to_owned(),
            source,
        })?;
        let empty = raw::page_region {
            start: 0,
            end: 0,
            categories: 0,
        };
        Ok(Self {
            file,
            regions: vec![empty; RANGES].into_boxed_slice(),
        })
    }

    /// Calls `each` with the pages of `range` that match `filter`, in ascending order.
    ///
    /// # Errors
    /// [`UffdError::Range`]: `ENOTTY` before Linux 6.7, `EINVAL` where `range` is no whole number
    /// of pages or the kernel does not know a category.
    pub fn scan(
        &mut self,
        range: HostRange,
        filter: &ScanFilter,
        each: impl FnMut(ScannedRange),
    ) -> Result<(), UffdError> {
        self.walk(range, filter, 0, each)
    }

    /// The same, and puts what matches under write protection: `each` is told of a page before
    /// anybody can write to it again unnoticed.
    ///
    /// # Errors
    /// As [`scan`](Self::scan); `EPERM` if part of `range` is not registered for
    /// [`WP`](crate::Modes::WP) with [`WP_ASYNC`](crate::Features::WP_ASYNC). Pages that `each` was
    /// told of before an error are under write protection.
    pub fn scan_and_protect(
        &mut self,
        range: HostRange,
        filter: &ScanFilter,
        each: impl FnMut(ScannedRange),
    ) -> Result<(), UffdError> {
        let flags = raw::PM_SCAN_WP_MATCHING | raw::PM_SCAN_CHECK_WPASYNC;
        self.walk(range, filter, u64::from(flags), each)
    }

    fn walk(
        &mut self,
        range: HostRange,
        filter: &ScanFilter,
        flags: u64,
        mut each: impl FnMut(ScannedRange),
    ) -> Result<(), UffdError> {
        let failed = |source: io::Error| UffdError::Range {
            operation: Operation::Scan,
            range,
            source,
        };
        let end = range.end().get();
        let mut next = range.start().get();
        while next < end {
            let mut arg = raw::pm_scan_arg {
                size: 0,
                flags,
                start: next,
                end,
                walk_end: 0,
                vec: 0,
                vec_len: 0,
                max_pages: 0,
                category_inverted: filter.none.0,
                category_mask: filter.all.0 | filter.none.0,
                category_anyof_mask: filter.any.0,
                return_mask: filter.report.0,
            };
            let found = sys::scan(self.file.as_fd(), &mut self.regions, &mut arg)
                .map_err(|errno| failed(errno.into()))?;
            for region in self.regions.iter().take(found) {
                let (start, end) = (HostAddr::new(region.start), HostAddr::new(region.end));
                if let Some(range) = HostRange::between(start, end) {
                    let categories = Categories(region.categories);
                    each(ScannedRange { range, categories });
                }
            }
            if arg.walk_end <= next {
                return Err(failed(io::Error::from_raw_os_error(libc::EINVAL)));
            }
            next = arg.walk_end;
        }
        Ok(())
    }
}

impl std::fmt::Debug for PagemapScan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("PagemapScan").field(&self.file).finish()
    }
}
