//! Which guest memory was ever touched: the rest is zero and must not be read.
//!
//! Invariant: memory that is not reported holds zeros, or its mapping would show zeros at the
//! first touch. Reporting too much costs time and memory, never correctness.
//!
//! | mapping | what is asked |
//! |---|---|
//! | private, anonymous | the page table: present or swapped, and not the shared zero page |
//! | shared, of a file (memfd) | the file: `SEEK_DATA`, whoever wrote to it |
//! | private, of a file (a guest restored by mapping) | both: absent means the file's bytes |
//! | a file that cannot be opened, or no /proc | nothing: all of it is reported |
//!
//! Which mapping it is, only the kernel knows: a VMM may have mapped a file over part of a region.

use std::io::ErrorKind::{NotFound, PermissionDenied};
use std::ops::Range;

use crate::MemError;
use crate::ram::{RamMap, Window};
use crate::sys;

#[cfg(target_os = "linux")]
mod backing;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
mod maps;
#[cfg(target_os = "linux")]
mod pagemap;
#[cfg(target_os = "linux")]
use linux::Host;

#[cfg(not(target_os = "linux"))]
mod unknown;
#[cfg(not(target_os = "linux"))]
use unknown::Host;

#[cfg(all(test, target_os = "linux"))]
mod tests;

/// Answers for the mappings of one moment: made anew for each capture.
pub(crate) struct Residency {
    /// `None` if the host does not let itself be asked: then all memory counts as touched.
    host: Option<Host>,
}

impl Residency {
    /// Looks at how `map` is mapped now.
    pub fn new(map: &RamMap<'_>) -> Result<Self, MemError> {
        let host = match Host::new(map) {
            Ok(host) => Some(host),
            // A jail without /proc. mincore(2) needs none, but takes what is swapped out for
            // untouched: it would lose pages.
            Err(error) if matches!(error.kind(), NotFound | PermissionDenied) => {
                tracing::warn!(%error, "cannot ask which guest memory was touched: all is read");
                None
            }
            Err(source) => return Err(MemError::Residency { source }),
        };
        Ok(Self { host })
    }

    /// The parts of a range of RAM offsets in `window` that may hold something else than zeros:
    /// ascending, apart from each other, in whole pages of the host.
    pub fn touched(
        &self,
        window: &Window<'_>,
        range: &Range<u64>,
    ) -> Result<Vec<Range<u64>>, MemError> {
        let Some(host) = &self.host else {
            return Ok(vec![range.clone()]);
        };
        let Range { start, end } = window.range();
        let page = sys::host_page().bytes();
        // Both ends of a window are page boundaries of the host, in RAM offsets as counted from
        // its start.
        let down = |offset: u64| start + (offset - start) / page * page;
        let up = |offset: u64| start + (offset - start).next_multiple_of(page);
        let to_host = |offset: u64| window.host_start() + (offset - start);
        let mut found = Vec::new();
        let asked = to_host(down(range.start))..to_host(up(range.end).min(end));
        host.touched(asked, &mut found)?;
        let mut spans = Vec::new();
        for span in found {
            let to_ram = |host: u64| host - window.host_start() + start;
            let span = down(to_ram(span.start))..up(to_ram(span.end));
            push(
                &mut spans,
                span.start.max(range.start)..span.end.min(range.end),
            );
        }
        Ok(spans)
    }
}

/// Adds a span that begins at or behind the last; the two may overlap.
pub(crate) fn push(spans: &mut Vec<Range<u64>>, span: Range<u64>) {
    debug_assert!(spans.last().is_none_or(|last| last.start <= span.start));
    match spans.last_mut() {
        Some(last) if last.end >= span.start => last.end = last.end.max(span.end),
        _ => spans.push(span),
    }
}
