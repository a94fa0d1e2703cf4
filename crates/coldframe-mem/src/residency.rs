//! Which guest memory was ever touched: the rest is zero and must not be read.
//!
//! Invariant: memory that is not reported holds zeros, or its mapping would show zeros at the
//! first touch. Reporting too much costs time and memory, never correctness. What a load might not
//! survive is reported as to be read with care: through the kernel.
//!
//! | mapping | what is asked |
//! |---|---|
//! | private, anonymous | the page table: present or swapped, and not the shared zero page |
//! | shared, of a file (memfd) | the file: `SEEK_DATA`, any writer |
//! | private, of a file (a guest restored by mapping) | both: absent means the file's bytes |
//! | a file that cannot be opened | nothing: all of it is reported |
//! | no /proc, or a region filled lazily | nothing: all of it is reported, with care |
//! | registered with a userfaultfd | missing pages are refused, unless said to be zero |
//!
//! Which mapping it is, only the kernel knows: a VMM may have mapped a file over part of a region.

use std::io;
use std::io::ErrorKind::{NotFound, PermissionDenied};
use std::ops::Range;

use crate::ram::{Fill, RamMap, Window};
use crate::{GuestRam, MemError, sys};

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

    /// The parts of a range of RAM offsets in `window` that may hold something else than zeros.
    pub fn touched(&self, window: &Window<'_>, range: &Range<u64>) -> Result<Touched, MemError> {
        let mut touched = Touched::default();
        for part in window.present(range) {
            match &self.host {
                Some(host) if window.fill != Fill::Lazy => {
                    ask(host, window, &part, &mut touched)?;
                }
                _ => {
                    push(&mut touched.spans, part.clone());
                    push(&mut touched.careful, part);
                }
            }
        }
        Ok(touched)
    }
}

/// What may hold something else than zeros: ascending, apart, in whole pages of the host.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Touched {
    /// All of it.
    pub spans: Vec<Range<u64>>,
    /// What of it must be read through the kernel: it may be poisoned or protected.
    pub careful: Vec<Range<u64>>,
}

/// Why the host's answer is of no use; addresses are the host's.
#[derive(Debug)]
enum Refusal {
    NotMapped(u64),
    Unreadable(u64),
    Unfilled(u64),
    Io(io::Error),
}

impl From<io::Error> for Refusal {
    fn from(source: io::Error) -> Self {
        Self::Io(source)
    }
}

/// Adds what the host says of a part that is plugged in.
fn ask(
    host: &Host,
    window: &Window<'_>,
    range: &Range<u64>,
    touched: &mut Touched,
) -> Result<(), MemError> {
    let Range { start, end } = window.range();
    let page = sys::host_page().bytes();
    // Both ends of a window are page boundaries of the host, in RAM offsets as counted from
    // its start.
    let down = |offset: u64| start + (offset - start) / page * page;
    let up = |offset: u64| start + (offset - start).next_multiple_of(page);
    let to_host = |offset: u64| window.host_start() + (offset - start);
    let to_ram = |host: u64| host - window.host_start() + start;
    let asked = to_host(down(range.start))..to_host(up(range.end).min(end));
    let mut found = Touched::default();
    let answer = host.touched(asked, window.fill, &mut found);
    answer.map_err(|refusal| {
        let addr = |host| window.guest_addr(to_ram(host));
        match refusal {
            Refusal::NotMapped(addr) => MemError::NotMapped { addr },
            Refusal::Unreadable(host) => MemError::Unreadable {
                addr: addr(host),
                source: io::Error::from(io::ErrorKind::PermissionDenied),
            },
            Refusal::Unfilled(host) => MemError::Unfilled { addr: addr(host) },
            Refusal::Io(source) => MemError::Residency { source },
        }
    })?;
    let add = |spans: &mut Vec<Range<u64>>, found: Vec<Range<u64>>| {
        for span in found {
            let span = down(to_ram(span.start))..up(to_ram(span.end));
            let span = span.start.max(range.start)..span.end.min(range.end);
            if !span.is_empty() {
                push(spans, span);
            }
        }
    };
    add(&mut touched.spans, found.spans);
    add(&mut touched.careful, found.careful);
    Ok(())
}

/// Whether `MADV_DONTNEED` (madvise(2)) makes all of guest memory zero, as it does for private
/// anonymous memory: memory that was restored by mapping gets the bytes of the snapshot back, and
/// shared memory keeps its bytes. `None` if the host does not let itself be asked.
///
/// # Errors
/// [`MemError::Layout`], [`MemError::HostAlignment`], [`MemError::NotMapped`],
/// [`MemError::Residency`].
pub fn dontneed_reads_zero<R: GuestRam + ?Sized>(ram: &R) -> Result<Option<bool>, MemError> {
    let map = RamMap::new(ram)?;
    Ok(Residency::new(&map)?
        .host
        .map(|host| host.is_all_anonymous()))
}

/// Adds a span that begins at or behind the last; the two may overlap.
pub(crate) fn push(spans: &mut Vec<Range<u64>>, span: Range<u64>) {
    debug_assert!(spans.last().is_none_or(|last| last.start <= span.start));
    match spans.last_mut() {
        Some(last) if last.end >= span.start => last.end = last.end.max(span.end),
        _ => spans.push(span),
    }
}
