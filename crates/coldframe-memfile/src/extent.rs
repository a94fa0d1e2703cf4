//! Runs of pages with one content, and the numbers that their rules hang from.
//!
//! Invariant: within a file, where an extent's data lies follows from the extents before it, so
//! two files with the same pages have the same table.

use coldframe_envelope::{DecodeError, DecodeErrorKind};
use coldframe_units::{ByteLen, FileOffset, PageIndex, PageRun, PageSize};
use zerocopy::little_endian::{U32, U64};

use crate::layout::{EXTENT_DATA, EXTENT_ZERO, ExtentBytes, FULL_DATA_OFFSET};

/// Whether a file holds all of RAM or what changed since its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Every page; RAM offset x lies at data offset + x.
    Full,
    /// Some pages, packed in rising order; a page that is in no extent is the parent's.
    Diff,
}

/// What a page of a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Content {
    /// Bytes in the file.
    Data {
        /// Where the first page's bytes lie; the others follow it.
        file_offset: FileOffset,
    },
    /// All zero, said explicitly. In a Full file its place reads as zeros, in a Diff it has none.
    Zero,
}

/// A run of pages with one content; at most 2^32 - 1 pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Extent {
    /// The pages, in RAM offset space.
    pub run: PageRun,
    /// What they are.
    pub content: Content,
}

impl Extent {
    /// Whether its pages are zero.
    #[must_use]
    pub const fn is_zero(&self) -> bool {
        matches!(self.content, Content::Zero)
    }

    /// Where the bytes of `page` lie; `None` if it is zero or not in this extent.
    #[must_use]
    pub fn file_offset_of(&self, page: PageIndex, page_size: PageSize) -> Option<FileOffset> {
        let Content::Data { file_offset } = self.content else {
            return None;
        };
        if page >= self.run.end() {
            return None;
        }
        let pages = page.get().checked_sub(self.run.start().get())?;
        let bytes = pages.checked_mul(page_size.bytes())?;
        file_offset.checked_add(ByteLen::new(bytes))
    }

    /// Whether `next` would have to be part of this extent.
    pub(crate) fn is_mergeable(&self, next: &Self) -> bool {
        self.run.end() == next.run.start()
            && self.is_zero() == next.is_zero()
            && self.run.count() < u64::from(u32::MAX)
    }

    /// As stored; `None` over 2^32 - 1 pages.
    pub(crate) fn encode(&self) -> Option<ExtentBytes> {
        let (kind, file_offset) = match self.content {
            Content::Data { file_offset } => (EXTENT_DATA, file_offset),
            Content::Zero => (EXTENT_ZERO, FileOffset::ZERO),
        };
        Some(ExtentBytes {
            ram_page: U64::new(self.run.start().get()),
            page_count: U32::new(u32::try_from(self.run.count()).ok()?),
            kind,
            reserved: [0; 3],
            file_offset: U64::new(file_offset.get()),
        })
    }

    /// From a row that lies at `offset` of the file.
    pub(crate) fn decode(row: &ExtentBytes, offset: u64) -> Result<Self, DecodeError> {
        let invalid = |field| DecodeError::new(DecodeErrorKind::Invalid { field }, offset);
        if row.reserved != [0; 3] {
            return Err(DecodeError::new(DecodeErrorKind::ReservedNotZero, offset));
        }
        let start = PageIndex::new(row.ram_page.get());
        let run = PageRun::new(start, row.page_count.get().into()).ok_or(invalid("page_count"))?;
        let file_offset = FileOffset::new(row.file_offset.get());
        let content = match row.kind {
            EXTENT_DATA => Content::Data { file_offset },
            EXTENT_ZERO if file_offset == FileOffset::ZERO => Content::Zero,
            EXTENT_ZERO => return Err(invalid("file_offset")),
            _ => return Err(invalid("kind")),
        };
        Ok(Self { run, content })
    }
}

/// The numbers of one file that say where its pages lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub kind: Kind,
    pub page_size: PageSize,
    pub ram_len: u64,
}

impl Geometry {
    /// Where the pages begin in the file.
    pub fn data_offset(&self) -> u64 {
        match self.kind {
            Kind::Full => FULL_DATA_OFFSET,
            Kind::Diff => self.page_size.bytes(),
        }
    }

    /// Pages in RAM.
    pub fn pages(&self) -> u64 {
        self.page_size.pages_for(ByteLen::new(self.ram_len))
    }

    /// Bytes of `pages` pages; saturated, and then over any RAM.
    pub fn bytes(&self, pages: u64) -> u64 {
        pages.saturating_mul(self.page_size.bytes())
    }

    /// Where the data of a page lies, if `packed` pages of data stand before it.
    pub fn file_offset(&self, page: PageIndex, packed: u64) -> FileOffset {
        let pages = match self.kind {
            Kind::Full => page.get(),
            Kind::Diff => packed,
        };
        FileOffset::new(self.data_offset().saturating_add(self.bytes(pages)))
    }

    /// The length of the data section if `packed` pages are data.
    pub fn data_len(&self, packed: u64) -> u64 {
        match self.kind {
            Kind::Full => self.ram_len,
            Kind::Diff => self.bytes(packed),
        }
    }
}
