//! Whole small files: a header, sections that are read and written as one piece, a table.
//!
//! Layout written: header, sections each on a multiple of 8 bytes, table last, no tail. The
//! encoding of the same sections is the same bytes.

use alloc::vec;
use alloc::vec::Vec;

use coldframe_units::{Arch, PageSize, RootHash};

use crate::table::{encode_table, range};
use crate::{
    DecodeError, DecodeErrorKind as Kind, EncodeError, Format, HEADER_LEN, Header, Limits,
    Producer, Section, SectionFlags, SectionKind, SectionTable, check_zeros,
};

/// A whole file, its header, table, padding and section hashes checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container<'a> {
    header: Header,
    table: SectionTable,
    file: &'a [u8],
}

/// A section with its checked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Body<'a> {
    section: Section,
    bytes: &'a [u8],
}

impl<'a> Body<'a> {
    /// Its row in the table.
    #[must_use]
    pub const fn section(&self) -> &Section {
        &self.section
    }

    /// Its bytes.
    #[must_use]
    pub const fn body(&self) -> &'a [u8] {
        self.bytes
    }

    /// An error of this kind at `offset` bytes into the body.
    #[must_use]
    pub const fn error(&self, kind: Kind, offset: u64) -> DecodeError {
        DecodeError::new(kind, self.section.offset.saturating_add(offset))
    }
}

impl<'a> Container<'a> {
    /// Checks a file in the order length, magic, format, version, header checksum, limits, table
    /// hash, rows, padding, section hashes. Nothing is decoded by a codec here.
    ///
    /// # Errors
    /// [`DecodeError`] naming the first thing that does not hold.
    pub fn decode(file: &'a [u8], format: Format, limits: Limits) -> Result<Self, DecodeError> {
        let header = Header::decode(file, format)?;
        let container = Self::with_header(file, header, limits)?;
        for section in container.table.sections() {
            if section.flags.is_hashed_by_format() {
                let kind = Kind::Invalid {
                    field: "section flags",
                };
                return Err(DecodeError::new(kind, section.offset));
            }
            section.body(file, limits)?;
        }
        Ok(container)
    }

    /// Checks header, table and padding of any coldframe file that is wholly in memory, whatever
    /// its format and version; section hashes are left to [`Section::body`].
    ///
    /// # Errors
    /// As [`Container::decode`], without version and section hashes.
    pub fn peek(file: &'a [u8], limits: Limits) -> Result<Self, DecodeError> {
        Self::with_header(file, Header::peek(file)?, limits)
    }

    fn with_header(file: &'a [u8], header: Header, limits: Limits) -> Result<Self, DecodeError> {
        let have = u64::try_from(file.len()).unwrap_or(u64::MAX);
        let table_len = SectionTable::len_bytes(&header, limits)?;
        if have < header.file_len {
            let kind = Kind::Truncated {
                need: header.file_len,
                have,
            };
            return Err(DecodeError::new(kind, have));
        }
        if have > header.file_len {
            let kind = Kind::TrailingBytes {
                expected: header.file_len,
                found: have,
            };
            return Err(DecodeError::new(kind, header.file_len));
        }
        let table = range(file, header.table_offset, table_len)?;
        let table = SectionTable::decode(&header, table, limits)?;
        for (offset, len) in table.gaps() {
            check_zeros(range(file, offset, len)?, offset)?;
        }
        Ok(Self {
            header,
            table,
            file,
        })
    }

    /// The header.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// The table.
    #[must_use]
    pub const fn table(&self) -> &SectionTable {
        &self.table
    }

    /// The hash that identifies the whole file.
    #[must_use]
    pub fn root(&self) -> RootHash {
        self.header.root()
    }

    /// Every section with its body, in file order.
    pub fn bodies(&self) -> impl Iterator<Item = Body<'a>> + '_ {
        self.table.sections().iter().filter_map(|section| {
            let bytes = range(self.file, section.offset, section.len).ok()?;
            Some(Body {
                section: *section,
                bytes,
            })
        })
    }

    /// The body of this kind and instance, if there is one.
    #[must_use]
    pub fn find(&self, kind: SectionKind, instance: u32) -> Option<Body<'a>> {
        self.bodies()
            .find(|body| body.section.kind == kind && body.section.instance == instance)
    }

    /// The body of this kind and instance.
    ///
    /// # Errors
    /// [`Kind::MissingSection`].
    pub fn require(&self, kind: SectionKind, instance: u32) -> Result<Body<'a>, DecodeError> {
        self.table.require(kind, instance)?;
        let missing = Kind::MissingSection { kind, instance };
        self.find(kind, instance)
            .ok_or(DecodeError::new(missing, self.header.table_offset))
    }

    /// Refuses the file if it has a must-understand section whose kind is not among `known`.
    ///
    /// # Errors
    /// [`Kind::UnknownSection`] naming the first.
    pub fn refuse_unknown(&self, known: &[SectionKind]) -> Result<(), DecodeError> {
        let unknown =
            self.table.sections().iter().find(|section| {
                section.flags.is_must_understand() && !known.contains(&section.kind)
            });
        match unknown {
            None => Ok(()),
            Some(section) => {
                let Section {
                    kind,
                    instance,
                    offset,
                    ..
                } = *section;
                Err(DecodeError::new(
                    Kind::UnknownSection { kind, instance },
                    offset,
                ))
            }
        }
    }
}

/// Builds a whole file section by section.
#[derive(Clone, Debug)]
pub struct ContainerBuilder {
    format: Format,
    producer: Producer,
    arch: Option<Arch>,
    page_size: Option<PageSize>,
    flags: u32,
    sections: Vec<(Section, Vec<u8>)>,
    limits: Limits,
}

impl ContainerBuilder {
    /// A file of this format without sections, held to [`Limits::SMALL_FILE`].
    #[must_use]
    pub const fn new(format: Format, producer: Producer) -> Self {
        let (arch, page_size) = (None, None);
        let limits = Limits::SMALL_FILE;
        Self {
            format,
            producer,
            arch,
            page_size,
            flags: 0,
            sections: Vec::new(),
            limits,
        }
    }

    /// The same, for a guest of this architecture.
    #[must_use]
    pub fn with_arch(self, arch: Arch) -> Self {
        Self {
            arch: Some(arch),
            ..self
        }
    }

    /// The same, with this page size in the header.
    #[must_use]
    pub fn with_page_size(self, page_size: PageSize) -> Self {
        Self {
            page_size: Some(page_size),
            ..self
        }
    }

    /// The same, with these flags of the format.
    #[must_use]
    pub fn with_flags(self, flags: u32) -> Self {
        Self { flags, ..self }
    }

    /// Adds a section that a reader must understand.
    pub fn must_understand(
        &mut self,
        kind: SectionKind,
        instance: u32,
        version: u16,
        body: Vec<u8>,
    ) {
        self.section(kind, instance, version, SectionFlags::MUST_UNDERSTAND, body);
    }

    /// Adds a section that a reader may pass over.
    pub fn optional(&mut self, kind: SectionKind, instance: u32, version: u16, body: Vec<u8>) {
        self.section(kind, instance, version, SectionFlags::OPTIONAL, body);
    }

    /// Adds a section.
    pub fn section(
        &mut self,
        kind: SectionKind,
        instance: u32,
        version: u16,
        flags: SectionFlags,
        body: Vec<u8>,
    ) {
        let len = u64::try_from(body.len()).unwrap_or(u64::MAX);
        let hash = *blake3::hash(&body).as_bytes();
        let section = Section {
            kind,
            instance,
            version,
            flags,
            offset: 0,
            len,
            hash,
        };
        self.sections.push((section, body));
    }

    /// The file's bytes and its root.
    ///
    /// # Errors
    /// [`EncodeError`] if a section stands twice, or a reader would refuse the size.
    pub fn finish(self) -> Result<(Vec<u8>, RootHash), EncodeError> {
        let count = u64::try_from(self.sections.len()).unwrap_or(u64::MAX);
        check_limit("section_count", count, self.limits.sections_max.into())?;
        let mut file = vec![0; usize::try_from(HEADER_LEN).unwrap_or_default()];
        let mut rows: Vec<Section> = Vec::with_capacity(self.sections.len());
        for (mut section, body) in self.sections {
            let (kind, instance) = (section.kind, section.instance);
            if rows
                .iter()
                .any(|row| row.kind == kind && row.instance == instance)
            {
                return Err(EncodeError::DuplicateSection { kind, instance });
            }
            check_limit("section length", section.len, self.limits.section_bytes_max)?;
            section.offset = pad(&mut file);
            file.extend_from_slice(&body);
            rows.push(section);
        }
        let table_offset = pad(&mut file);
        let table = encode_table(&rows);
        file.extend_from_slice(&table);
        let file_len = u64::try_from(file.len()).unwrap_or(u64::MAX);
        check_limit("file_len", file_len, self.limits.file_bytes_max)?;
        let header = Header {
            format: self.format.id(),
            version: self.format.version(),
            arch: self.arch,
            page_size: self.page_size,
            flags: self.flags,
            file_len,
            table_offset,
            section_count: u32::try_from(rows.len()).unwrap_or(u32::MAX),
            codec: self.format.codec(),
            table_hash: *blake3::hash(&table).as_bytes(),
            producer: self.producer,
        };
        for (to, from) in file.iter_mut().zip(header.encode()) {
            *to = from;
        }
        Ok((file, header.root()))
    }
}

fn check_limit(what: &'static str, found: u64, limit: u64) -> Result<(), EncodeError> {
    if found > limit {
        return Err(EncodeError::LimitExceeded { what, limit, found });
    }
    Ok(())
}

/// Pads to a multiple of 8 bytes and says where that is.
fn pad(file: &mut Vec<u8>) -> u64 {
    file.resize(file.len().next_multiple_of(8), 0);
    u64::try_from(file.len()).unwrap_or(u64::MAX)
}
