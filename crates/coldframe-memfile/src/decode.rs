//! The view of a file: what opening checks, and what is checked when it is asked for.
//!
//! Invariant: a [`MemFile`] that exists has a checked header, section table, region list and
//! parent; its other tables are handed out only after their hashes held. Opening touches nothing
//! else, so it costs the same whatever the size of RAM.

use alloc::vec::Vec;

use coldframe_envelope::{
    DecodeError, DecodeErrorKind as Error, HEADER_LEN, Header, Limits, Producer, Section,
    SectionTable, check_zeros,
};
use coldframe_units::{
    Arch, ByteLen, FileOffset, GuestAddr, GuestRegion, PageSize, RamLayout, RootHash,
};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use crate::absent::find_bad;
use crate::extent::Geometry;
use crate::layout::{
    ABSN, AbsentBytes, BlockBytes, BlockPageBytes, DATA, ExtentBytes, FLAG_DIFF, FORMAT,
    PAGE_SIZE_MAX, PRNT, ParentBytes, REGN, ROWS_PER_HASH, RegionBytes,
};
use crate::sections::{Sections, invalid};
use crate::{AbsentPart, Blocks, Extents, Kind};

/// Where fields of the header lie that errors point at.
mod at {
    pub const ARCH: u64 = 16;
    pub const PAGE_SIZE: u64 = 17;
}

/// A guest-memory file, seen through its bytes.
#[derive(Clone, Debug)]
pub struct MemFile<'a> {
    header: Header,
    arch: Arch,
    geometry: Geometry,
    layout: RamLayout,
    parent: Option<RootHash>,
    absent: Vec<AbsentPart>,
    sections: Sections,
    table: SectionTable,
    tail: Tail<'a>,
    limits: Limits,
}

impl<'a> MemFile<'a> {
    /// Opens a file that is wholly in memory or mapped. Only header, section table, region list
    /// and parent are read, and the few bytes of padding between the tables.
    ///
    /// # Errors
    /// [`DecodeError`] naming the first thing that does not hold.
    ///
    /// Spec: MEM-2.
    pub fn open(file: &'a [u8], limits: Limits) -> Result<Self, DecodeError> {
        Self::from_parts(file, file, FileOffset::ZERO, limits)
    }

    /// Opens a file by its header and its last bytes, from `tail_offset` to its end, which hold at
    /// least all that [`tail_range`] names.
    ///
    /// # Errors
    /// As [`MemFile::open`].
    pub fn from_parts(
        header: &[u8],
        tail: &'a [u8],
        tail_offset: FileOffset,
        limits: Limits,
    ) -> Result<Self, DecodeError> {
        let len = u64::try_from(tail.len()).unwrap_or(u64::MAX);
        let file_len = ByteLen::new(tail_offset.get().saturating_add(len));
        let tail = Tail {
            last: (tail_offset, tail),
            ranges: Vec::new(),
        };
        Self::new(header, file_len, tail, limits)
    }

    /// Opens a file of `file_len` bytes by its header and ranges of what stands behind the data:
    /// at least the section table, and what [`head_ranges`] names. A table that lies in none of
    /// them cannot be asked for: see [`MemFile::extents_range`] and [`MemFile::blocks_range`].
    ///
    /// # Errors
    /// As [`MemFile::open`].
    ///
    /// Spec: MEM-2.
    pub fn from_ranges(
        header: &[u8],
        file_len: ByteLen,
        ranges: Vec<(FileOffset, &'a [u8])>,
        limits: Limits,
    ) -> Result<Self, DecodeError> {
        let last = (FileOffset::ZERO, &[][..]);
        Self::new(header, file_len, Tail { last, ranges }, limits)
    }

    fn new(
        header: &[u8],
        file_len: ByteLen,
        tail: Tail<'a>,
        limits: Limits,
    ) -> Result<Self, DecodeError> {
        let header = Header::decode(header, FORMAT)?;
        let table_len = SectionTable::len_bytes(&header, limits)?;
        check_file_len(&header, file_len)?;
        let table = tail.range(header.table_offset, table_len)?;
        let table = SectionTable::decode(&header, table, limits)?;
        let arch = header.arch.ok_or(invalid("arch", at::ARCH))?;
        let page_size = header.page_size.filter(|size| *size <= PAGE_SIZE_MAX);
        let page_size = page_size.ok_or(invalid("page_size_log2", at::PAGE_SIZE))?;
        let kind = if header.flags & FLAG_DIFF == 0 {
            Kind::Full
        } else {
            Kind::Diff
        };
        let sections = Sections::new(&header, &table, kind)?;
        let layout = decode_regions(&tail, &sections.regions, page_size, limits)?;
        let geometry = Geometry {
            kind,
            page_size,
            ram_len: layout.total().get(),
        };
        sections.check_data(geometry)?;
        for (offset, len) in table.gaps() {
            if offset >= sections.data.end() {
                check_zeros(tail.range(offset, len)?, offset)?;
            }
        }
        let parent = match &sections.parent {
            Some(section) => Some(decode_parent(&tail, section, limits)?),
            None => None,
        };
        let absent = match &sections.absent {
            Some(section) => decode_absent(&tail, section, geometry.ram_len, limits)?,
            None => Vec::new(),
        };
        Ok(Self {
            header,
            arch,
            geometry,
            layout,
            parent,
            absent,
            sections,
            table,
            tail,
            limits,
        })
    }

    /// Full or Diff.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.geometry.kind
    }

    /// The guest's architecture.
    #[must_use]
    pub const fn arch(&self) -> Arch {
        self.arch
    }

    /// The size of the pages that extents count.
    #[must_use]
    pub const fn page_size(&self) -> PageSize {
        self.geometry.page_size
    }

    /// Where RAM lies in the guest.
    #[must_use]
    pub const fn layout(&self) -> &RamLayout {
        &self.layout
    }

    /// The hash that identifies the whole file.
    #[must_use]
    pub fn root(&self) -> RootHash {
        self.header.root()
    }

    /// The root of the memory file that a Diff was made against; `None` for a Full.
    #[must_use]
    pub const fn parent_root(&self) -> Option<RootHash> {
        self.parent
    }

    /// The parts of RAM that were not plugged in, in rising offset; their bytes are zero.
    ///
    /// Spec: MEM-27.
    #[must_use]
    pub fn absent(&self) -> &[AbsentPart] {
        &self.absent
    }

    /// Who wrote the file.
    #[must_use]
    pub const fn producer(&self) -> Producer {
        self.header.producer
    }

    /// The header.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// Where the pages begin in the file.
    #[must_use]
    pub const fn data_offset(&self) -> FileOffset {
        FileOffset::new(self.sections.data.offset)
    }

    /// How many bytes the pages take; for a Full file all of RAM, holes included.
    #[must_use]
    pub const fn data_len(&self) -> ByteLen {
        ByteLen::new(self.sections.data.len)
    }

    /// Where the data ends, and what stands behind it begins: it reaches to the end of the file.
    #[must_use]
    pub fn tail_offset(&self) -> FileOffset {
        FileOffset::new(self.sections.data.end())
    }

    /// The length of the whole file.
    #[must_use]
    pub const fn file_len(&self) -> ByteLen {
        ByteLen::new(self.header.file_len)
    }

    /// Where the extent table lies in the file.
    #[must_use]
    pub const fn extents_range(&self) -> (FileOffset, ByteLen) {
        let Section { offset, len, .. } = self.sections.extents;
        (FileOffset::new(offset), ByteLen::new(len))
    }

    /// Where the block table and the hashes over its pages lie in the file, in this order.
    #[must_use]
    pub const fn blocks_range(&self) -> [(FileOffset, ByteLen); 2] {
        let (rows, pages) = (&self.sections.blocks, &self.sections.block_pages);
        [
            (FileOffset::new(rows.offset), ByteLen::new(rows.len)),
            (FileOffset::new(pages.offset), ByteLen::new(pages.len)),
        ]
    }

    /// The optional sections that this release does not know, and passes over.
    pub fn unknown_sections(&self) -> impl Iterator<Item = &Section> + '_ {
        let sections = self.table.sections().iter();
        sections.filter(|section| self.sections.is_unknown(section))
    }

    /// Checks that `parent` is the root that the Diff was made against.
    ///
    /// # Errors
    /// [`Error::WrongParent`]; [`Error::MissingSection`] for a Full file, which names no parent.
    pub fn check_parent(&self, parent: RootHash) -> Result<(), DecodeError> {
        let Some(expected) = self.parent else {
            let kind = Error::MissingSection {
                kind: crate::layout::PRNT,
                instance: 0,
            };
            return Err(DecodeError::new(kind, self.header.table_offset));
        };
        if parent == expected {
            return Ok(());
        }
        let kind = Error::WrongParent {
            expected,
            found: parent,
        };
        let at = self.sections.parent.map_or(0, |section| section.offset);
        Err(DecodeError::new(kind, at))
    }

    /// The extents, after one pass over their table.
    ///
    /// # Errors
    /// [`DecodeError`]: hash, a row that is not valid, a table that breaks a rule of the format.
    ///
    /// Spec: MEM-9 to MEM-15.
    pub fn extents(&self) -> Result<Extents<'a>, DecodeError> {
        let section = &self.sections.extents;
        let rows = self.tail.rows::<ExtentBytes>(section)?;
        section.check(self.tail.body(section)?, self.limits)?;
        Extents::decode(rows, section.offset, self.geometry, self.sections.data.len)
    }

    /// The block hashes; their table is checked page by page when it is asked.
    ///
    /// # Errors
    /// [`DecodeError`]: hash of the page hashes, lengths that do not agree.
    pub fn blocks(&self) -> Result<Blocks<'a>, DecodeError> {
        let section = &self.sections.blocks;
        let rows = self.tail.rows::<BlockBytes>(section)?;
        let pages_section = &self.sections.block_pages;
        let pages = self.tail.rows::<BlockPageBytes>(pages_section)?;
        if pages.len() != rows.len().div_ceil(ROWS_PER_HASH) {
            return Err(invalid("length of the block pages", pages_section.offset));
        }
        pages_section.check(self.tail.body(pages_section)?, self.limits)?;
        let ram_len = self.geometry.ram_len;
        Ok(Blocks::new(rows, pages, section.offset, ram_len))
    }

    /// Checks every byte behind the data section, and that there is a hash for
    /// each block that needs one. What is left is the data against the hashes, and
    /// [`MemFile::gaps`].
    ///
    /// # Errors
    /// [`DecodeError`] naming the first thing that does not hold.
    ///
    /// Spec: MEM-16, MEM-17, MEM-19.
    pub fn verify_tables(&self) -> Result<(), DecodeError> {
        for section in self.table.sections() {
            if section.kind != DATA {
                section.check(self.tail.body(section)?, self.limits)?;
            }
        }
        let extents = self.extents()?;
        let blocks = self.blocks()?;
        let mut rows = blocks.iter_verified();
        let end = self.sections.blocks.end();
        for plan in extents.block_plans() {
            let row = rows.next().ok_or(invalid("block rows, too few", end))??;
            if row.block != plan.block() || row.whole != plan.is_whole() {
                let field = "block row, against the extents";
                return Err(invalid(field, self.sections.blocks.offset));
            }
        }
        match rows.next() {
            None => Ok(()),
            Some(_) => Err(invalid("block rows, too many", end)),
        }
    }

    /// The stretches of the file in front of the tables that no hash covers, and that must read as
    /// zeros: from the header to the data, and the holes of a Full file.
    pub fn gaps(&self, extents: &Extents<'a>) -> impl Iterator<Item = (FileOffset, ByteLen)> + 'a {
        let padding = self.sections.data.offset.saturating_sub(HEADER_LEN);
        let padding = (FileOffset::new(HEADER_LEN), ByteLen::new(padding));
        core::iter::once(padding).chain(extents.holes())
    }
}

/// Where the section table lies, from the first 160 bytes of a file: what to read next.
///
/// # Errors
/// [`DecodeError`]: as for any header, or over the limits.
pub fn table_range(header: &[u8], limits: Limits) -> Result<(FileOffset, ByteLen), DecodeError> {
    let header = Header::decode(header, FORMAT)?;
    let len = SectionTable::len_bytes(&header, limits)?;
    Ok((FileOffset::new(header.table_offset), ByteLen::new(len)))
}

/// Where the tables lie that stand behind the data, from the header and the section table's bytes:
/// what [`MemFile::from_parts`] asks for. It reaches to the end of the file.
///
/// # Errors
/// [`DecodeError`]: as for any header and section table, or no data section.
pub fn tail_range(
    header: &[u8],
    table: &[u8],
    limits: Limits,
) -> Result<(FileOffset, ByteLen), DecodeError> {
    let header = Header::decode(header, FORMAT)?;
    let table = SectionTable::decode(&header, table, limits)?;
    let start = table.require(DATA, 0)?.end();
    let len = header.file_len.saturating_sub(start);
    Ok((FileOffset::new(start), ByteLen::new(len)))
}

/// What opening reads beside header and section table, from the bytes of both: the ranges that
/// [`MemFile::from_ranges`] asks for.
///
/// # Errors
/// [`DecodeError`]: as for any header and section table, or over the limits.
pub fn head_ranges(
    header: &[u8],
    table: &[u8],
    limits: Limits,
) -> Result<Vec<(FileOffset, ByteLen)>, DecodeError> {
    let header = Header::decode(header, FORMAT)?;
    let table = SectionTable::decode(&header, table, limits)?;
    let data = table.require(DATA, 0)?.end();
    let small = table.sections().iter();
    let small = small.filter(|section| matches!(section.kind, REGN | PRNT | ABSN));
    let gaps = table.gaps().into_iter();
    let gaps = gaps.filter(|(offset, _)| *offset >= data);
    let ranges = small
        .map(|section| (section.offset, section.len))
        .chain(gaps);
    let place = |(offset, len)| (FileOffset::new(offset), ByteLen::new(len));
    Ok(ranges.map(place).collect())
}

/// Checks that the file is as long as its header says.
fn check_file_len(header: &Header, file_len: ByteLen) -> Result<(), DecodeError> {
    let (have, need) = (file_len.get(), header.file_len);
    if have < need {
        return Err(DecodeError::new(Error::Truncated { need, have }, have));
    }
    if have > need {
        let kind = Error::TrailingBytes {
            expected: need,
            found: have,
        };
        return Err(DecodeError::new(kind, need));
    }
    Ok(())
}

/// Ranges of a file, each with its offset: its last bytes, all of it, or just some tables.
#[derive(Clone, Debug)]
struct Tail<'a> {
    last: (FileOffset, &'a [u8]),
    ranges: Vec<(FileOffset, &'a [u8])>,
}

impl<'a> Tail<'a> {
    fn range(&self, offset: u64, len: u64) -> Result<&'a [u8], DecodeError> {
        let mut ranges = core::iter::once(&self.last).chain(&self.ranges);
        let found = ranges.find_map(|(at, bytes)| {
            let start = usize::try_from(offset.checked_sub(at.get())?).ok()?;
            let end = start.checked_add(usize::try_from(len).ok()?)?;
            bytes.get(start..end)
        });
        found.ok_or(invalid("tail_offset", offset))
    }

    fn body(&self, section: &Section) -> Result<&'a [u8], DecodeError> {
        self.range(section.offset, section.len)
    }

    /// The body as rows; its hash is not checked here.
    fn rows<T>(&self, section: &Section) -> Result<&'a [T], DecodeError>
    where
        T: FromBytes + Immutable + KnownLayout + Unaligned,
    {
        <[T]>::ref_from_bytes(self.body(section)?)
            .map_err(|_| invalid("section length", section.offset))
    }
}

fn decode_regions(
    tail: &Tail<'_>,
    section: &Section,
    page_size: PageSize,
    limits: Limits,
) -> Result<RamLayout, DecodeError> {
    section.check(tail.body(section)?, limits)?;
    let refused = invalid("regions", section.offset);
    let regions: Result<Vec<GuestRegion>, _> = tail
        .rows::<RegionBytes>(section)?
        .iter()
        .map(|row| {
            let addr = GuestAddr::new(row.guest_addr.get());
            GuestRegion::new(addr, ByteLen::new(row.len.get()))
        })
        .collect();
    let layout = RamLayout::new(regions.map_err(|_| refused)?).map_err(|_| refused)?;
    layout.check_pages(page_size).map_err(|_| refused)?;
    let (limit, found) = (limits.file_bytes_max, layout.total().get());
    if found > limit {
        let what = "RAM in bytes";
        let kind = Error::LimitExceeded { what, limit, found };
        return Err(DecodeError::new(kind, section.offset));
    }
    Ok(layout)
}

fn decode_parent(
    tail: &Tail<'_>,
    section: &Section,
    limits: Limits,
) -> Result<RootHash, DecodeError> {
    section.check(tail.body(section)?, limits)?;
    match tail.rows::<ParentBytes>(section)? {
        [parent] => Ok(RootHash::from_bytes(parent.root)),
        _ => Err(invalid("section length", section.offset)),
    }
}

fn decode_absent(
    tail: &Tail<'_>,
    section: &Section,
    ram_len: u64,
    limits: Limits,
) -> Result<Vec<AbsentPart>, DecodeError> {
    section.check(tail.body(section)?, limits)?;
    let rows = tail.rows::<AbsentBytes>(section)?;
    let parts: Vec<_> = rows.iter().map(AbsentPart::decode).collect();
    match find_bad(&parts, ram_len) {
        None if !parts.is_empty() => Ok(parts),
        _ => Err(invalid("absent parts", section.offset)),
    }
}
