//! Reading an index: its head and page table at once, its rows page by page.
//!
//! Invariant: an [`Index`] that exists has a checked header, image, origin and page table; a page
//! of rows is handed out only after its hash held. Opening reads 40 bytes for each 1,024 rows.

use alloc::vec::Vec;

use coldframe_envelope::{DecodeError, DecodeErrorKind as Error, Limits, Producer};
use coldframe_units::{BLOCK_BYTES, ByteLen, FileOffset, RootHash};

use super::page::Bounds;
use super::part;
use super::{
    BaseId, Entry, Geometry, IMAGE_BYTES_MAX, IndexOrigin, IndexPage, PartRow, ROWS_PER_PAGE, SHAPE,
};
use crate::layout::{BASE, IMAG, ImageBytes, OriginBytes, PAGE, PART, PRNT, PageBytes, PartBytes};
use crate::parts::{self, Parts, invalid, range};

const ROW_LEN: u64 = 48;
const PAGE_LEN: u64 = 48 * 1024;
const _: () = assert!(ROWS_PER_PAGE == 1024);

/// Where a page of rows lies, and what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRef {
    /// Which page, from 0.
    pub number: u64,
    /// Where it begins in the file.
    pub offset: FileOffset,
    /// How long it is.
    pub len: ByteLen,
    /// The first block that it names.
    pub first_block: u64,
    /// The block after the last that it may name.
    pub end_block: u64,
    hash: [u8; 32],
}

/// An index without its rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    root: RootHash,
    producer: Producer,
    file_len: u64,
    geometry: Geometry,
    origin: IndexOrigin,
    rows_at: u64,
    rows_len: u64,
    pages: Vec<(u64, [u8; 32])>,
    parts: Vec<PartRow>,
}

impl Index {
    /// Opens an index that is wholly in memory or mapped; its rows are not looked at.
    ///
    /// # Errors
    /// [`DecodeError`] naming the first thing that does not hold.
    pub fn open(file: &[u8], limits: Limits) -> Result<Self, DecodeError> {
        Self::from_parts(file, file, FileOffset::ZERO, limits)
    }

    /// Opens an index by its header and its last bytes, from `tail_offset` to its end, which hold
    /// at least what [`Index::tail_range`] names.
    ///
    /// # Errors
    /// As [`Index::open`].
    ///
    /// Spec: CIDX-3.
    pub fn from_parts(
        header: &[u8],
        tail: &[u8],
        tail_offset: FileOffset,
        limits: Limits,
    ) -> Result<Self, DecodeError> {
        let parts = Parts::open(&SHAPE, header, tail, tail_offset, limits)?;
        parts.check_all()?;
        let (image, at) = parts.row::<ImageBytes>(IMAG)?;
        let (size, limit) = (image.size.get(), IMAGE_BYTES_MAX);
        if size > limit {
            let (what, found) = ("image size in bytes", size);
            let kind = Error::LimitExceeded { what, limit, found };
            return Err(DecodeError::new(kind, at));
        }
        let origin = decode_origin(&parts, size)?;
        let geometry = Geometry {
            size,
            origin_size: origin.size(),
        };
        let (rows, at) = parts.rows::<PageBytes>(PAGE)?;
        let rows_len = parts.front.len;
        let count = u64::try_from(rows.len()).unwrap_or(u64::MAX);
        let whole_rows = rows_len.is_multiple_of(ROW_LEN);
        if !whole_rows || rows_len.div_ceil(PAGE_LEN) != count {
            return Err(invalid("length of the page table", at));
        }
        let pages: Vec<(u64, [u8; 32])> = rows
            .iter()
            .map(|row| (row.first_block.get(), row.hash))
            .collect();
        let in_parts = match parts.find(PART) {
            None => Vec::new(),
            Some(_) => {
                let (rows, at) = parts.rows::<PartBytes>(PART)?;
                part::decode(rows, &geometry, at)?
            }
        };
        check_pages(&pages, geometry, &in_parts, at)?;
        Ok(Self {
            root: parts.header.root(),
            producer: parts.header.producer,
            file_len: parts.header.file_len,
            geometry,
            origin,
            rows_at: parts.front.offset,
            rows_len,
            pages,
            parts: in_parts,
        })
    }

    /// Where the section table lies, from the first 160 bytes of a file: what to read next.
    ///
    /// # Errors
    /// [`DecodeError`]: as for any header, or over the limits.
    pub fn table_range(
        header: &[u8],
        limits: Limits,
    ) -> Result<(FileOffset, ByteLen), DecodeError> {
        parts::table_range(&SHAPE, header, limits)
    }

    /// Where the tables behind the rows lie, from the bytes of header and section table; it
    /// reaches to the end of the file.
    ///
    /// # Errors
    /// [`DecodeError`]: as for any header and section table, or over the limits.
    pub fn tail_range(
        header: &[u8],
        table: &[u8],
        limits: Limits,
    ) -> Result<(FileOffset, ByteLen), DecodeError> {
        parts::tail_range(&SHAPE, header, table, limits)
    }

    /// The hash that identifies the whole index: its id.
    #[must_use]
    pub const fn root(&self) -> RootHash {
        self.root
    }

    /// Who wrote it.
    #[must_use]
    pub const fn producer(&self) -> Producer {
        self.producer
    }

    /// The length of the whole file.
    #[must_use]
    pub const fn file_len(&self) -> ByteLen {
        ByteLen::new(self.file_len)
    }

    /// The length of the image.
    #[must_use]
    pub const fn size(&self) -> ByteLen {
        ByteLen::new(self.geometry.size)
    }

    /// Where the blocks come from that it does not name.
    #[must_use]
    pub const fn origin(&self) -> IndexOrigin {
        self.origin
    }

    /// Blocks in the image, the last perhaps shorter.
    #[must_use]
    pub fn block_count(&self) -> u64 {
        self.geometry.blocks()
    }

    /// The length of a block: 64 KiB but for the image's last; `None` past the end.
    #[must_use]
    pub fn block_len(&self, block: u64) -> Option<ByteLen> {
        let start = block.checked_mul(BLOCK_BYTES)?;
        let rest = self.geometry.size.checked_sub(start)?;
        (rest > 0).then(|| ByteLen::new(rest.min(BLOCK_BYTES)))
    }

    /// How many pages of rows it has.
    #[must_use]
    pub const fn page_count(&self) -> usize {
        self.pages.len()
    }

    /// The page that names this block if any does: read its bytes and give them to
    /// [`Index::decode_page`]. `None` if the block is inherited or past the end.
    #[must_use]
    pub fn page_of(&self, block: u64) -> Option<PageRef> {
        if block >= self.block_count() {
            return None;
        }
        let after = self.pages.partition_point(|(first, _)| *first <= block);
        self.page(after.checked_sub(1)?)
    }

    /// The page of this number, from 0.
    #[must_use]
    pub fn page(&self, number: usize) -> Option<PageRef> {
        let (first_block, hash) = *self.pages.get(number)?;
        let end_block = match self.pages.get(number.saturating_add(1)) {
            Some((next, _)) => *next,
            None => self.block_count(),
        };
        let number = u64::try_from(number).unwrap_or(u64::MAX);
        let skip = number.saturating_mul(PAGE_LEN);
        let len = self.rows_len.saturating_sub(skip).min(PAGE_LEN);
        Some(PageRef {
            number,
            offset: FileOffset::new(self.rows_at.saturating_add(skip)),
            len: ByteLen::new(len),
            first_block,
            end_block,
            hash,
        })
    }

    /// The blocks that are made of parts, in rising block: the rows of a block stand together.
    #[must_use]
    pub fn parts(&self) -> &[PartRow] {
        &self.parts
    }

    /// The parts that a block is made of; none if it is something else.
    #[must_use]
    pub fn parts_of(&self, block: u64) -> &[PartRow] {
        part::of_block(&self.parts, block)
    }

    /// All pages, in rising block.
    pub fn pages(&self) -> impl Iterator<Item = PageRef> + '_ {
        (0..self.pages.len()).filter_map(|number| self.page(number))
    }

    /// Checks the bytes of a page, and hands out its rows.
    ///
    /// # Errors
    /// [`DecodeError`]: hash, a row that is not valid or missing.
    pub fn decode_page(&self, page: &PageRef, bytes: &[u8]) -> Result<IndexPage, DecodeError> {
        let at = page.offset.get();
        if *blake3::hash(bytes).as_bytes() != page.hash {
            return Err(DecodeError::new(Error::BodyHash, at));
        }
        let bounds = Bounds {
            first_block: page.first_block,
            end_block: page.end_block,
            explicit_from: self.geometry.explicit_from(),
            is_last: page.end_block == self.block_count(),
            parts: &self.parts,
        };
        IndexPage::decode(bytes, at, &bounds)
    }

    /// What a block is, out of a file that is wholly in memory or mapped.
    ///
    /// # Errors
    /// [`DecodeError`]: past the end of the image; as [`Index::decode_page`].
    pub fn read(&self, file: &[u8], block: u64) -> Result<Entry, DecodeError> {
        if block >= self.block_count() {
            return Err(invalid("block, past the end of the image", self.rows_at));
        }
        if !self.parts_of(block).is_empty() {
            return Ok(Entry::Parts);
        }
        let Some(page) = self.page_of(block) else {
            return Ok(Entry::Inherit);
        };
        let bytes = range(file, 0, page.offset.get(), page.len.get())?;
        Ok(self.decode_page(&page, bytes)?.find(block))
    }

    /// Checks every row of a file that is wholly in memory or mapped.
    ///
    /// # Errors
    /// As [`Index::decode_page`].
    pub fn verify_rows(&self, file: &[u8]) -> Result<(), DecodeError> {
        let mut last = None;
        for page in self.pages() {
            let bytes = range(file, 0, page.offset.get(), page.len.get())?;
            let rows = self.decode_page(&page, bytes)?;
            last = self.check_seam(last, &page, &rows)?;
        }
        Ok(())
    }

    /// Checks that a page's first row is not one that belongs to the last row of the page before,
    /// and returns the page's own last row.
    ///
    /// # Errors
    /// [`Error::Invalid`].
    pub fn check_seam(
        &self,
        last: Option<super::IndexRow>,
        page: &PageRef,
        rows: &IndexPage,
    ) -> Result<Option<super::IndexRow>, DecodeError> {
        if let (Some(last), Some(first)) = (last, rows.rows().first())
            && last.is_mergeable(first)
        {
            return Err(invalid("block", page.offset.get()));
        }
        Ok(rows.rows().last().copied())
    }
}

fn decode_origin(parts: &Parts<'_>, size: u64) -> Result<IndexOrigin, DecodeError> {
    let origin = match (parts.find(PRNT), parts.find(BASE)) {
        (None, None) => IndexOrigin::None,
        (Some(_), None) => {
            let (row, _) = parts.row::<OriginBytes>(PRNT)?;
            let (root, size) = (RootHash::from_bytes(row.id), ByteLen::new(row.size.get()));
            IndexOrigin::Parent { root, size }
        }
        (None, Some(_)) => {
            let (row, at) = parts.row::<OriginBytes>(BASE)?;
            if row.size.get() > size {
                return Err(invalid("size of the base image", at));
            }
            let (id, size) = (BaseId(row.id), ByteLen::new(row.size.get()));
            IndexOrigin::Base { id, size }
        }
        (Some(_), Some(section)) => return Err(invalid("origin", section.offset)),
    };
    if origin.size().is_some_and(|size| size > IMAGE_BYTES_MAX) {
        return Err(invalid("size of the origin", parts.front.end()));
    }
    Ok(origin)
}

/// The first blocks rise and lie in the image, and nothing that cannot be inherited lies before
/// the first page.
fn check_pages(
    pages: &[(u64, [u8; 32])],
    geometry: Geometry,
    parts: &[PartRow],
    at: u64,
) -> Result<(), DecodeError> {
    let mut free_from = 0;
    let mut row_at = at;
    for (first, _) in pages {
        if *first < free_from || *first >= geometry.blocks() {
            return Err(invalid("first_block", row_at));
        }
        free_from = first.saturating_add(1);
        row_at = row_at.saturating_add(40);
    }
    let first = pages.first().map_or(geometry.blocks(), |(first, _)| *first);
    if part::first_without(parts, geometry.explicit_from(), first).is_some() {
        return Err(invalid("first_block, one before it is missing", at));
    }
    Ok(())
}
