//! A chain of memory files in a directory as a source: blocks are read by pread(2).

use coldframe_envelope::DecodeError;
use coldframe_mem::{Layers, MemError, MemoryFile};
use coldframe_memfile::{BlockPlan, BlockRow};
use coldframe_units::FileOffset;

use crate::compose::{Layer, LayerBytes, compose};
use crate::{BlockReader, BlockSource, Content};

/// The files of a chain, as a source of its youngest memory.
#[derive(Clone, Debug)]
pub struct ChainSource {
    layers: Layers,
    /// The Full file first.
    files: Vec<MemoryFile>,
}

impl ChainSource {
    /// From one Full file and any number of Diffs, each on the one before it.
    ///
    /// # Errors
    /// As [`Layers::open`].
    pub fn open(files: Vec<MemoryFile>) -> Result<Self, MemError> {
        let layers = Layers::open(files.clone())?;
        Ok(Self { layers, files })
    }

    /// The files, in order.
    #[must_use]
    pub const fn layers(&self) -> &Layers {
        &self.layers
    }
}

impl BlockSource for ChainSource {
    type Error = MemError;
    type Reader<'a> = ChainReader<'a>;

    fn reader(&self) -> Result<ChainReader<'_>, MemError> {
        let open = |file| -> Result<Layer<'_, FileBytes<'_>>, MemError> {
            let bytes = FileBytes(file);
            Ok(Layer {
                page_size: bytes.0.view()?.page_size(),
                extents: bytes.0.extents()?,
                blocks: bytes.0.blocks()?,
                bytes,
            })
        };
        // The youngest first: it has the last word.
        let layers = self.files.iter().rev().map(open);
        Ok(ChainReader {
            layers: layers.collect::<Result<_, _>>()?,
            scratch: Vec::new(),
        })
    }
}

/// Reads blocks of a chain.
#[derive(Debug)]
pub struct ChainReader<'a> {
    layers: Vec<Layer<'a, FileBytes<'a>>>,
    scratch: Vec<u8>,
}

impl BlockReader for ChainReader<'_> {
    type Error = MemError;

    fn read(&mut self, block: u64, buf: &mut [u8]) -> Result<Content, MemError> {
        compose(&self.layers, block, buf, &mut self.scratch)
    }
}

#[derive(Debug)]
struct FileBytes<'a>(&'a MemoryFile);

impl LayerBytes for FileBytes<'_> {
    type Error = MemError;

    fn read(&self, plan: &BlockPlan, row: &BlockRow, data: &mut [u8]) -> Result<(), MemError> {
        let mut rest = &mut *data;
        for (offset, len) in plan.data() {
            let (part, after) = rest.split_at_mut((len.get() as usize).min(rest.len()));
            let read = self.0.read_at(offset, part);
            read.map_err(|source| MemError::ReadSource { source })?;
            rest = after;
        }
        if row.matches(plan, data) == Ok(true) {
            return Ok(());
        }
        let first = plan.data().next();
        Err(self.damaged(plan.block(), first.map_or(FileOffset::ZERO, |(at, _)| at)))
    }

    fn refused(&self, source: DecodeError) -> MemError {
        MemError::Decode {
            path: self.0.path().to_path_buf(),
            source,
        }
    }

    fn damaged(&self, block: u64, offset: FileOffset) -> MemError {
        MemError::Damaged {
            path: self.0.path().to_path_buf(),
            block,
            offset,
        }
    }
}
