//! Memory that the guest gave back: zero in the file, and not read.
//!
//! Invariant: spans ascend and do not touch.

use std::ops::Range;

use coldframe_dirty::DirtyPages;
use coldframe_units::ByteLen;

use super::check_ram;
use crate::MemError;
use crate::ram::span;

/// RAM offsets that read as zero whatever memory holds.
pub(super) struct Discarded {
    spans: Vec<Range<u64>>,
}

impl Discarded {
    pub fn new(pages: Option<&DirtyPages>, ram: ByteLen) -> Result<Self, MemError> {
        let Some(pages) = pages else {
            return Ok(Self { spans: Vec::new() });
        };
        check_ram(pages, ram)?;
        let spans = pages.runs().filter_map(|run| {
            let (start, len) = run.byte_range(pages.page_size())?;
            Some(span(start, len))
        });
        Ok(Self {
            spans: spans.collect(),
        })
    }

    pub const fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// What is left of `touched`, which ascends, without the discarded memory.
    pub fn take_out(&self, touched: Vec<Range<u64>>) -> Vec<Range<u64>> {
        if self.is_empty() {
            return touched;
        }
        let mut left = Vec::with_capacity(touched.len());
        for range in touched {
            let first = self.spans.partition_point(|span| span.end <= range.start);
            let mut next = range.start;
            for span in &self.spans[first..] {
                if span.start >= range.end {
                    break;
                }
                if next < span.start {
                    left.push(next..span.start);
                }
                next = span.end;
            }
            if next < range.end {
                left.push(next..range.end);
            }
        }
        left
    }
}
