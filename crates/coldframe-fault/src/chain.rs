//! A chain of memory files in a directory as a source: each block read by pread(2), checked in each
//! file that has a part of it, and put together.
//!
//! Invariant: no byte of a file is handed out that was not hashed in the buffer that it is copied
//! from; where no extent has a page, or one says that it is zero, nothing of the file is read.

use coldframe_mem::{Layers, MemError, MemoryFile};
use coldframe_memfile::{BlockPlan, Blocks, Content as Stored, Extents};
use coldframe_units::{BLOCK_BYTES, FileOffset};

use crate::{BlockReader, BlockSource, Content};

/// The files of a chain, as a source of its youngest memory.
#[derive(Clone, Debug)]
pub struct ChainSource {
    chain: Layers,
    /// The Full file first.
    files: Vec<MemoryFile>,
}

impl ChainSource {
    /// From one Full file and any number of Diffs, each on the one before it.
    ///
    /// # Errors
    /// As [`Layers::open`].
    pub fn open(files: Vec<MemoryFile>) -> Result<Self, MemError> {
        let chain = Layers::open(files.clone())?;
        Ok(Self { chain, files })
    }

    /// The chain.
    #[must_use]
    pub const fn chain(&self) -> &Layers {
        &self.chain
    }
}

impl BlockSource for ChainSource {
    type Error = MemError;
    type Reader<'a> = ChainReader<'a>;

    fn reader(&self) -> Result<ChainReader<'_>, MemError> {
        // The youngest first: it has the last word.
        let layers = self.files.iter().rev().map(Layer::open);
        Ok(ChainReader {
            layers: layers.collect::<Result<_, _>>()?,
            data: Vec::new(),
        })
    }
}

/// The tables of one file.
#[derive(Debug)]
struct Layer<'a> {
    file: &'a MemoryFile,
    page_log2: u8,
    extents: Extents<'a>,
    blocks: Blocks<'a>,
}

/// Reads blocks of a chain.
#[derive(Debug)]
pub struct ChainReader<'a> {
    layers: Vec<Layer<'a>>,
    /// What one file has of a block.
    data: Vec<u8>,
}

/// Places in a block that no file so far has, as ranges of bytes.
type Gaps = Vec<std::ops::Range<usize>>;

impl BlockReader for ChainReader<'_> {
    type Error = MemError;

    fn read(&mut self, block: u64, buf: &mut [u8]) -> Result<Content, MemError> {
        let mut gaps = Gaps::new();
        gaps.push(0..buf.len());
        let mut content = Content::Zero;
        for layer in &self.layers {
            if gaps.is_empty() {
                break;
            }
            if layer.compose(block, buf, &mut gaps, &mut self.data)? {
                content = Content::Data;
            }
        }
        for gap in gaps {
            // A Full file covers everything, so there is none; it would be zero in it.
            buf.get_mut(gap).unwrap_or_default().fill(0);
        }
        Ok(content)
    }
}

impl<'a> Layer<'a> {
    fn open(file: &'a MemoryFile) -> Result<Self, MemError> {
        Ok(Self {
            file,
            page_log2: file.view()?.page_size().log2(),
            extents: file.extents()?,
            blocks: file.blocks()?,
        })
    }

    /// Puts what this file has of a block into the gaps, and takes them out; true if any of it is
    /// data.
    fn compose(
        &self,
        block: u64,
        buf: &mut [u8],
        gaps: &mut Gaps,
        data: &mut Vec<u8>,
    ) -> Result<bool, MemError> {
        let (start, len) = (block * BLOCK_BYTES, buf.len() as u64);
        let plan = self.extents.block_plan(block);
        let is_untouched = matches!(gaps.as_slice(), [gap] if gap.len() == buf.len());
        if let Some(plan) = plan.as_ref()
            && is_untouched
            && plan.is_whole()
            && plan.data_len().get() == len
        {
            // All of it is data of this file: it is checked where it will be copied from.
            gaps.clear();
            return self.read(plan, buf).map(|()| true);
        }
        if let Some(plan) = &plan {
            data.resize(plan.data_len().get() as usize, 0);
        }
        let first = coldframe_units::PageIndex::new(start >> self.page_log2);
        let mut is_read = false;
        let mut has_data = false;
        // Where the data of the next extent is in `data`.
        let mut at = 0;
        for extent in self.extents.iter_from(first) {
            let from = extent.run.start().get() << self.page_log2;
            let to = extent.run.end().get() << self.page_log2;
            if from >= start + len {
                break;
            }
            let inside = |offset: u64| (offset.clamp(start, start + len) - start) as usize;
            let part = inside(from)..inside(to);
            let is_data = matches!(extent.content, Stored::Data { .. });
            let is_wanted = gaps
                .iter()
                .any(|gap| gap.start < part.end && part.start < gap.end);
            if is_data && is_wanted && !is_read {
                let plan = plan.as_ref();
                let plan = plan.ok_or_else(|| self.damaged(block, FileOffset::ZERO))?;
                self.read(plan, data)?;
                is_read = true;
            }
            if is_wanted {
                has_data |= is_data;
                let bytes = is_data.then(|| data.get(at..at + part.len()).unwrap_or_default());
                fill(buf, gaps, &part, bytes);
            }
            if is_data {
                at += part.len();
            }
        }
        Ok(has_data)
    }

    /// Reads all data that this file has of a block, and checks it where it was read to.
    fn read(&self, plan: &BlockPlan, data: &mut [u8]) -> Result<(), MemError> {
        let mut rest = &mut *data;
        for (offset, len) in plan.data() {
            let (part, after) = rest.split_at_mut((len.get() as usize).min(rest.len()));
            let read = self.file.read_at(offset, part);
            read.map_err(|source| MemError::ReadSource { source })?;
            rest = after;
        }
        let block = plan.block();
        let row = self.blocks.get(block).map_err(|source| MemError::Decode {
            path: self.file.path().to_path_buf(),
            source,
        })?;
        match row.map(|row| row.matches(plan, data)) {
            Some(Ok(true)) => Ok(()),
            _ => {
                let first = plan.data().next();
                Err(self.damaged(block, first.map_or(FileOffset::ZERO, |(at, _)| at)))
            }
        }
    }

    fn damaged(&self, block: u64, offset: FileOffset) -> MemError {
        MemError::Damaged {
            path: self.file.path().to_path_buf(),
            block,
            offset,
        }
    }
}

/// Fills the gaps in `part` with `bytes`, which are those of the part, or with zeros; what is left
/// of the gaps stays.
fn fill(buf: &mut [u8], gaps: &mut Gaps, part: &std::ops::Range<usize>, bytes: Option<&[u8]>) {
    let mut left: Gaps = Vec::with_capacity(gaps.len() + 1);
    for gap in gaps.drain(..) {
        let (from, to) = (gap.start.max(part.start), gap.end.min(part.end));
        if from >= to {
            left.push(gap);
            continue;
        }
        if let Some(place) = buf.get_mut(from..to) {
            match bytes.and_then(|bytes| bytes.get(from - part.start..to - part.start)) {
                Some(bytes) => place.copy_from_slice(bytes),
                None => place.fill(0),
            }
        }
        for rest in [gap.start..from, to..gap.end] {
            if !rest.is_empty() {
                left.push(rest);
            }
        }
    }
    *gaps = left;
}
