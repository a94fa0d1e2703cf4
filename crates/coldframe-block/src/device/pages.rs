//! Pages of a block: which ones a range touches, and their bytes, which the log has.

use std::ops::Range;

use coldframe_ring::{RingPlace, RingWal};
use coldframe_storage::Storage;

use crate::BlockError;
use crate::error::log;
use crate::overlay::{Block, Logged, PAGE, PAGES_PER_BLOCK, PageState};
use crate::record::PAGE_BYTES;

/// A bit for each page that `len` bytes from `from` of a block on touch; there are some.
pub(crate) fn pages_of(from: usize, len: usize) -> u16 {
    let (first, last) = (from / PAGE, (from + len - 1) / PAGE);
    let upto = |page: usize| (1_u32 << page) - 1;
    let mask = upto(last + 1) & !upto(first);
    u16::try_from(mask & u32::from(u16::MAX)).expect("a block has 16 pages")
}

/// The parts of `buf`, which begins at `from` of a block, that lie in these pages, with their
/// offsets in the block.
pub(crate) fn parts(from: usize, buf: &mut [u8], wanted: u16) -> Vec<(usize, &mut [u8])> {
    let mut found = Vec::new();
    let mut rest = buf;
    let mut at = from;
    while !rest.is_empty() {
        let page = at / PAGE;
        let len = rest.len().min((page + 1) * PAGE - at);
        let (part, behind) = rest.split_at_mut(len);
        if wanted >> page & 1 == 1 {
            found.push((at, part));
        }
        rest = behind;
        at += len;
    }
    found
}

pub(super) fn fill_pages(from: usize, buf: &mut [u8], wanted: u16) {
    for (_, part) in parts(from, buf, wanted) {
        part.fill(0);
    }
}

/// Copies the wanted pages that the entry has; returns those that it has not.
pub(super) fn copy_pages<S: Storage>(
    from_log: &RingWal<S>,
    entry: &Block,
    from: usize,
    buf: &mut [u8],
    wanted: u16,
) -> Result<u16, BlockError> {
    let mut missing = wanted;
    let end = from + buf.len();
    let mut page = from / PAGE;
    while page * PAGE < end {
        // What of the page is asked for.
        let (start, stop) = ((page * PAGE).max(from), ((page + 1) * PAGE).min(end));
        let mut count = 1;
        match entry.page(page) {
            _ if wanted >> page & 1 == 0 => {}
            PageState::Absent => {}
            PageState::Zero => {
                buf[start - from..stop - from].fill(0);
                missing &= !(1 << page);
            }
            PageState::Logged(logged) if stop - start < PAGE => {
                let mut bytes = [0; PAGE];
                read_page(from_log, logged, &mut bytes)?;
                let part = &bytes[start - page * PAGE..stop - page * PAGE];
                buf[start - from..stop - from].copy_from_slice(part);
                missing &= !(1 << page);
            }
            PageState::Logged(logged) => {
                let whole_end = (end / PAGE).min(PAGES_PER_BLOCK as usize);
                let run = run(entry, page..whole_end, logged.place, wanted);
                count = run.len();
                let buf = &mut buf[start - from..][..count * PAGE];
                from_log.read_payload(logged.place, buf).map_err(log)?;
                for (index, (logged, bytes)) in run.iter().zip(buf.chunks_exact(PAGE)).enumerate() {
                    check(from_log, *logged, bytes)?;
                    missing &= !(1 << (page + index));
                }
            }
        }
        page += count;
    }
    Ok(missing)
}

/// The first of these pages that are wanted and lie behind each other in the log, from `place` on.
fn run(entry: &Block, pages: Range<usize>, place: RingPlace, wanted: u16) -> Vec<Logged> {
    let goes_on = |(page, index): (usize, u64)| match entry.page(page) {
        PageState::Logged(logged) => {
            let is_next = logged.place == place.plus(index * PAGE_BYTES);
            (is_next && wanted >> page & 1 == 1).then_some(logged)
        }
        _ => None,
    };
    pages.zip(0..).map_while(goes_on).collect()
}

/// The bytes of a page that the log has.
pub(super) fn read_page<S: Storage>(
    from_log: &RingWal<S>,
    logged: Logged,
    out: &mut [u8; PAGE],
) -> Result<(), BlockError> {
    from_log.read_payload(logged.place, out).map_err(log)?;
    check(from_log, logged, out)
}

fn check<S: Storage>(
    from_log: &RingWal<S>,
    logged: Logged,
    bytes: &[u8],
) -> Result<(), BlockError> {
    if logged.is_of(bytes) {
        return Ok(());
    }
    let offset = from_log.offset_of(logged.place);
    Err(BlockError::LogDamaged { offset })
}

const _: () = assert!(PAGES_PER_BLOCK == 16);
