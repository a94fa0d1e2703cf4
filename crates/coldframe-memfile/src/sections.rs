//! Which sections a file has, and where: one after the other, the table last.
//!
//! Invariant: in [`Sections`] all that the format asks for is there, in order, without bytes
//! between that belong to nothing. Bodies are still unchecked.

use coldframe_envelope::{
    DecodeError, DecodeErrorKind as Error, Header, SECTION_ROW_LEN, Section, SectionFlags,
    SectionKind, SectionTable,
};

use crate::Kind;
use crate::extent::Geometry;
use crate::layout::{ABSN, BLKS, BPAG, DATA, EXTN, PRNT, REGN, SECTION_VERSION};

const FULL: &[SectionKind] = &[DATA, REGN, EXTN, BLKS, BPAG];
const DIFF: &[SectionKind] = &[DATA, REGN, PRNT, EXTN, BLKS, BPAG];

/// The rows of the sections that the format has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sections {
    pub data: Section,
    pub regions: Section,
    pub parent: Option<Section>,
    pub extents: Section,
    pub blocks: Section,
    pub block_pages: Section,
    pub absent: Option<Section>,
}

impl Sections {
    /// From the table of a file of this kind.
    pub fn new(header: &Header, table: &SectionTable, kind: Kind) -> Result<Self, DecodeError> {
        let known = match kind {
            Kind::Full => FULL,
            Kind::Diff => DIFF,
        };
        for kind in known {
            table.require(*kind, 0)?;
        }
        check_order(table, known)?;
        check_places(header, table)?;
        check_absent(table)?;
        Ok(Self {
            data: *table.require(DATA, 0)?,
            regions: *table.require(REGN, 0)?,
            parent: table.find(PRNT, 0).copied(),
            extents: *table.require(EXTN, 0)?,
            blocks: *table.require(BLKS, 0)?,
            block_pages: *table.require(BPAG, 0)?,
            absent: absent(table),
        })
    }

    /// Whether a row of the table is none of these.
    pub fn is_unknown(&self, section: &Section) -> bool {
        let known = [
            self.data,
            self.regions,
            self.extents,
            self.blocks,
            self.block_pages,
        ];
        !known.contains(section) && ![self.parent, self.absent].contains(&Some(*section))
    }

    /// Checks where the data section lies, as far as the extents need not be known.
    pub fn check_data(&self, geometry: Geometry) -> Result<(), DecodeError> {
        let Section { offset, len, .. } = self.data;
        if offset != geometry.data_offset() {
            return Err(invalid("data_offset", offset));
        }
        let fits = match geometry.kind {
            Kind::Full => len == geometry.ram_len,
            Kind::Diff => len <= geometry.ram_len && geometry.page_size.divides(len),
        };
        if fits {
            Ok(())
        } else {
            Err(invalid("length of the data section", offset))
        }
    }
}

/// The parts that are not plugged in: an optional section, of which another version is passed over.
fn absent(table: &SectionTable) -> Option<Section> {
    let section = table.find(ABSN, 0).copied();
    section.filter(|section| section.version == SECTION_VERSION)
}

/// The section of absent parts stands behind those that every file has.
fn check_absent(table: &SectionTable) -> Result<(), DecodeError> {
    let Some(section) = absent(table) else {
        return Ok(());
    };
    if section.offset < table.require(BPAG, 0)?.offset {
        return Err(invalid("order of the sections", section.offset));
    }
    Ok(())
}

/// The known sections stand in this order; others are refused if they must be understood.
fn check_order(table: &SectionTable, known: &[SectionKind]) -> Result<(), DecodeError> {
    let mut expected = known.iter();
    for section in table.sections() {
        let Section {
            kind,
            instance,
            version,
            flags,
            offset,
            ..
        } = *section;
        if instance != 0 || !known.contains(&kind) {
            if flags.is_must_understand() {
                let error = Error::UnknownSection { kind, instance };
                return Err(DecodeError::new(error, offset));
            }
            continue;
        }
        if expected.next() != Some(&kind) {
            return Err(invalid("order of the sections", offset));
        }
        let flags_due = match kind {
            DATA => SectionFlags::HASHED_BY_FORMAT,
            _ => SectionFlags::MUST_UNDERSTAND,
        };
        if flags != flags_due {
            return Err(invalid("section flags", offset));
        }
        if version > SECTION_VERSION {
            let error = Error::UnsupportedSection {
                kind,
                instance,
                found: version,
                max: SECTION_VERSION,
            };
            return Err(DecodeError::new(error, offset));
        }
        if version != SECTION_VERSION {
            return Err(invalid("section version", offset));
        }
    }
    Ok(())
}

/// From the data section on, each begins where the one before it ends, rounded up to 8; then the
/// table, then the end.
fn check_places(header: &Header, table: &SectionTable) -> Result<(), DecodeError> {
    let mut sections = table.sections().iter();
    let mut free_from = match sections.next() {
        Some(first) if first.kind == DATA => first.end(),
        _ => return Err(invalid("order of the sections", header.table_offset)),
    };
    for section in sections {
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
