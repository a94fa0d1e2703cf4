//! The dirty log: a bitmap for each slot.
//!
//! Invariant: with manual clearing only what was read, and is marked, is cleared; a page written
//! again in between stays or becomes dirty in the kernel.
//!
//! # Safety
//! The kernel writes as many bits as the slot has pages; the length comes from a
//! [`RegisteredSlot`], which carries it.
#![allow(unsafe_code)]

use coldframe_dirty::DirtyBitmap;
use coldframe_units::{ByteLen, PageIndex, RamOffset};

use crate::error::KvmError;
use crate::slot::{RegisteredSlot, SlotTable};
use crate::sys;

/// Words of one part that is cleared in one call: 2 MiB of bitmap would hold the kernel's lock for
/// long, one word at a time would cost a call for each 64 pages. A part begins at a multiple of 64
/// pages, as the kernel demands.
const PART_WORDS: usize = 512;

/// The logs of all slots, and room to read one.
#[derive(Debug)]
pub(super) struct Log {
    manual: bool,
    words: Vec<u64>,
}

impl Log {
    /// `manual`: reading does not clear.
    pub(super) const fn new(manual: bool) -> Self {
        Self {
            manual,
            words: Vec::new(),
        }
    }

    pub(super) fn harvest(
        &mut self,
        table: &SlotTable,
        into: &DirtyBitmap,
    ) -> Result<(), KvmError> {
        for slot in table.slots() {
            self.read(table, *slot)?;
            mark_words(table.page_bytes(), *slot, &self.words, into)?;
            if self.manual {
                self.clear(table, *slot)?;
            }
        }
        Ok(())
    }

    fn read(&mut self, table: &SlotTable, slot: RegisteredSlot) -> Result<(), KvmError> {
        let words = usize::try_from(slot.pages().div_ceil(64)).expect("64-bit targets only");
        self.words.clear();
        self.words.resize(words, 0);
        // SAFETY: the slot is registered in this table's machine with `slot.pages()` pages, and
        // there is a bit for each.
        let read = unsafe { sys::get_dirty_log(table.vm(), slot.slot(), &mut self.words) };
        read.map_err(|source| KvmError::GetDirtyLog {
            slot: slot.slot(),
            source,
        })
    }

    fn clear(&self, table: &SlotTable, slot: RegisteredSlot) -> Result<(), KvmError> {
        for (part, words) in self.words.chunks(PART_WORDS).enumerate() {
            if words.iter().all(|word| *word == 0) {
                continue;
            }
            let first_page = (part * PART_WORDS * 64) as u64;
            let pages = (slot.pages() - first_page).min(PART_WORDS as u64 * 64);
            let pages = u32::try_from(pages).expect("a part has at most 32768 pages");
            sys::clear_dirty_log(table.vm(), slot.slot(), first_page, pages, words).map_err(
                |source| KvmError::ClearDirtyLog {
                    slot: slot.slot(),
                    first_page,
                    source,
                },
            )?;
        }
        Ok(())
    }
}

/// Marks the pages of a log: word by word where the bitmap has the host's pages, or else run by
/// run.
fn mark_words(
    page_bytes: u64,
    slot: RegisteredSlot,
    words: &[u64],
    into: &DirtyBitmap,
) -> Result<(), KvmError> {
    let start = slot.ram_offset().get();
    if into.page_size().bytes() == page_bytes {
        let first = PageIndex::new(start / page_bytes);
        return into
            .mark_words(first, words)
            .map_err(|source| KvmError::MarkDirty { source });
    }
    for (index, word) in words.iter().enumerate() {
        let mut rest = *word;
        while rest != 0 {
            let skip = rest.trailing_zeros();
            let count = (rest >> skip).trailing_ones();
            let page = index as u64 * 64 + u64::from(skip);
            let offset = RamOffset::new(start + page * page_bytes);
            super::mark(into, offset, ByteLen::new(u64::from(count) * page_bytes))?;
            let end = skip + count;
            rest = if end == 64 { 0 } else { rest >> end << end };
        }
    }
    Ok(())
}
