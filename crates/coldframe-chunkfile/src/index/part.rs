//! Blocks that are not one chunk: which of their pages come from where.
//!
//! Invariant: the rows of a block stand together, each page of the block is in exactly one of them,
//! and no such block is in a page of rows too.

use alloc::vec::Vec;

use coldframe_envelope::{DecodeError, DecodeErrorKind as Error};
use coldframe_units::{BLOCK_BYTES, ChunkId};
use zerocopy::little_endian::{U16, U32, U64};

use super::{Geometry, IndexRow, PART_PAGE_BYTES};
use crate::layout::{PART_CHUNK, PART_LOST, PART_ORIGIN, PART_ZERO, PartBytes};
use crate::parts::invalid;

/// Where pages of a block come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PartSource {
    /// The pages of this chunk at the same place: the first `len` bytes of the chunk count, zeros
    /// follow.
    Chunk {
        /// Which.
        id: ChunkId,
        /// How many bytes of it count, at least 1, at most those of a block.
        len: u32,
    },
    /// All zero.
    Zero,
    /// What the origin has at the same place: the first `len` bytes of its block count, zeros
    /// follow.
    Origin {
        /// How many bytes of its block count, at least 1, at most those of a block.
        len: u32,
    },
    /// Their bytes are lost: reading them is an error.
    Lost,
}

/// Some pages of a block, and where they come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PartRow {
    /// The block.
    pub block: u64,
    /// A bit for each of its pages of 4,096 bytes, the lowest for the first.
    pub pages: u16,
    /// Where they come from.
    pub source: PartSource,
}

impl PartRow {
    pub(super) fn encode(&self) -> PartBytes {
        let (kind, len, id) = match self.source {
            PartSource::Chunk { id, len } => (PART_CHUNK, len, *id.as_bytes()),
            PartSource::Zero => (PART_ZERO, 0, [0; 32]),
            PartSource::Origin { len } => (PART_ORIGIN, len, [0; 32]),
            PartSource::Lost => (PART_LOST, 0, [0; 32]),
        };
        PartBytes {
            block: U64::new(self.block),
            pages: U16::new(self.pages),
            kind,
            reserved: 0,
            len: U32::new(len),
            id,
        }
    }

    fn decode(row: &PartBytes, at: u64) -> Result<Self, DecodeError> {
        if row.reserved != 0 {
            return Err(DecodeError::new(Error::ReservedNotZero, at));
        }
        let len = row.len.get();
        let has_len = (1..=BLOCK_BYTES).contains(&u64::from(len));
        let has_id = row.id != [0; 32];
        let source = match row.kind {
            PART_CHUNK if has_len => PartSource::Chunk {
                id: ChunkId::from_bytes(row.id),
                len,
            },
            PART_ZERO if len == 0 && !has_id => PartSource::Zero,
            PART_ORIGIN if has_len && !has_id => PartSource::Origin { len },
            PART_LOST if len == 0 && !has_id => PartSource::Lost,
            PART_CHUNK | PART_ZERO | PART_ORIGIN | PART_LOST => return Err(invalid("len", at)),
            _ => return Err(invalid("part kind", at)),
        };
        Ok(Self {
            block: row.block.get(),
            pages: row.pages.get(),
            source,
        })
    }
}

/// A bit for each page of a block of so many bytes.
pub(super) fn all_pages(len: u64) -> u16 {
    let pages = len.div_ceil(PART_PAGE_BYTES).min(16);
    let bits = (1_u32 << pages).saturating_sub(1);
    u16::try_from(bits).unwrap_or(u16::MAX)
}

/// The name of what does not hold of the rows of one block.
pub(super) fn check_block(rows: &[PartRow], geometry: &Geometry) -> Result<(), &'static str> {
    let Some(block) = rows.first().map(|row| row.block) else {
        return Err("pages");
    };
    let len_in = |size: u64| {
        let start = block.saturating_mul(BLOCK_BYTES);
        size.saturating_sub(start).min(BLOCK_BYTES)
    };
    let len = len_in(geometry.size);
    let origin_len = geometry.origin_size.map_or(0, len_in);
    let (mut seen, mut has_origin) = (0_u16, false);
    for row in rows {
        if row.pages == 0 || row.pages & seen != 0 {
            return Err("pages");
        }
        seen |= row.pages;
        match row.source {
            PartSource::Chunk { len, .. } if len == 0 || u64::from(len) > BLOCK_BYTES => {
                return Err("len");
            }
            PartSource::Origin { len } if len == 0 || u64::from(len) > origin_len || has_origin => {
                return Err("len");
            }
            PartSource::Origin { .. } => has_origin = true,
            PartSource::Chunk { .. } | PartSource::Zero | PartSource::Lost => {}
        }
    }
    if len == 0 || seen != all_pages(len) {
        return Err("pages");
    }
    Ok(())
}

/// The rows of section PART, checked; they lie at `at` of the file.
pub(super) fn decode(
    raw: &[PartBytes],
    geometry: &Geometry,
    at: u64,
) -> Result<Vec<PartRow>, DecodeError> {
    if raw.is_empty() {
        return Err(invalid("length of the parts", at));
    }
    let mut rows = Vec::with_capacity(raw.len());
    let mut row_at = at;
    let mut last = None;
    for row in raw {
        let row = PartRow::decode(row, row_at)?;
        if last.is_some_and(|last| row.block < last) {
            return Err(invalid("block", row_at));
        }
        last = Some(row.block);
        rows.push(row);
        row_at = row_at.saturating_add(48);
    }
    for block in rows.chunk_by(|one, next| one.block == next.block) {
        check_block(block, geometry).map_err(|field| invalid(field, at))?;
    }
    Ok(rows)
}

/// The rows of a block among those of many.
pub(super) fn of_block(parts: &[PartRow], block: u64) -> &[PartRow] {
    let start = parts.partition_point(|row| row.block < block);
    let end = parts.partition_point(|row| row.block <= block);
    parts.get(start..end).unwrap_or(&[])
}

/// The first block from `from` up to `to` without a part.
pub(super) fn first_without(parts: &[PartRow], from: u64, to: u64) -> Option<u64> {
    let start = parts.partition_point(|row| row.block < from);
    let mut due = from;
    for row in parts.get(start..).unwrap_or(&[]) {
        if row.block > due || due >= to {
            break;
        }
        due = row.block.saturating_add(1);
    }
    (due < to).then_some(due)
}

/// Whether a row covers a block that is made of parts.
pub(super) fn is_covered(parts: &[PartRow], row: &IndexRow) -> bool {
    let start = parts.partition_point(|part| part.block < row.block);
    parts.get(start).is_some_and(|part| part.block < row.end())
}
