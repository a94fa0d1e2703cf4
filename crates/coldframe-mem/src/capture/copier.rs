//! The copy itself: pages of guest memory are told apart as zero or data, and data is written.
//!
//! Invariants: memory outside of the touched spans is never read, and taken for zeros; what is to
//! be read with care is copied out through the kernel first, and looked at and written from there.

use std::io;
use std::ops::Range;

use coldframe_units::PageSize;

use super::Captured;
use crate::MemError;
use crate::output::{CALL_BYTES, Output};
use crate::ram::{CopyOut, Window};
use crate::residency::Touched;

/// Takes guest memory piece by piece, in rising order.
pub(super) struct Copier<'a> {
    output: Output<'a>,
    page: u64,
    /// What was copied out.
    private: Vec<u8>,
}

impl<'a> Copier<'a> {
    pub const fn new(output: Output<'a>, page_size: PageSize) -> Self {
        Self {
            output,
            page: page_size.bytes(),
            private: Vec::new(),
        }
    }

    /// Takes whole pages, all in `window`; `touched` are the parts of them that may not be zero.
    pub fn copy(
        &mut self,
        window: &Window<'a>,
        range: Range<u64>,
        touched: &Touched,
    ) -> Result<(), MemError> {
        let (mut spans, mut careful) = (&touched.spans[..], &touched.careful[..]);
        let mut next = range.start;
        while next < range.end {
            spans = &spans[spans.partition_point(|span| span.end <= next)..];
            careful = &careful[careful.partition_point(|span| span.end <= next)..];
            // Whole pages up to the next that is touched, at least in part.
            let first = spans.first().map_or(range.end, |span| span.start);
            let untouched = (first.max(next) - next) / self.page * self.page;
            if untouched > 0 {
                let end = range.end.min(next + untouched);
                self.output.zero(&(next..end))?;
                next = end;
                continue;
            }
            // Whole pages before the next that needs care, at least in part.
            let first = careful.first().map_or(range.end, |span| span.start);
            let plain = (first.max(next) - next) / self.page * self.page;
            if plain == 0 && first < range.end {
                let end = careful.first().map_or(next, |span| span.end) - range.start;
                let end = range.start + end.next_multiple_of(self.page);
                let most = next + CALL_BYTES.max(self.page);
                let part = next..end.min(most).min(range.end);
                next = part.end;
                self.copy_out(window, part, spans)?;
                continue;
            }
            let plain = if first < range.end {
                next + plain
            } else {
                range.end
            };
            let (zero, end) = self.tell(window, next..plain, spans);
            if zero {
                self.output.zero(&(next..end))?;
            } else {
                self.data(window, next..end, spans)?;
            }
            next = end;
        }
        Ok(())
    }

    /// Takes whole pages whose bytes are in private memory.
    pub fn take(&mut self, range: &Range<u64>, bytes: &[u8]) -> Result<(), MemError> {
        let mut start = range.start;
        let same = |one: &&[u8], other: &&[u8]| is_zero(one) == is_zero(other);
        let pages: Vec<&[u8]> = bytes.chunks(self.page as usize).collect();
        for run in pages.chunk_by(same) {
            let end = start + run.len() as u64 * self.page;
            if is_zero(run[0]) {
                self.output.zero(&(start..end))?;
            } else {
                self.output.data(&(start..end))?;
                let at = (start - range.start) as usize..(end - range.start) as usize;
                self.output.add_bytes(&bytes[at])?;
            }
            start = end;
        }
        Ok(())
    }

    /// Takes whole pages through the kernel.
    fn copy_out(
        &mut self,
        window: &Window<'a>,
        range: Range<u64>,
        spans: &[Range<u64>],
    ) -> Result<(), MemError> {
        let mut private = std::mem::take(&mut self.private);
        private.clear();
        private.resize((range.end - range.start) as usize, 0);
        for part in overlaps(spans, &range) {
            let at = (part.start - range.start) as usize..(part.end - range.start) as usize;
            match window.copy_out(&part, &mut private[at]) {
                Ok(()) => {}
                // Written from where it is: there a fault is an error of the write.
                Err(CopyOut::Refused) => return self.data(window, range, spans),
                Err(CopyOut::Fault(offset)) => {
                    return Err(MemError::Unreadable {
                        addr: window.guest_addr(offset),
                        source: io::Error::from_raw_os_error(libc::EFAULT),
                    });
                }
            }
        }
        self.take(&range, &private)?;
        self.private = private;
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

fn is_zero(bytes: &[u8]) -> bool {
    let mut lines = bytes.chunks(64);
    lines.all(|line| line.iter().fold(0, |seen, byte| seen | byte) == 0)
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
