//! Bytes of a chain's files in private memory, each block checked there before it is used.
//!
//! Invariants: what is handed out was read once, by pread(2), and is what was hashed: a file that
//! changes between check and use is not noticed, and does no harm. A block that several pieces
//! share is read and checked once, as long as pieces are asked for in rising order.

use std::collections::VecDeque;
use std::ops::Range;

use coldframe_memfile::{BlockPlan, BlockRow, Blocks, Extents};
use coldframe_units::{BLOCK_BYTES, FileOffset};

use crate::chain::Layer;
use crate::chain::sweep::Piece;
use crate::{MemError, Verify};

/// Blocks that are kept: as many files as can share one block of RAM in pages of 4 KiB.
const KEPT_MAX: usize = 16;

/// The tables of one file, to check its blocks with; can be shared between threads.
pub(crate) struct Tables<'a> {
    layer: &'a Layer,
    extents: Extents<'a>,
    blocks: Blocks<'a>,
}

impl<'a> Tables<'a> {
    fn new(layer: &'a Layer) -> Result<Self, MemError> {
        Ok(Self {
            layer,
            extents: layer.file.extents()?,
            blocks: layer.file.blocks()?,
        })
    }

    /// Those of all files, in the order of the chain; none if nothing is to be checked.
    pub fn of(layers: &'a [Layer], verify: Verify) -> Result<Vec<Self>, MemError> {
        match verify {
            Verify::Yes => layers.iter().map(Self::new).collect(),
            Verify::No => Ok(Vec::new()),
        }
    }

    /// The hash of a block of which the file has all.
    pub fn whole(&self, block: u64) -> Result<Option<[u8; 32]>, MemError> {
        let row = self.row(block)?;
        Ok(row.filter(|row| row.whole).map(|row| row.hash))
    }

    fn row(&self, block: u64) -> Result<Option<BlockRow>, MemError> {
        let row = self.blocks.get(block);
        row.map_err(|source| self.layer.refused(source))
    }

    /// Checks a block's data, which lies at [`BlockPlan::data`].
    fn check(&self, plan: &BlockPlan, data: &[u8]) -> Result<(), MemError> {
        let row = self.row(plan.block())?;
        let matches = row.map(|row| row.matches(plan, data)).transpose()?;
        if matches == Some(true) {
            return Ok(());
        }
        Err(MemError::Damaged {
            path: self.layer.file.path().to_path_buf(),
            block: plan.block(),
            offset: plan.data().next().map_or(FileOffset::ZERO, |(at, _)| at),
        })
    }
}

/// A block that was read and checked.
struct Kept {
    layer: usize,
    plan: BlockPlan,
    data: Vec<u8>,
}

/// Reads pieces; each thread has its own.
pub(crate) struct Reader<'a> {
    layers: &'a [Layer],
    tables: &'a [Tables<'a>],
    ram_len: u64,
    kept: VecDeque<Kept>,
    out: Vec<u8>,
}

impl<'a> Reader<'a> {
    /// Blocks are checked if there are `tables`.
    pub fn new(layers: &'a [Layer], tables: &'a [Tables<'a>]) -> Self {
        Self {
            layers,
            tables,
            ram_len: layers.first().map_or(0, |layer| layer.layout.total().get()),
            kept: VecDeque::new(),
            out: Vec::new(),
        }
    }

    /// The bytes of a piece, checked; `None` if they are zero. The piece is not longer than what
    /// may be in memory at a time.
    pub fn read(&mut self, piece: &Piece) -> Result<Option<&[u8]>, MemError> {
        let Some(file) = piece.file else {
            return Ok(None);
        };
        self.out
            .resize((piece.range.end - piece.range.start) as usize, 0);
        if self.tables.is_empty() {
            self.read_file(piece.layer, file, 0..self.out.len())?;
            return Ok(Some(&self.out));
        }
        let mut next = piece.range.start;
        while next < piece.range.end {
            let whole = self.whole_blocks(next, piece.range.end);
            if whole > next {
                self.read_whole(piece, next..whole)?;
                next = whole;
            } else {
                let end = (next / BLOCK_BYTES + 1) * BLOCK_BYTES;
                let part = next..end.min(piece.range.end);
                next = part.end;
                self.read_part(piece, part)?;
            }
        }
        Ok(Some(&self.out))
    }

    /// How far whole blocks reach from `start` on, which need not begin one.
    const fn whole_blocks(&self, start: u64, end: u64) -> u64 {
        if !start.is_multiple_of(BLOCK_BYTES) {
            return start;
        }
        if end == self.ram_len {
            return end;
        }
        end / BLOCK_BYTES * BLOCK_BYTES
    }

    fn read_file(&mut self, layer: usize, file: u64, at: Range<usize>) -> Result<(), MemError> {
        let offset = FileOffset::new(file);
        let read = self.layers[layer].file.read_at(offset, &mut self.out[at]);
        read.map_err(|source| MemError::ReadSource { source })
    }

    /// Blocks of which the piece has every byte: they lie together in the file.
    fn read_whole(&mut self, piece: &Piece, range: Range<u64>) -> Result<(), MemError> {
        let part = piece.part(&range);
        let skip = (range.start - piece.range.start) as usize;
        let len = (range.end - range.start) as usize;
        let file = part.file.expect("a piece of data");
        self.read_file(piece.layer, file, skip..skip + len)?;
        let tables = &self.tables[piece.layer];
        let blocks = range.start / BLOCK_BYTES..range.end.div_ceil(BLOCK_BYTES);
        let bytes = self.out[skip..skip + len].chunks(BLOCK_BYTES as usize);
        for (block, bytes) in blocks.zip(bytes) {
            if let Some(plan) = tables.extents.block_plan(block) {
                tables.check(&plan, bytes)?;
            }
        }
        Ok(())
    }

    /// A part of one block, of which all that the file has is read, to check it.
    fn read_part(&mut self, piece: &Piece, range: Range<u64>) -> Result<(), MemError> {
        let block = range.start / BLOCK_BYTES;
        let is_it = |kept: &Kept| kept.layer == piece.layer && kept.plan.block() == block;
        let index = match self.kept.iter().position(is_it) {
            Some(index) => index,
            None => self.keep(piece.layer, block)?,
        };
        let kept = &self.kept[index];
        let file = piece.part(&range).file.expect("a piece of data");
        let mut before = 0;
        for (at, len) in kept.plan.data() {
            if (at.get()..at.get() + len.get()).contains(&file) {
                let start = before + (file - at.get()) as usize;
                let skip = (range.start - piece.range.start) as usize;
                let len = (range.end - range.start) as usize;
                self.out[skip..skip + len].copy_from_slice(&kept.data[start..start + len]);
                return Ok(());
            }
            before += len.get() as usize;
        }
        unreachable!("the extents that the piece was made of have its bytes");
    }

    /// Reads and checks a block; which of the kept ones it is.
    fn keep(&mut self, layer: usize, block: u64) -> Result<usize, MemError> {
        let tables = &self.tables[layer];
        let plan = tables.extents.block_plan(block);
        let plan = plan.expect("a block with a piece of data has a plan");
        let mut data = vec![0; plan.data_len().get() as usize];
        let mut filled = 0;
        for (at, len) in plan.data() {
            let end = filled + len.get() as usize;
            let read = self.layers[layer].file.read_at(at, &mut data[filled..end]);
            read.map_err(|source| MemError::ReadSource { source })?;
            filled = end;
        }
        tables.check(&plan, &data)?;
        if self.kept.len() == KEPT_MAX {
            self.kept.pop_front();
        }
        self.kept.push_back(Kept { layer, plan, data });
        Ok(self.kept.len() - 1)
    }
}
