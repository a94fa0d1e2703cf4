//! The parts of RAM that are not plugged in: apart from zero, which is what their bytes are here.
//!
//! Invariant: parts ascend, lie apart, are of whole pages of 4 KiB and end inside RAM.

use alloc::vec::Vec;

use coldframe_units::{ByteLen, RamOffset};
use zerocopy::little_endian::U64;

use crate::layout::{ABSENT_UNIT, AbsentBytes};

/// A part of RAM that is not plugged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbsentPart {
    /// Where it begins, a multiple of 4 KiB.
    pub start: RamOffset,
    /// How long it is, a multiple of 4 KiB and not 0.
    pub len: ByteLen,
}

impl AbsentPart {
    pub(crate) fn decode(row: &AbsentBytes) -> Self {
        Self {
            start: RamOffset::new(row.ram_offset.get()),
            len: ByteLen::new(row.len.get()),
        }
    }

    pub(crate) fn encode(&self) -> AbsentBytes {
        AbsentBytes {
            ram_offset: U64::new(self.start.get()),
            len: U64::new(self.len.get()),
        }
    }
}

/// The first of the parts that breaks a rule, by its number.
pub(crate) fn find_bad(parts: &[AbsentPart], ram_len: u64) -> Option<usize> {
    // One past the end of the part before: parts that touch would be one.
    let mut free_from = 0;
    parts.iter().position(|part| {
        let (start, len) = (part.start.get(), part.len.get());
        let end = start.checked_add(len).filter(|end| *end <= ram_len);
        let is_whole = start.is_multiple_of(ABSENT_UNIT) && len.is_multiple_of(ABSENT_UNIT);
        let Some(end) = end.filter(|_| is_whole && len > 0 && start >= free_from) else {
            return true;
        };
        free_from = end.saturating_add(1);
        false
    })
}

/// Joins parts that touch; they ascend and do not overlap, else they stay as they are.
pub(crate) fn joined(parts: impl IntoIterator<Item = AbsentPart>) -> Vec<AbsentPart> {
    let mut joined: Vec<AbsentPart> = Vec::new();
    for part in parts {
        match joined.last_mut() {
            Some(last)
                if last.start.get().checked_add(last.len.get()) == Some(part.start.get()) =>
            {
                last.len = ByteLen::new(last.len.get().saturating_add(part.len.get()));
            }
            _ => joined.push(part),
        }
    }
    joined
}
