//! Writing an index: runs in, pages of rows out, then the tables.
//!
//! Invariant: what it has taken is an index that a reader accepts, but for what is still to come.
//! It holds 40 bytes for each page, and the rows until they are taken by
//! [`IndexBuilder::take_rows`].

use alloc::vec::Vec;

use coldframe_envelope::{HEADER_LEN, Producer};
use coldframe_units::{ByteLen, ChunkId, FileOffset, RootHash};
use zerocopy::IntoBytes;
use zerocopy::little_endian::U64;

use super::part::check_block;
use super::{
    Geometry, IMAGE_BYTES_MAX, INDEX_LIMITS, IndexOrigin, IndexRow, PartRow, PartSource,
    ROWS_PER_PAGE, SHAPE, SHAPE_WITH_PARTS,
};
use crate::BuildError;
use crate::error::check_limit;
use crate::layout::{
    BASE, IMAG, ImageBytes, OriginBytes, PAGE, PART, PRNT, PageBytes, PartBytes, RowBytes,
};
use crate::parts::{PartsBuilder, len_of};

/// The end of an index, ready to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedIndex {
    /// What lies at the beginning of the file.
    pub header: [u8; 160],
    /// Where the rows begin that were not taken before.
    pub rest_offset: FileOffset,
    /// Those rows, and the tables; they reach to the end of the file.
    pub rest: Vec<u8>,
    /// The length of the whole file.
    pub file_len: ByteLen,
    /// The hash that identifies the index.
    pub root: RootHash,
}

impl EncodedIndex {
    /// The whole file, if no rows were taken before.
    #[must_use]
    pub fn into_file(self) -> Vec<u8> {
        let mut file = self.header.to_vec();
        file.extend_from_slice(&self.rest);
        file
    }
}

/// Builds an index from blocks in rising order.
#[derive(Clone, Debug)]
pub struct IndexBuilder {
    producer: Producer,
    geometry: Geometry,
    origin: IndexOrigin,
    /// Rows of whole pages that were not taken, as bytes.
    rows: Vec<u8>,
    /// How many bytes of rows were taken.
    taken: u64,
    /// The rows of the page that is being filled.
    page: Vec<RowBytes>,
    /// The last row, which may still grow.
    last: Option<IndexRow>,
    pages: Vec<PageBytes>,
    parts: Vec<PartBytes>,
    next: u64,
}

impl IndexBuilder {
    /// An index of an image of `size`, whose other blocks come from `origin`.
    ///
    /// # Errors
    /// [`BuildError`]: an image over the limit, a base image longer than the image.
    pub fn new(size: ByteLen, origin: IndexOrigin, producer: Producer) -> Result<Self, BuildError> {
        let size = size.get();
        let longest = origin.size().unwrap_or(0).max(size);
        check_limit("image size in bytes", longest, IMAGE_BYTES_MAX)?;
        if let IndexOrigin::Base { size: base, .. } = origin
            && base.get() > size
        {
            let base = base.get();
            return Err(BuildError::BaseTooLong { base, size });
        }
        Ok(Self {
            producer,
            geometry: Geometry {
                size,
                origin_size: origin.size(),
            },
            origin,
            rows: Vec::new(),
            taken: 0,
            page: Vec::new(),
            last: None,
            pages: Vec::new(),
            parts: Vec::new(),
            next: 0,
        })
    }

    /// Says that a block is a chunk.
    ///
    /// # Errors
    /// [`BuildError`]: out of order, past the end, or a block left out that cannot be inherited.
    pub fn push_chunk(&mut self, block: u64, id: ChunkId) -> Result<(), BuildError> {
        self.check(block, 1)?;
        self.push(block, 1, Some(id));
        Ok(())
    }

    /// Says that `count` blocks from `block` on are zero.
    ///
    /// # Errors
    /// As [`IndexBuilder::push_chunk`]; no blocks.
    pub fn push_zeros(&mut self, block: u64, count: u64) -> Result<(), BuildError> {
        self.check(block, count)?;
        let mut from = block;
        let mut left = count;
        if let Some(last) = &mut self.last
            && last.chunk.is_none()
            && last.end() == block
        {
            let room = u32::MAX.saturating_sub(last.count);
            let more = u32::try_from(left).unwrap_or(u32::MAX).min(room);
            last.count = last.count.saturating_add(more);
            from = from.saturating_add(more.into());
            left = left.saturating_sub(more.into());
        }
        while left > 0 {
            let count = u32::try_from(left).unwrap_or(u32::MAX);
            self.push(from, count, None);
            from = from.saturating_add(count.into());
            left = left.saturating_sub(count.into());
        }
        self.next = from;
        Ok(())
    }

    /// Says which pages of a block come from where; each page of it is in one of the parts.
    ///
    /// # Errors
    /// As [`IndexBuilder::push_chunk`]; [`BuildError::Parts`].
    ///
    /// Spec: CIDX-16.
    pub fn push_parts(
        &mut self,
        block: u64,
        parts: &[(u16, PartSource)],
    ) -> Result<(), BuildError> {
        self.check(block, 1)?;
        let rows = parts.iter().map(|(pages, source)| PartRow {
            block,
            pages: *pages,
            source: *source,
        });
        let rows: Vec<PartRow> = rows.collect();
        check_block(&rows, &self.geometry).map_err(|field| BuildError::Parts { block, field })?;
        self.settle();
        self.parts.extend(rows.iter().map(PartRow::encode));
        self.next = block.saturating_add(1);
        Ok(())
    }

    /// The block after the last that was pushed.
    #[must_use]
    pub const fn next_block(&self) -> u64 {
        self.next
    }

    /// Rows that will not change any more, to be written at the offset that comes with them; so an
    /// index of any size is built in little memory.
    pub fn take_rows(&mut self) -> (FileOffset, Vec<u8>) {
        let at = FileOffset::new(HEADER_LEN.saturating_add(self.taken));
        let rows = core::mem::take(&mut self.rows);
        self.taken = self.taken.saturating_add(len_of(&rows));
        (at, rows)
    }

    /// The end of the file.
    ///
    /// # Errors
    /// [`BuildError`]: a block left out that cannot be inherited; tables over what a reader
    /// accepts.
    pub fn finish(mut self) -> Result<EncodedIndex, BuildError> {
        let blocks = self.geometry.blocks();
        let missing = self.next.max(self.geometry.explicit_from());
        if missing < blocks {
            return Err(BuildError::Missing { block: missing });
        }
        self.settle();
        self.close_page();
        let (rest_offset, mut rest) = self.take_rows();
        let shape = match self.parts.is_empty() {
            true => &SHAPE,
            false => &SHAPE_WITH_PARTS,
        };
        let mut parts = PartsBuilder::new(shape, INDEX_LIMITS, self.taken);
        let size = U64::new(self.geometry.size);
        parts.section(IMAG, ImageBytes { size }.as_bytes())?;
        let origin = |id, size: ByteLen| OriginBytes {
            id,
            size: U64::new(size.get()),
        };
        match self.origin {
            IndexOrigin::None => {}
            IndexOrigin::Parent { root, size } => {
                parts.section(PRNT, origin(*root.as_bytes(), size).as_bytes())?;
            }
            IndexOrigin::Base { id, size } => {
                parts.section(BASE, origin(*id.as_bytes(), size).as_bytes())?;
            }
        }
        parts.section(PAGE, self.pages.as_bytes())?;
        if !self.parts.is_empty() {
            parts.section(PART, self.parts.as_bytes())?;
        }
        let built = parts.finish(self.producer)?;
        rest.extend_from_slice(&built.tail);
        Ok(EncodedIndex {
            header: built.header,
            rest_offset,
            rest,
            file_len: built.file_len,
            root: built.root,
        })
    }

    fn check(&self, block: u64, count: u64) -> Result<(), BuildError> {
        if count == 0 {
            return Err(BuildError::Empty { block });
        }
        let next = self.next;
        if block < next {
            return Err(BuildError::OutOfOrder { block, next });
        }
        let (end, blocks) = (block.saturating_add(count), self.geometry.blocks());
        if end > blocks {
            return Err(BuildError::PastEnd { end, blocks });
        }
        let missing = next.max(self.geometry.explicit_from());
        if block > missing {
            return Err(BuildError::Missing { block: missing });
        }
        Ok(())
    }

    fn push(&mut self, block: u64, count: u32, chunk: Option<ChunkId>) {
        self.settle();
        let row = IndexRow {
            block,
            count,
            chunk,
        };
        self.last = Some(row);
        self.next = row.end();
    }

    /// Puts the last row into its page: it does not grow any more.
    fn settle(&mut self) {
        if let Some(row) = self.last.take() {
            self.page.push(row.encode());
            if self.page.len() == ROWS_PER_PAGE {
                self.close_page();
            }
        }
    }

    fn close_page(&mut self) {
        let Some(first) = self.page.first() else {
            return;
        };
        let bytes = self.page.as_bytes();
        self.pages.push(PageBytes {
            first_block: first.block,
            hash: *blake3::hash(bytes).as_bytes(),
        });
        self.rows.extend_from_slice(bytes);
        self.page.clear();
    }
}
