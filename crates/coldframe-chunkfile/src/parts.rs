//! What packs and indexes share: one large section right behind the header, small ones behind it,
//! the section table last.
//!
//! Invariant: [`Parts`] has every section that its format asks for, in order, without bytes between
//! that belong to nothing; bodies are checked against their hashes when they are asked for.

use alloc::vec::Vec;

use coldframe_envelope::{
    DecodeError, DecodeErrorKind as Error, Format, HEADER_LEN, Header, Limits, Producer,
    SECTION_ROW_LEN, Section, SectionFlags, SectionKind, SectionTable, check_zeros, encode_table,
};
use coldframe_units::{ByteLen, FileOffset, RootHash};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use crate::BuildError;
use crate::error::check_limit;
use crate::layout::SECTION_VERSION;

/// The sections of a format, in the order in which they stand.
pub(crate) struct Shape {
    pub format: Format,
    /// The large section, hashed by the format.
    pub front: SectionKind,
    /// The sections behind it.
    pub tail: &'static [SectionKind],
}

/// The front and the end of a file, taken apart.
pub(crate) struct Parts<'a> {
    pub header: Header,
    pub front: Section,
    table: SectionTable,
    tail: &'a [u8],
    tail_offset: u64,
    limits: Limits,
}

impl<'a> Parts<'a> {
    /// From the header's bytes and those from `tail_offset` to the end of the file.
    pub fn open(
        shape: &Shape,
        header: &[u8],
        tail: &'a [u8],
        tail_offset: FileOffset,
        limits: Limits,
    ) -> Result<Self, DecodeError> {
        let header = Header::decode(header, shape.format)?;
        let table_len = SectionTable::len_bytes(&header, limits)?;
        let tail_offset = tail_offset.get();
        check_end(&header, tail, tail_offset)?;
        let table = range(tail, tail_offset, header.table_offset, table_len)?;
        let table = SectionTable::decode(&header, table, limits)?;
        check_plain(&header)?;
        check_order(&table, shape)?;
        check_places(&header, &table)?;
        let front = *table.require(shape.front, 0)?;
        for (offset, len) in table.gaps() {
            check_zeros(range(tail, tail_offset, offset, len)?, offset)?;
        }
        Ok(Self {
            header,
            front,
            table,
            tail,
            tail_offset,
            limits,
        })
    }

    pub fn find(&self, kind: SectionKind) -> Option<&Section> {
        self.table.find(kind, 0)
    }

    /// The rows of a section that must be there, their hash checked, and where they begin.
    pub fn rows<T>(&self, kind: SectionKind) -> Result<(&'a [T], u64), DecodeError>
    where
        T: FromBytes + Immutable + KnownLayout + Unaligned,
    {
        let section = self.table.require(kind, 0)?;
        let body = range(self.tail, self.tail_offset, section.offset, section.len)?;
        section.check(body, self.limits)?;
        let rows =
            <[T]>::ref_from_bytes(body).map_err(|_| invalid("section length", section.offset))?;
        Ok((rows, section.offset))
    }

    /// The one row of a section.
    pub fn row<T>(&self, kind: SectionKind) -> Result<(&'a T, u64), DecodeError>
    where
        T: FromBytes + Immutable + KnownLayout + Unaligned,
    {
        match self.rows(kind)? {
            ([row], offset) => Ok((row, offset)),
            (_, offset) => Err(invalid("section length", offset)),
        }
    }

    /// Checks the hashes of all sections behind the front, the unknown ones too.
    pub fn check_all(&self) -> Result<(), DecodeError> {
        for section in self.table.sections() {
            if !section.flags.is_hashed_by_format() {
                let body = range(self.tail, self.tail_offset, section.offset, section.len)?;
                section.check(body, self.limits)?;
            }
        }
        Ok(())
    }
}

/// Where the section table lies, from a file's first 160 bytes.
pub(crate) fn table_range(
    shape: &Shape,
    header: &[u8],
    limits: Limits,
) -> Result<(FileOffset, ByteLen), DecodeError> {
    let header = Header::decode(header, shape.format)?;
    let len = SectionTable::len_bytes(&header, limits)?;
    Ok((FileOffset::new(header.table_offset), ByteLen::new(len)))
}

/// Where the sections behind the front lie, from the bytes of header and section table.
pub(crate) fn tail_range(
    shape: &Shape,
    header: &[u8],
    table: &[u8],
    limits: Limits,
) -> Result<(FileOffset, ByteLen), DecodeError> {
    let header = Header::decode(header, shape.format)?;
    let table = SectionTable::decode(&header, table, limits)?;
    let start = table.require(shape.front, 0)?.end();
    let len = header.file_len.saturating_sub(start);
    // Held against the limit here: the caller is about to allocate it.
    let limit = limits.section_bytes_max;
    if len > limit {
        let what = "length of the tables";
        let found = len;
        let kind = Error::LimitExceeded { what, limit, found };
        return Err(DecodeError::new(kind, start));
    }
    Ok((FileOffset::new(start), ByteLen::new(len)))
}

/// Chunk files are of no architecture and no page size, and their headers name none.
pub(crate) fn check_plain(header: &Header) -> Result<(), DecodeError> {
    if header.arch.is_some() {
        return Err(invalid("arch", 16));
    }
    if header.page_size.is_some() {
        return Err(invalid("page_size_log2", 17));
    }
    Ok(())
}

fn check_end(header: &Header, tail: &[u8], tail_offset: u64) -> Result<(), DecodeError> {
    let have = tail_offset.saturating_add(len_of(tail));
    let need = header.file_len;
    if have < need {
        return Err(DecodeError::new(Error::Truncated { need, have }, have));
    }
    if have > need {
        let (expected, found) = (need, have);
        return Err(DecodeError::new(
            Error::TrailingBytes { expected, found },
            need,
        ));
    }
    Ok(())
}

/// Bytes of the file out of those that begin at `from`.
pub(crate) fn range(bytes: &[u8], from: u64, offset: u64, len: u64) -> Result<&[u8], DecodeError> {
    let outside = invalid("tail_offset", offset);
    let start = offset.checked_sub(from).ok_or(outside)?;
    let end = start.checked_add(len).ok_or(outside)?;
    let start = usize::try_from(start).map_err(|_| outside)?;
    let end = usize::try_from(end).map_err(|_| outside)?;
    bytes.get(start..end).ok_or(outside)
}

fn check_order(table: &SectionTable, shape: &Shape) -> Result<(), DecodeError> {
    let mut expected = shape.tail.iter();
    let mut is_first = true;
    for section in table.sections() {
        let (kind, instance, offset) = (section.kind, section.instance, section.offset);
        let is_front = instance == 0 && kind == shape.front;
        if is_first != is_front {
            return Err(invalid("order of the sections", offset));
        }
        is_first = false;
        let is_known = is_front || instance == 0 && shape.tail.contains(&kind);
        if !is_known {
            if section.flags.is_must_understand() {
                let error = Error::UnknownSection { kind, instance };
                return Err(DecodeError::new(error, offset));
            }
            continue;
        }
        if !is_front && !expected.any(|due| *due == kind) {
            return Err(invalid("order of the sections", offset));
        }
        let flags_due = if is_front {
            SectionFlags::HASHED_BY_FORMAT
        } else {
            SectionFlags::MUST_UNDERSTAND
        };
        if section.flags != flags_due {
            return Err(invalid("section flags", offset));
        }
        check_version(section)?;
    }
    Ok(())
}

fn check_version(section: &Section) -> Result<(), DecodeError> {
    let (kind, instance, found) = (section.kind, section.instance, section.version);
    if found > SECTION_VERSION {
        let max = SECTION_VERSION;
        let error = Error::UnsupportedSection {
            kind,
            instance,
            found,
            max,
        };
        return Err(DecodeError::new(error, section.offset));
    }
    if found != SECTION_VERSION {
        return Err(invalid("section version", section.offset));
    }
    Ok(())
}

/// The front begins right behind the header; each later section where the one before it ends,
/// rounded up to 8; then the table, then the end.
fn check_places(header: &Header, table: &SectionTable) -> Result<(), DecodeError> {
    let mut free_from = HEADER_LEN;
    for section in table.sections() {
        if free_from.checked_next_multiple_of(8) != Some(section.offset) {
            return Err(invalid("section offset", section.offset));
        }
        free_from = section.end();
    }
    if free_from.checked_next_multiple_of(8) != Some(header.table_offset) {
        return Err(invalid("table_offset", header.table_offset));
    }
    let table_len = u64::from(header.section_count).saturating_mul(SECTION_ROW_LEN);
    if header.table_offset.saturating_add(table_len) != header.file_len {
        return Err(invalid("file_len", header.table_offset));
    }
    Ok(())
}

pub(crate) const fn invalid(field: &'static str, offset: u64) -> DecodeError {
    DecodeError::new(Error::Invalid { field }, offset)
}

/// A length as a number of the format.
pub(crate) fn len_of(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// Lays the sections one after the other behind the front.
pub(crate) struct PartsBuilder {
    format: Format,
    limits: Limits,
    tail: Vec<u8>,
    sections: Vec<Section>,
}

/// All of a file but its front.
pub(crate) struct Built {
    pub header: [u8; 160],
    pub tail_offset: FileOffset,
    pub tail: Vec<u8>,
    pub file_len: ByteLen,
    pub root: RootHash,
}

impl PartsBuilder {
    /// For a front of so many bytes.
    pub fn new(shape: &Shape, limits: Limits, front_len: u64) -> Self {
        let front = Section {
            kind: shape.front,
            instance: 0,
            version: SECTION_VERSION,
            flags: SectionFlags::HASHED_BY_FORMAT,
            offset: HEADER_LEN,
            len: front_len,
            hash: [0; 32],
        };
        let mut built = Self {
            format: shape.format,
            limits,
            tail: Vec::new(),
            sections: alloc::vec![front],
        };
        built.pad();
        built
    }

    fn end(&self) -> u64 {
        let front = self.sections.first().map_or(HEADER_LEN, Section::end);
        front.saturating_add(len_of(&self.tail))
    }

    fn pad(&mut self) {
        let to = self.end().next_multiple_of(8).saturating_sub(self.end());
        let len = self.tail.len();
        let to = usize::try_from(to).unwrap_or(0);
        self.tail.resize(len.saturating_add(to), 0);
    }

    pub fn section(&mut self, kind: SectionKind, body: &[u8]) -> Result<(), BuildError> {
        let len = len_of(body);
        check_limit(
            "section length in bytes",
            len,
            self.limits.section_bytes_max,
        )?;
        self.sections.push(Section {
            kind,
            instance: 0,
            version: SECTION_VERSION,
            flags: SectionFlags::MUST_UNDERSTAND,
            offset: self.end(),
            len,
            hash: *blake3::hash(body).as_bytes(),
        });
        self.tail.extend_from_slice(body);
        self.pad();
        Ok(())
    }

    pub fn finish(mut self, producer: Producer) -> Result<Built, BuildError> {
        let table = encode_table(&self.sections);
        let table_offset = self.end();
        self.tail.extend_from_slice(&table);
        let file_len = self.end();
        check_limit("file_len", file_len, self.limits.file_bytes_max)?;
        let tail_limit = self.limits.section_bytes_max;
        check_limit("length of the tables", len_of(&self.tail), tail_limit)?;
        let header = Header {
            format: self.format.id(),
            version: self.format.version(),
            arch: None,
            page_size: None,
            flags: 0,
            file_len,
            table_offset,
            section_count: u32::try_from(self.sections.len()).unwrap_or(u32::MAX),
            codec: self.format.codec(),
            table_hash: *blake3::hash(&table).as_bytes(),
            producer,
        };
        let tail_offset = self.sections.first().map_or(HEADER_LEN, Section::end);
        Ok(Built {
            header: header.encode(),
            tail_offset: FileOffset::new(tail_offset),
            tail: self.tail,
            file_len: ByteLen::new(file_len),
            root: header.root(),
        })
    }
}
