//! The copy itself: pages of guest memory are told apart as zero or data, and data is written.
//!
//! Invariant: memory outside of the touched spans is never read, zeros stand for it.

use std::ops::Range;

use coldframe_units::PageSize;

use super::Captured;
use crate::MemError;
use crate::output::Output;
use crate::ram::Window;

/// Takes guest memory piece by piece, in rising order.
pub(super) struct Copier<'a> {
    output: Output<'a>,
    page: u64,
}

impl<'a> Copier<'a> {
    pub const fn new(output: Output<'a>, page_size: PageSize) -> Self {
        Self {
            output,
            page: page_size.bytes(),
        }
    }

    /// Takes whole pages, all in `window`; `touched` are the parts of them that may not be zero.
    pub fn copy(
        &mut self,
        window: &Window<'a>,
        range: Range<u64>,
        touched: &[Range<u64>],
    ) -> Result<(), MemError> {
        let mut touched = touched;
        let mut next = range.start;
        while next < range.end {
            while touched.first().is_some_and(|span| span.end <= next) {
                touched = &touched[1..];
            }
            // Whole pages up to the next that is touched, at least in part.
            let first = touched.first().map_or(range.end, |span| span.start);
            let untouched = (first.max(next) - next) / self.page * self.page;
            if untouched > 0 {
                self.output.zero(&(next..next + untouched))?;
                next += untouched;
                continue;
            }
            let (zero, end) = self.tell(window, next..range.end, touched);
            if zero {
                self.output.zero(&(next..end))?;
            } else {
                self.data(window, next..end, touched)?;
            }
            next = end;
        }
        Ok(())
    }

    /// Writes what is left.
    pub fn finish(self) -> Result<Captured, MemError> {
        self.output.finish()
    }

    /// Whether the first page is zero, and where the pages that are like it end.
    fn tell(
        &self,
        window: &Window<'_>,
        range: Range<u64>,
        mut touched: &[Range<u64>],
    ) -> (bool, u64) {
        let mut zero = None;
        let mut next = range.start;
        // No further than a call reaches: what was looked at is still in the cache when copied.
        let end = range.end.min(next + self.output.room(next).max(self.page));
        while next < end {
            while touched.first().is_some_and(|span| span.end <= next) {
                touched = &touched[1..];
            }
            let page = next..next + self.page;
            let here = overlaps(touched, &page).all(|part| window.is_zero(&part));
            if *zero.get_or_insert(here) != here {
                break;
            }
            next = page.end;
        }
        (zero.unwrap_or(true), next)
    }

    fn data(
        &mut self,
        window: &Window<'a>,
        range: Range<u64>,
        touched: &[Range<u64>],
    ) -> Result<(), MemError> {
        self.output.data(&range)?;
        let mut next = range.start;
        for part in overlaps(touched, &range) {
            self.output.add_zeros(part.start - next)?;
            next = part.end;
            self.output.add(window.part(&part))?;
        }
        self.output.add_zeros(range.end - next)
    }
}

/// The parts of `spans`, which are ascending, that lie in `range`.
fn overlaps<'s>(
    spans: &'s [Range<u64>],
    range: &Range<u64>,
) -> impl Iterator<Item = Range<u64>> + use<'s> {
    let Range { start, end } = *range;
    spans
        .iter()
        .skip_while(move |span| span.end <= start)
        .take_while(move |span| span.start < end)
        .map(move |span| span.start.max(start)..span.end.min(end))
}
