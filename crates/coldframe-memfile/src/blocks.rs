//! The block table: hashes of 64 KiB blocks, each checked when it is first asked for.
//!
//! Invariant: no row is handed out whose page of the table does not match its hash in BPAG.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use coldframe_envelope::{DecodeError, DecodeErrorKind as Error};
use coldframe_units::{BLOCK_BYTES, ChunkId};
use zerocopy::IntoBytes;
use zerocopy::little_endian::U64;

use crate::layout::{BlockBytes, BlockPageBytes, COVERS_PART, COVERS_WHOLE, ROWS_PER_HASH};
use crate::sections::invalid;
use crate::{BlockPlan, BuildError};

/// The hash of one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockRow {
    /// The block's number in RAM offset space, counted in 64 KiB from 0.
    pub block: u64,
    /// The BLAKE3 hash of what [`BlockPlan`] names.
    pub hash: [u8; 32],
    /// Whether every page of the block is in the file.
    pub whole: bool,
}

impl BlockRow {
    /// The chunk that the block is; `None` if only part of it is in the file.
    #[must_use]
    pub fn chunk_id(&self) -> Option<ChunkId> {
        self.whole.then(|| ChunkId::from_bytes(self.hash))
    }

    /// The id of the chunk that the hashed bytes are, whether they are all of the block or part.
    #[must_use]
    pub const fn stored_id(&self) -> ChunkId {
        ChunkId::from_bytes(self.hash)
    }

    /// Whether `data`, which lies at [`BlockPlan::data`], is what was hashed when the file was
    /// written.
    ///
    /// # Errors
    /// [`BuildError::DataLen`] if `data` is not [`BlockPlan::data_len`] bytes.
    pub fn matches(&self, plan: &BlockPlan, data: &[u8]) -> Result<bool, BuildError> {
        let same_block = self.block == plan.block() && self.whole == plan.is_whole();
        Ok(plan.hash(data)? == self.hash && same_block)
    }

    pub(crate) fn encode(&self) -> BlockBytes {
        BlockBytes {
            block: U64::new(self.block),
            hash: self.hash,
            covers: if self.whole {
                COVERS_WHOLE
            } else {
                COVERS_PART
            },
            reserved: [0; 7],
        }
    }

    fn decode(row: &BlockBytes, offset: u64) -> Result<Self, DecodeError> {
        if row.reserved != [0; 7] {
            return Err(DecodeError::new(Error::ReservedNotZero, offset));
        }
        Ok(Self {
            block: row.block.get(),
            hash: row.hash,
            whole: match row.covers {
                COVERS_WHOLE => true,
                COVERS_PART => false,
                _ => return Err(invalid("covers", offset)),
            },
        })
    }
}

/// The hashes over the pages of a block table.
pub(crate) fn hash_pages(rows: &[BlockBytes]) -> Vec<BlockPageBytes> {
    rows.chunks(ROWS_PER_HASH)
        .map(|page| BlockPageBytes {
            hash: hash_page(page),
        })
        .collect()
}

fn hash_page(rows: &[BlockBytes]) -> [u8; 32] {
    *blake3::hash(rows.as_bytes()).as_bytes()
}

/// The block table of a file; can be shared between threads.
#[derive(Debug)]
pub struct Blocks<'a> {
    rows: &'a [BlockBytes],
    pages: &'a [BlockPageBytes],
    /// Where the rows lie in the file.
    offset: u64,
    ram_len: u64,
    /// One bit for each page of the table that was checked.
    checked: Vec<AtomicU64>,
}

impl<'a> Blocks<'a> {
    /// From rows that lie at `offset` of the file, and checked page hashes.
    pub(crate) fn new(
        rows: &'a [BlockBytes],
        pages: &'a [BlockPageBytes],
        offset: u64,
        ram_len: u64,
    ) -> Self {
        let words = pages.len().div_ceil(64);
        Self {
            rows,
            pages,
            offset,
            ram_len,
            checked: (0..words).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// How many blocks have a hash.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether no block has one: no page is data.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The row of this block; `None` if the block has no data in the file.
    ///
    /// Checks the page of the table that the answer lies in, the first time; for `None` that may
    /// be two pages, since both neighbours must be known not to be the block.
    ///
    /// # Errors
    /// [`DecodeError`]: hash of the page, a row that is not valid.
    pub fn get(&self, block: u64) -> Result<Option<BlockRow>, DecodeError> {
        let after = self.rows.partition_point(|row| row.block.get() < block);
        let next = self.row(after)?;
        if let Some(row) = next.filter(|row| row.block == block) {
            return Ok(Some(row));
        }
        let previous = match after.checked_sub(1) {
            Some(index) => self.row(index)?,
            None => None,
        };
        let apart = previous.is_none_or(|row| row.block < block)
            && next.is_none_or(|row| row.block > block);
        if apart {
            Ok(None)
        } else {
            Err(invalid("block", self.offset_of(after)))
        }
    }

    /// All rows in rising block; each page of the table is checked before its first row.
    pub fn iter_verified(&self) -> impl Iterator<Item = Result<BlockRow, DecodeError>> + '_ {
        (0..self.rows.len()).filter_map(|index| self.row(index).transpose())
    }

    fn row(&self, index: usize) -> Result<Option<BlockRow>, DecodeError> {
        let Some(row) = self.rows.get(index) else {
            return Ok(None);
        };
        self.check_page(index / ROWS_PER_HASH)?;
        BlockRow::decode(row, self.offset_of(index)).map(Some)
    }

    /// Checks a page of the table unless that was done: its hash, and that its rows are valid and
    /// rise.
    fn check_page(&self, page: usize) -> Result<(), DecodeError> {
        let bit = 1_u64.rotate_left(u32::try_from(page % 64).unwrap_or(0));
        let word = self.checked.get(page / 64);
        // The bytes never change, so a bit that another thread set says nothing but itself.
        if word.is_some_and(|word| word.load(Ordering::Relaxed) & bit != 0) {
            return Ok(());
        }
        let start = page.saturating_mul(ROWS_PER_HASH);
        let offset = self.offset_of(start);
        let rows = self.rows.chunks(ROWS_PER_HASH).nth(page).unwrap_or(&[]);
        let expected = self.pages.get(page).map(|row| row.hash);
        if expected != Some(hash_page(rows)) {
            return Err(DecodeError::new(Error::BodyHash, offset));
        }
        let mut free_from = 0;
        for (index, row) in rows.iter().enumerate() {
            let at = self.offset_of(start.saturating_add(index));
            let row = BlockRow::decode(row, at)?;
            let in_ram = row
                .block
                .checked_mul(BLOCK_BYTES)
                .is_some_and(|start| start < self.ram_len);
            if row.block < free_from || !in_ram {
                return Err(invalid("block", at));
            }
            free_from = row.block.saturating_add(1);
        }
        if let Some(word) = word {
            word.fetch_or(bit, Ordering::Relaxed);
        }
        Ok(())
    }

    fn offset_of(&self, index: usize) -> u64 {
        let index = u64::try_from(index).unwrap_or(u64::MAX);
        self.offset.saturating_add(index.saturating_mul(48))
    }
}
