//! The section table: rows in rising offset that neither overlap nor leave the file.
//!
//! Invariant: in a [`SectionTable`] every row lies between header and end of file, the rows and
//! the table do not overlap, and no (kind, instance) stands twice. Bodies are still unchecked.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::fmt;

use zerocopy::FromBytes;
use zerocopy::little_endian::{U16, U32, U64};

use crate::layout::SectionRow;
use crate::{DecodeError, DecodeErrorKind as Kind, HEADER_LEN, Header, Limits, SECTION_ROW_LEN};

/// A four-byte name, of a section or of a format: printable ASCII by convention.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SectionKind([u8; 4]);

impl SectionKind {
    /// The kind of this name.
    #[must_use]
    pub const fn new(name: [u8; 4]) -> Self {
        Self(name)
    }

    /// Its four bytes.
    #[must_use]
    pub const fn bytes(self) -> [u8; 4] {
        self.0
    }
}

impl fmt::Display for SectionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|byte| write!(f, "{}", byte.escape_ascii()))
    }
}

impl fmt::Debug for SectionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SectionKind({self})")
    }
}

/// Flags of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectionFlags(u16);

impl SectionFlags {
    /// A reader that does not know the section may pass over it.
    pub const OPTIONAL: Self = Self(0);
    /// A reader that does not know the section must refuse the file.
    pub const MUST_UNDERSTAND: Self = Self(1);
    /// As must-understand; the row's hash is zero, since tables of the format hold finer hashes.
    pub const HASHED_BY_FORMAT: Self = Self(3);

    /// Whether an unknown section of this kind refuses the file.
    #[must_use]
    pub const fn is_must_understand(self) -> bool {
        self.0 & 1 != 0
    }

    /// Whether the section's bytes are hashed by tables of the format.
    #[must_use]
    pub const fn is_hashed_by_format(self) -> bool {
        self.0 & 2 != 0
    }

    const fn from_code(code: u16) -> Option<Self> {
        match code {
            0 | 1 | 3 => Some(Self(code)),
            _ => None,
        }
    }
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section {
    /// What it holds.
    pub kind: SectionKind,
    /// Which of its kind, counted by the format (a vCPU's index, say).
    pub instance: u32,
    /// The version of its body.
    pub version: u16,
    /// How unknown readers treat it.
    pub flags: SectionFlags,
    /// Where its body begins in the file, in bytes.
    pub offset: u64,
    /// How long its body is, in bytes.
    pub len: u64,
    /// The BLAKE3 hash of its body; zero if hashed by the format.
    pub hash: [u8; 32],
}

impl Section {
    /// The byte after its last.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.offset.saturating_add(self.len)
    }

    /// Its row in the table.
    #[must_use]
    pub fn encode(&self) -> [u8; 64] {
        zerocopy::transmute!(SectionRow {
            kind: self.kind.0,
            instance: U32::new(self.instance),
            version: U16::new(self.version),
            flags: U16::new(self.flags.0),
            reserved: U32::new(0),
            offset: U64::new(self.offset),
            len: U64::new(self.len),
            hash: self.hash,
        })
    }

    /// Its body out of the whole file, checked against its hash unless hashed by the format.
    ///
    /// # Errors
    /// [`DecodeError`]: truncated, over `limits.section_bytes_max`, hash.
    pub fn body<'a>(&self, file: &'a [u8], limits: Limits) -> Result<&'a [u8], DecodeError> {
        let body = range(file, self.offset, self.len)?;
        self.check(body, limits)?;
        Ok(body)
    }

    /// Checks a body that was read by other means.
    ///
    /// # Errors
    /// As [`Section::body`].
    pub fn check(&self, body: &[u8], limits: Limits) -> Result<(), DecodeError> {
        if self.flags.is_hashed_by_format() {
            return Ok(());
        }
        if self.len > limits.section_bytes_max {
            let (limit, found) = (limits.section_bytes_max, self.len);
            let kind = Kind::LimitExceeded {
                what: "section length in bytes",
                limit,
                found,
            };
            return Err(DecodeError::new(kind, self.offset));
        }
        if *blake3::hash(body).as_bytes() != self.hash {
            return Err(DecodeError::new(Kind::BodyHash, self.offset));
        }
        Ok(())
    }
}

/// `len` bytes of the file at `offset`, without overflow.
pub(crate) fn range(file: &[u8], offset: u64, len: u64) -> Result<&[u8], DecodeError> {
    let have = u64::try_from(file.len()).unwrap_or(u64::MAX);
    let need = offset.saturating_add(len);
    let truncated = DecodeError::new(Kind::Truncated { need, have }, have);
    let start = usize::try_from(offset).map_err(|_| truncated)?;
    let end = usize::try_from(need).map_err(|_| truncated)?;
    file.get(start..end).ok_or(truncated)
}

/// Checks that bytes which lie at `offset` of the file are all zero.
///
/// # Errors
/// [`Kind::ReservedNotZero`] with the offset of the first that is not.
pub fn check_zeros(bytes: &[u8], offset: u64) -> Result<(), DecodeError> {
    match bytes.iter().position(|byte| *byte != 0) {
        None => Ok(()),
        Some(index) => {
            let index = u64::try_from(index).unwrap_or(u64::MAX);
            Err(DecodeError::new(
                Kind::ReservedNotZero,
                offset.saturating_add(index),
            ))
        }
    }
}

/// The checked table of a file's sections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SectionTable {
    sections: Vec<Section>,
    table_offset: u64,
    file_len: u64,
}

impl SectionTable {
    /// Bytes that the table of this header takes, once its count is within the limits.
    ///
    /// # Errors
    /// [`DecodeError`]: too many sections, file too long, table not inside the file.
    pub fn len_bytes(header: &Header, limits: Limits) -> Result<u64, DecodeError> {
        let over = |what, limit, found, offset| {
            Err(DecodeError::new(
                Kind::LimitExceeded { what, limit, found },
                offset,
            ))
        };
        if header.section_count > limits.sections_max {
            let (limit, found) = (limits.sections_max.into(), header.section_count.into());
            return over("section_count", limit, found, 40);
        }
        if header.file_len > limits.file_bytes_max {
            return over("file_len", limits.file_bytes_max, header.file_len, 24);
        }
        let len = u64::from(header.section_count).saturating_mul(SECTION_ROW_LEN);
        let end = header.table_offset.saturating_add(len);
        if header.table_offset < HEADER_LEN || end > header.file_len {
            return Err(DecodeError::new(
                Kind::Invalid {
                    field: "table_offset",
                },
                32,
            ));
        }
        Ok(len)
    }

    /// Checks the table's bytes, read from `header.table_offset`.
    ///
    /// # Errors
    /// [`DecodeError`]: limits, hash, a row that leaves the file, overlaps or stands twice.
    pub fn decode(header: &Header, table: &[u8], limits: Limits) -> Result<Self, DecodeError> {
        let len = Self::len_bytes(header, limits)?;
        let table = range(table, 0, len)?;
        if *blake3::hash(table).as_bytes() != header.table_hash {
            return Err(DecodeError::new(Kind::BodyHash, header.table_offset));
        }
        let rows = <[SectionRow]>::ref_from_bytes(table)
            .map_err(|_| DecodeError::new(Kind::Invalid { field: "table" }, header.table_offset))?;
        let mut seen = BTreeSet::new();
        let mut sections = Vec::with_capacity(rows.len());
        let mut free_from = HEADER_LEN;
        let mut row_offset = header.table_offset;
        for row in rows {
            let section = decode_row(row, row_offset)?;
            let (kind, instance) = (section.kind, section.instance);
            if !seen.insert((kind, instance)) {
                let kind = Kind::DuplicateSection { kind, instance };
                return Err(DecodeError::new(kind, row_offset));
            }
            let table_end = header.table_offset.saturating_add(len);
            let apart = section.end() <= header.table_offset || section.offset >= table_end;
            let inside = section.offset >= free_from
                && section
                    .offset
                    .checked_add(section.len)
                    .is_some_and(|e| e <= header.file_len);
            if !apart || !inside {
                return Err(DecodeError::new(
                    Kind::Invalid {
                        field: "section range",
                    },
                    row_offset,
                ));
            }
            free_from = section.end();
            row_offset = row_offset.saturating_add(SECTION_ROW_LEN);
            sections.push(section);
        }
        Ok(Self {
            sections,
            table_offset: header.table_offset,
            file_len: header.file_len,
        })
    }

    /// The rows, in rising offset.
    #[must_use]
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// The row of this kind and instance, if there is one.
    #[must_use]
    pub fn find(&self, kind: SectionKind, instance: u32) -> Option<&Section> {
        self.sections
            .iter()
            .find(|row| row.kind == kind && row.instance == instance)
    }

    /// The row of this kind and instance.
    ///
    /// # Errors
    /// [`Kind::MissingSection`].
    pub fn require(&self, kind: SectionKind, instance: u32) -> Result<&Section, DecodeError> {
        let missing = DecodeError::new(Kind::MissingSection { kind, instance }, self.table_offset);
        self.find(kind, instance).ok_or(missing)
    }

    /// The stretches of the file (offset, length in bytes) that belong to nothing: they hold
    /// zeros.
    #[must_use]
    pub fn gaps(&self) -> Vec<(u64, u64)> {
        let table_len = u64::try_from(self.sections.len()).unwrap_or(u64::MAX);
        let table_len = table_len.saturating_mul(SECTION_ROW_LEN);
        let table = (
            self.table_offset,
            self.table_offset.saturating_add(table_len),
        );
        let mut used: Vec<(u64, u64)> = self
            .sections
            .iter()
            .map(|row| (row.offset, row.end()))
            .collect();
        used.push(table);
        used.sort_unstable();
        used.push((self.file_len, self.file_len));
        let mut from = HEADER_LEN;
        let mut gaps = Vec::new();
        for (start, end) in used {
            if start > from {
                gaps.push((from, start.saturating_sub(from)));
            }
            from = from.max(end);
        }
        gaps
    }
}

fn decode_row(row: &SectionRow, offset: u64) -> Result<Section, DecodeError> {
    let flags = SectionFlags::from_code(row.flags.get()).ok_or(DecodeError::new(
        Kind::Invalid {
            field: "section flags",
        },
        offset,
    ))?;
    let stray_hash = flags.is_hashed_by_format() && row.hash != [0; 32];
    if row.reserved.get() != 0 || stray_hash {
        return Err(DecodeError::new(Kind::ReservedNotZero, offset));
    }
    Ok(Section {
        kind: SectionKind(row.kind),
        instance: row.instance.get(),
        version: row.version.get(),
        flags,
        offset: row.offset.get(),
        len: row.len.get(),
        hash: row.hash,
    })
}

/// The bytes of a table of these rows; its BLAKE3 hash goes into the header.
#[must_use]
pub fn encode_table(sections: &[Section]) -> Vec<u8> {
    sections
        .iter()
        .flat_map(|section| section.encode())
        .collect()
}
