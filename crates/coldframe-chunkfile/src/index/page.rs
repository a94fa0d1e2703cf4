//! A page of rows: read, checked and searched on its own.
//!
//! Invariant: the rows of an [`IndexPage`] rise, do not overlap, lie between its first block and
//! the next page's, and leave out no block that cannot be inherited.

use alloc::vec::Vec;

use coldframe_envelope::{DecodeError, DecodeErrorKind as Error};
use coldframe_units::ChunkId;
use zerocopy::FromBytes;
use zerocopy::little_endian::{U32, U64};

use super::part::{self, PartRow};
use super::{Entry, ROWS_PER_PAGE};
use crate::layout::{ROW_CHUNK, ROW_ZERO, RowBytes};
use crate::parts::invalid;

/// A run of blocks that are the same thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexRow {
    /// The first block.
    pub block: u64,
    /// How many blocks: 1 for a chunk.
    pub count: u32,
    /// The chunk, or `None` for zeros.
    pub chunk: Option<ChunkId>,
}

impl IndexRow {
    /// The block after its last.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.block.saturating_add(self.count.into())
    }

    pub(super) fn encode(&self) -> RowBytes {
        let (kind, id) = match self.chunk {
            Some(id) => (ROW_CHUNK, *id.as_bytes()),
            None => (ROW_ZERO, [0; 32]),
        };
        RowBytes {
            block: U64::new(self.block),
            count: U32::new(self.count),
            kind,
            reserved: [0; 3],
            id,
        }
    }

    fn decode(row: &RowBytes, at: u64) -> Result<Self, DecodeError> {
        if row.reserved != [0; 3] {
            return Err(DecodeError::new(Error::ReservedNotZero, at));
        }
        let count = row.count.get();
        let chunk = match row.kind {
            ROW_CHUNK if count == 1 => Some(ChunkId::from_bytes(row.id)),
            ROW_ZERO if count > 0 && row.id == [0; 32] => None,
            ROW_CHUNK | ROW_ZERO => return Err(invalid("count", at)),
            _ => return Err(invalid("row kind", at)),
        };
        Ok(Self {
            block: row.block.get(),
            count,
            chunk,
        })
    }

    /// Whether a writer would have made one row of both.
    pub(super) fn is_mergeable(&self, next: &Self) -> bool {
        let both_zero = self.chunk.is_none() && next.chunk.is_none();
        both_zero && self.end() == next.block && self.count != u32::MAX
    }
}

/// A page of rows, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexPage {
    rows: Vec<IndexRow>,
}

/// What a page's rows are held against.
pub(super) struct Bounds<'a> {
    pub first_block: u64,
    /// The block after the last that the page may name.
    pub end_block: u64,
    /// The first block from which on all have a row.
    pub explicit_from: u64,
    pub is_last: bool,
    /// The blocks that are made of parts: they have no row.
    pub parts: &'a [PartRow],
}

impl IndexPage {
    /// From bytes that lie at `at` of the file and whose hash held.
    pub(super) fn decode(bytes: &[u8], at: u64, bounds: &Bounds<'_>) -> Result<Self, DecodeError> {
        let raw = <[RowBytes]>::ref_from_bytes(bytes).map_err(|_| invalid("page length", at))?;
        let is_full = raw.len() == ROWS_PER_PAGE;
        if raw.is_empty() || raw.len() > ROWS_PER_PAGE || !is_full && !bounds.is_last {
            return Err(invalid("page length", at));
        }
        let mut rows: Vec<IndexRow> = Vec::with_capacity(raw.len());
        let mut row_at = at;
        let mut free_from = bounds.first_block;
        for row in raw {
            let row = IndexRow::decode(row, row_at)?;
            let in_order = match rows.last() {
                None => row.block == bounds.first_block,
                Some(last) => row.block >= free_from && !last.is_mergeable(&row),
            };
            // `end` saturates, and no image has 2^64 - 1 blocks.
            if !in_order || row.end() > bounds.end_block {
                return Err(invalid("block", row_at));
            }
            if part::is_covered(bounds.parts, &row) {
                return Err(invalid("block, which is made of parts", row_at));
            }
            let due = free_from.max(bounds.explicit_from);
            if part::first_without(bounds.parts, due, row.block).is_some() {
                return Err(invalid("block, one before it is missing", row_at));
            }
            free_from = row.end();
            rows.push(row);
            row_at = row_at.saturating_add(48);
        }
        let due = free_from.max(bounds.explicit_from);
        if part::first_without(bounds.parts, due, bounds.end_block).is_some() {
            return Err(invalid("block, one at the end is missing", row_at));
        }
        Ok(Self { rows })
    }

    /// Its rows, in rising block.
    #[must_use]
    pub fn rows(&self) -> &[IndexRow] {
        &self.rows
    }

    /// What a block of this page is.
    #[must_use]
    pub fn find(&self, block: u64) -> Entry {
        let after = self.rows.partition_point(|row| row.block <= block);
        let row = after.checked_sub(1).and_then(|at| self.rows.get(at));
        match row.filter(|row| block < row.end()) {
            None => Entry::Inherit,
            Some(row) => row.chunk.map_or(Entry::Zero, Entry::Chunk),
        }
    }
}
