//! The builder: runs in, places in the file out; then hashes in, tables out.
//!
//! Invariant: what it has taken is a table that a reader accepts, but for what is still to come.
//! It keeps 32 bytes for each extent until [`MemFileBuilder::finish`]; the pages never pass
//! through it.

use alloc::vec::Vec;

use coldframe_envelope::{
    Header, Limits, Producer, Section, SectionFlags, SectionKind, Version, encode_table,
};
use coldframe_units::{
    Arch, ByteLen, FileOffset, PageIndex, PageRun, PageSize, RamLayout, RootHash,
};
use zerocopy::IntoBytes;
use zerocopy::little_endian::U64;

use crate::absent::{find_bad, joined as joined_parts};
use crate::blocks::hash_pages;
use crate::extent::Geometry;
use crate::layout::{
    ABSN, BLKS, BPAG, BlockBytes, DATA, EXTN, ExtentBytes, FLAG_DIFF, FORMAT, PAGE_SIZE_MAX, PRNT,
    REGN, RegionBytes, SECTION_VERSION,
};
use crate::{AbsentPart, BlockPlan, BlockPlans, BlockRow, BuildError, Content, Extent, Kind};

/// Everything of a file but its pages, ready to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// What lies at the beginning of the file.
    pub header: [u8; 160],
    /// Where the tail begins: right behind the pages.
    pub tail_offset: FileOffset,
    /// The tables; they reach to the end of the file.
    pub tail: Vec<u8>,
    /// The length of the whole file.
    pub file_len: ByteLen,
    /// The hash that identifies the whole file.
    pub root: RootHash,
}

/// Builds the tables of a file while its caller writes the pages.
#[derive(Clone, Debug)]
pub struct MemFileBuilder {
    arch: Arch,
    geometry: Geometry,
    layout: RamLayout,
    producer: Producer,
    parent: Option<RootHash>,
    absent: Vec<AbsentPart>,
    extents: Vec<Extent>,
    next_page: PageIndex,
    /// Pages of data so far.
    packed: u64,
}

impl MemFileBuilder {
    /// A file that will hold every page.
    ///
    /// # Errors
    /// [`BuildError`]: page size over 2 MiB, regions not of whole pages, too much RAM.
    pub fn full(
        arch: Arch,
        page_size: PageSize,
        layout: &RamLayout,
        producer: Producer,
    ) -> Result<Self, BuildError> {
        Self::new(arch, page_size, layout, producer, None)
    }

    /// A file of what changed since the memory file whose root is `parent`.
    ///
    /// # Errors
    /// As [`MemFileBuilder::full`].
    pub fn diff(
        arch: Arch,
        page_size: PageSize,
        layout: &RamLayout,
        producer: Producer,
        parent: RootHash,
    ) -> Result<Self, BuildError> {
        Self::new(arch, page_size, layout, producer, Some(parent))
    }

    fn new(
        arch: Arch,
        page_size: PageSize,
        layout: &RamLayout,
        producer: Producer,
        parent: Option<RootHash>,
    ) -> Result<Self, BuildError> {
        if page_size > PAGE_SIZE_MAX {
            let max = PAGE_SIZE_MAX;
            return Err(BuildError::PageSize { page_size, max });
        }
        layout
            .check_pages(page_size)
            .map_err(|source| BuildError::Layout { source })?;
        let ram_len = layout.total().get();
        check_limit("RAM in bytes", ram_len, LIMITS.file_bytes_max)?;
        let kind = match parent {
            None => Kind::Full,
            Some(_) => Kind::Diff,
        };
        let geometry = Geometry {
            kind,
            page_size,
            ram_len,
        };
        let file_len_min = geometry.data_offset().saturating_add(geometry.data_len(0));
        check_limit("file_len", file_len_min, LIMITS.file_bytes_max)?;
        Ok(Self {
            arch,
            geometry,
            layout: layout.clone(),
            producer,
            parent,
            absent: Vec::new(),
            extents: Vec::new(),
            next_page: PageIndex::new(0),
            packed: 0,
        })
    }

    /// The same Diff against another parent; a Full file names none, and stays as it is.
    ///
    /// For a Diff whose parent had no root yet when its pages were copied.
    #[must_use]
    pub fn with_parent(mut self, parent: RootHash) -> Self {
        self.parent = self.parent.map(|_| parent);
        self
    }

    /// The file with these parts of RAM named as not plugged in; their bytes must be zero in it.
    ///
    /// # Errors
    /// [`BuildError::Absent`] for the first that is out of order or not of whole pages of 4 KiB.
    ///
    /// Spec: MEM-27.
    pub fn with_absent(
        mut self,
        parts: impl IntoIterator<Item = AbsentPart>,
    ) -> Result<Self, BuildError> {
        let parts = joined_parts(parts);
        let bad = find_bad(&parts, self.geometry.ram_len).and_then(|bad| parts.get(bad));
        if let Some(AbsentPart { start, len }) = bad.copied() {
            return Err(BuildError::Absent { start, len });
        }
        self.absent = parts;
        Ok(self)
    }

    /// Full or Diff.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.geometry.kind
    }

    /// Where the pages begin in the file.
    #[must_use]
    pub fn data_offset(&self) -> FileOffset {
        FileOffset::new(self.geometry.data_offset())
    }

    /// Adds a run of pages with data, and says where in the file the caller writes them.
    ///
    /// # Errors
    /// [`BuildError`]: out of order, past the end of RAM, or in a Full file a page left out.
    pub fn push_data(&mut self, run: PageRun) -> Result<FileOffset, BuildError> {
        self.check_run(run)?;
        let place = self.geometry.file_offset(run.start(), self.packed);
        self.push(run, Content::Data { file_offset: place });
        self.packed = self.packed.saturating_add(run.count());
        Ok(place)
    }

    /// Adds a run of pages that are zero. In a Full file their place stays a hole.
    ///
    /// # Errors
    /// As [`MemFileBuilder::push_data`].
    pub fn push_zero(&mut self, run: PageRun) -> Result<(), BuildError> {
        self.check_run(run)?;
        self.push(run, Content::Zero);
        Ok(())
    }

    /// The extents so far, in rising page.
    #[must_use]
    pub fn extents(&self) -> &[Extent] {
        &self.extents
    }

    /// For each block that needs a hash, which bytes are hashed, in rising block.
    pub fn blocks_to_hash(&self) -> impl Iterator<Item = BlockPlan> + '_ {
        BlockPlans::new(self.extents.iter().copied(), self.geometry, 0)
    }

    /// The tables; `hashes` are those of [`MemFileBuilder::blocks_to_hash`], in that order.
    ///
    /// # Errors
    /// [`BuildError`]: a Full file that does not reach the end of RAM, too few or too many hashes,
    /// a table over what a reader accepts.
    pub fn finish(self, hashes: impl IntoIterator<Item = [u8; 32]>) -> Result<Encoded, BuildError> {
        if self.kind() == Kind::Full && self.next_page.get() != self.geometry.pages() {
            let page = self.next_page;
            return Err(BuildError::Missing { page });
        }
        let blocks = self.block_rows(hashes)?;
        let regions = self.layout.regions().iter().map(|region| RegionBytes {
            guest_addr: U64::new(region.addr().get()),
            len: U64::new(region.len().get()),
        });
        let regions: Vec<RegionBytes> = regions.collect();
        // No extent is over 2^32 - 1 pages: `push` splits them.
        let extents: Vec<ExtentBytes> = self.extents.iter().filter_map(Extent::encode).collect();
        let mut tail = TailBuilder::new(self.geometry, self.packed);
        tail.section(REGN, regions.as_bytes())?;
        if let Some(parent) = self.parent {
            tail.section(PRNT, parent.as_bytes())?;
        }
        tail.section(EXTN, extents.as_bytes())?;
        tail.section(BLKS, blocks.as_bytes())?;
        tail.section(BPAG, hash_pages(&blocks).as_bytes())?;
        if !self.absent.is_empty() {
            let rows: Vec<_> = self.absent.iter().map(AbsentPart::encode).collect();
            tail.add(ABSN, SectionFlags::OPTIONAL, rows.as_bytes())?;
        }
        tail.finish(&self)
    }

    fn check_run(&self, run: PageRun) -> Result<(), BuildError> {
        let (start, next) = (run.start(), self.next_page);
        if start < next {
            return Err(BuildError::OutOfOrder { start, next });
        }
        let pages = self.geometry.pages();
        if run.end().get() > pages {
            let end = run.end();
            return Err(BuildError::PastEnd { end, pages });
        }
        if self.kind() == Kind::Full && start != next {
            return Err(BuildError::Missing { page: next });
        }
        Ok(())
    }

    /// Adds a checked run to the last extent as far as that may grow, the rest as extents of its
    /// own.
    fn push(&mut self, run: PageRun, content: Content) {
        let mut next = Some(Extent { run, content });
        while let Some(extent) = next.take() {
            let last = self
                .extents
                .last_mut()
                .filter(|last| last.is_mergeable(&extent));
            let room = last.as_ref().map_or(0, |last| last.run.count());
            let room = u64::from(u32::MAX).saturating_sub(room);
            let (head, rest) = split(extent, room, self.geometry.page_size);
            match last {
                Some(last) => last.run = joined(last.run, head.run),
                None => self.extents.push(head),
            }
            next = rest;
        }
        self.next_page = run.end();
    }

    fn block_rows(
        &self,
        hashes: impl IntoIterator<Item = [u8; 32]>,
    ) -> Result<Vec<BlockBytes>, BuildError> {
        let mut hashes = hashes.into_iter();
        let mut rows = Vec::new();
        let mut expected: u64 = 0;
        let mut found: u64 = 0;
        for plan in self.blocks_to_hash() {
            expected = expected.saturating_add(1);
            let Some(hash) = hashes.next() else {
                continue;
            };
            found = found.saturating_add(1);
            let (block, whole) = (plan.block(), plan.is_whole());
            rows.push(BlockRow { block, hash, whole }.encode());
        }
        if hashes.next().is_some() {
            found = found.saturating_add(1);
        }
        if found == expected {
            Ok(rows)
        } else {
            Err(BuildError::HashCount { expected, found })
        }
    }
}

/// What every reader of the format may be asked to accept.
const LIMITS: Limits = Limits::MEMORY_FILE;

fn check_limit(what: &'static str, found: u64, limit: u64) -> Result<(), BuildError> {
    if found > limit {
        return Err(BuildError::LimitExceeded { what, limit, found });
    }
    Ok(())
}

/// The first `pages` of an extent (at least one), and the rest if there is any.
fn split(extent: Extent, pages: u64, page_size: PageSize) -> (Extent, Option<Extent>) {
    let Extent { run, content } = extent;
    let count = run.count().min(pages);
    let middle = PageIndex::new(run.start().get().saturating_add(count));
    let head = PageRun::new(run.start(), count);
    let rest = PageRun::new(middle, run.count().saturating_sub(count));
    let (Some(head), Some(rest)) = (head, rest) else {
        return (extent, None);
    };
    let content_of_rest = match extent.file_offset_of(middle, page_size) {
        Some(file_offset) => Content::Data { file_offset },
        None => Content::Zero,
    };
    let rest = Extent {
        run: rest,
        content: content_of_rest,
    };
    (Extent { run: head, content }, Some(rest))
}

/// Two runs, the second right behind the first, as one.
fn joined(first: PageRun, second: PageRun) -> PageRun {
    let count = first.count().saturating_add(second.count());
    PageRun::new(first.start(), count).unwrap_or(first)
}

/// Lays sections one after the other behind the pages.
struct TailBuilder {
    offset: u64,
    bytes: Vec<u8>,
    sections: Vec<Section>,
}

impl TailBuilder {
    fn new(geometry: Geometry, packed: u64) -> Self {
        let data = Section {
            kind: DATA,
            instance: 0,
            version: SECTION_VERSION,
            flags: SectionFlags::HASHED_BY_FORMAT,
            offset: geometry.data_offset(),
            len: geometry.data_len(packed),
            hash: [0; 32],
        };
        Self {
            offset: data.end(),
            bytes: Vec::new(),
            sections: alloc::vec![data],
        }
    }

    /// Where the next byte would lie in the file: a multiple of 8, as all rows are.
    fn end(&self) -> u64 {
        let len = u64::try_from(self.bytes.len()).unwrap_or(u64::MAX);
        self.offset.saturating_add(len)
    }

    fn section(&mut self, kind: SectionKind, body: &[u8]) -> Result<(), BuildError> {
        self.add(kind, SectionFlags::MUST_UNDERSTAND, body)
    }

    fn add(
        &mut self,
        kind: SectionKind,
        flags: SectionFlags,
        body: &[u8],
    ) -> Result<(), BuildError> {
        let len = u64::try_from(body.len()).unwrap_or(u64::MAX);
        check_limit("section length in bytes", len, LIMITS.section_bytes_max)?;
        self.sections.push(Section {
            kind,
            instance: 0,
            version: SECTION_VERSION,
            flags,
            offset: self.end(),
            len,
            hash: *blake3::hash(body).as_bytes(),
        });
        self.bytes.extend_from_slice(body);
        Ok(())
    }

    fn finish(mut self, file: &MemFileBuilder) -> Result<Encoded, BuildError> {
        let table = encode_table(&self.sections);
        let table_offset = self.end();
        self.bytes.extend_from_slice(&table);
        let file_len = self.end();
        check_limit("file_len", file_len, LIMITS.file_bytes_max)?;
        let newest = FORMAT.version();
        let header = Header {
            format: FORMAT.id(),
            version: match file.absent.is_empty() {
                true => Version { minor: 0, ..newest },
                false => newest,
            },
            arch: Some(file.arch),
            page_size: Some(file.geometry.page_size),
            flags: match file.kind() {
                Kind::Full => 0,
                Kind::Diff => FLAG_DIFF,
            },
            file_len,
            table_offset,
            section_count: u32::try_from(self.sections.len()).unwrap_or(u32::MAX),
            codec: FORMAT.codec(),
            table_hash: *blake3::hash(&table).as_bytes(),
            producer: file.producer,
        };
        Ok(Encoded {
            header: header.encode(),
            tail_offset: FileOffset::new(self.offset),
            tail: self.bytes,
            file_len: ByteLen::new(file_len),
            root: header.root(),
        })
    }
}
