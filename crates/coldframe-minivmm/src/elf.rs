//! Reads an ELF64 image: which bytes go where, and where it is entered. Pure, for hostile input.
//!
//! Invariants: nothing is allocated beyond the list of segments, of which there are at most 64;
//! every range handed out lies within the file.

use std::ops::Range;

use coldframe_units::GuestAddr;

/// The most program headers.
const SEGMENTS_MAX: u16 = 64;
/// Length of the file header.
const HEADER_BYTES: usize = 64;
/// Length of a program header.
const ROW_BYTES: usize = 56;
/// `PT_LOAD`.
const LOAD: u32 = 1;
/// `EM_MACHINE`.
const MACHINE: u16 = crate::boot::ELF_MACHINE;

/// Why bytes are no ELF64 image that can be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ElfError {
    /// The file ends inside a header.
    #[error("the file ends before the header at {offset:#x} does")]
    Truncated {
        /// Where the header begins.
        offset: u64,
    },
    /// It does not begin with the ELF magic.
    #[error("no ELF image")]
    BadMagic,
    /// It is ELF, but not of the one kind that is loaded.
    #[error("not a 64-bit little-endian x86-64 executable")]
    WrongKind,
    /// The table of program headers has rows of another size, or too many.
    #[error("{count} program headers of {row_bytes} bytes; at most 64 of 56 are read")]
    Table {
        /// Rows.
        count: u16,
        /// Their size.
        row_bytes: u16,
    },
    /// A segment's bytes do not lie within the file, or are more than its size in memory.
    #[error("program header {index} names bytes outside the file or outside its memory")]
    Segment {
        /// The program header's index.
        index: u16,
    },
    /// Nothing is to be loaded.
    #[error("the image has no segment to load")]
    NoSegments,
    /// The entry point lies in no segment.
    #[error("the entry point {entry} lies in no segment")]
    Entry {
        /// The entry point.
        entry: GuestAddr,
    },
}

/// A part of the image that is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Its bytes in the file.
    pub(crate) file: Range<usize>,
    /// Where they go.
    pub(crate) addr: u64,
    /// Its length in memory; what the file does not give is zero.
    pub(crate) memory_len: u64,
}

/// The segments to load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Image {
    /// In the order of the file.
    pub(crate) segments: Vec<Segment>,
    /// The first instruction.
    pub(crate) entry: u64,
}

/// Whether `bytes` begin as an ELF file does.
pub(crate) fn is_elf(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x7fELF")
}

/// Reads the headers of `bytes`.
pub(crate) fn decode(bytes: &[u8]) -> Result<Image, ElfError> {
    if !is_elf(bytes) {
        return Err(ElfError::BadMagic);
    }
    let header = bytes
        .first_chunk::<HEADER_BYTES>()
        .ok_or(ElfError::Truncated { offset: 0 })?;
    let kind = u16_at(header, 16);
    if header[4] != 2 || header[5] != 1 || u16_at(header, 18) != MACHINE || !matches!(kind, 2 | 3) {
        return Err(ElfError::WrongKind);
    }
    let (row_bytes, count) = (u16_at(header, 54), u16_at(header, 56));
    if usize::from(row_bytes) != ROW_BYTES || count > SEGMENTS_MAX {
        return Err(ElfError::Table { count, row_bytes });
    }
    let table = u64_at(header, 32);
    let mut segments = Vec::new();
    for index in 0..count {
        segments.extend(segment(bytes, table, index)?);
    }
    if segments.is_empty() {
        return Err(ElfError::NoSegments);
    }
    let entry = u64_at(header, 24);
    let entered = |s: &Segment| entry >= s.addr && entry - s.addr < s.memory_len;
    if !segments.iter().any(entered) {
        let entry = GuestAddr::new(entry);
        return Err(ElfError::Entry { entry });
    }
    Ok(Image { segments, entry })
}

/// The segment that program header `index` names; none if it is not to be loaded.
fn segment(bytes: &[u8], table: u64, index: u16) -> Result<Option<Segment>, ElfError> {
    let truncated = ElfError::Truncated { offset: table };
    let at = usize::try_from(table)
        .ok()
        .and_then(|table| table.checked_add(usize::from(index) * ROW_BYTES))
        .ok_or(truncated)?;
    let row = bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk::<ROW_BYTES>())
        .ok_or(truncated)?;
    let kind = u32::from_le_bytes([row[0], row[1], row[2], row[3]]);
    let (offset, addr) = (u64_at(row, 8), u64_at(row, 24));
    let (file_len, memory_len) = (u64_at(row, 32), u64_at(row, 40));
    if kind != LOAD || memory_len == 0 {
        return Ok(None);
    }
    let bad = ElfError::Segment { index };
    let end = offset.checked_add(file_len).ok_or(bad)?;
    let in_file = usize::try_from(end).is_ok_and(|end| end <= bytes.len());
    if !in_file || file_len > memory_len || addr.checked_add(memory_len).is_none() {
        return Err(bad);
    }
    let start = usize::try_from(offset).map_err(|_| bad)?;
    let end = usize::try_from(end).map_err(|_| bad)?;
    Ok(Some(Segment {
        file: start..end,
        addr,
        memory_len,
    }))
}

/// The `u16` at `at`, which lies within the fixed header.
fn u16_at<const N: usize>(header: &[u8; N], at: usize) -> u16 {
    u16::from_le_bytes([header[at], header[at + 1]])
}

/// The `u64` at `at`, which lies within the fixed header.
fn u64_at<const N: usize>(header: &[u8; N], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&header[at..at + 8]);
    u64::from_le_bytes(word)
}
