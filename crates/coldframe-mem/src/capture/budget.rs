//! Merging of neighbouring dirty runs across small clean gaps, to bound the number of extents.
//!
//! Invariants: every dirty page is in a run; the clean pages taken along are at most the stated
//! share of the dirty ones; the outcome depends on the pages and the budget alone.

use coldframe_dirty::DirtyPages;
use coldframe_units::{PageIndex, PageRun};

/// The largest gap that is ever merged, in pages.
const GAP_PAGES_MAX: usize = 16;

/// How many clean pages a Diff may take along so that it has fewer extents.
///
/// Each extent costs a row in the file and a mapping when the guest is restored. Clean pages that
/// are taken along hold the right bytes: they only cost their place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MergeBudget {
    /// Nothing is merged while there are no more runs than this.
    pub runs_min: u32,
    /// Gaps of up to this many pages are closed, smallest first; at most 16.
    pub gap_pages: u8,
    /// As long as all pages in closed gaps are at most this many in 100 dirty pages.
    pub extra_percent: u8,
}

impl MergeBudget {
    /// Takes no clean page.
    pub const NONE: Self = Self {
        runs_min: u32::MAX,
        gap_pages: 0,
        extra_percent: 0,
    };

    /// From 4,096 runs on, gaps of up to 8 pages, and at most 25 clean pages for 100 dirty ones.
    pub const MODEST: Self = Self {
        runs_min: 4096,
        gap_pages: 8,
        extra_percent: 25,
    };

    /// The largest gap that is closed: no larger than it takes, and all gaps up to it fit the
    /// budget together.
    fn gap_to_close(self, dirty: &DirtyPages) -> u64 {
        let most = usize::from(self.gap_pages).min(GAP_PAGES_MAX);
        let (mut gaps, mut runs) = ([0_u64; GAP_PAGES_MAX + 1], 0);
        let mut end = None;
        for run in dirty.runs() {
            runs += 1;
            if let Some(end) = end.replace(run.end().get()) {
                let gap = run.start().get() - end;
                if gap <= most as u64 {
                    gaps[gap as usize] += 1;
                }
            }
        }
        let mut left = dirty.count().saturating_mul(u64::from(self.extra_percent)) / 100;
        for (gap, count) in gaps.iter().enumerate().take(most + 1).skip(1) {
            let extra = gap as u64 * count;
            if runs <= u64::from(self.runs_min) || extra > left {
                return gap as u64 - 1;
            }
            left -= extra;
            runs -= count;
        }
        most as u64
    }
}

/// The runs to copy, ascending.
pub(super) fn merged(
    dirty: &DirtyPages,
    budget: MergeBudget,
) -> impl Iterator<Item = PageRun> + '_ {
    let gap = budget.gap_to_close(dirty);
    let mut runs = dirty.runs().peekable();
    std::iter::from_fn(move || {
        let first = runs.next()?;
        let mut end = first.end();
        while let Some(next) = runs.next_if(|next| next.start().get() - end.get() <= gap) {
            end = next.end();
        }
        joined(first.start(), end)
    })
}

fn joined(start: PageIndex, end: PageIndex) -> Option<PageRun> {
    PageRun::new(start, end.get() - start.get())
}
