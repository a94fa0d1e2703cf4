//! A chain of snapshots in a chunk store as a source: the tables of each memory file are kept there
//! as a skeleton, its blocks are chunks.
//!
//! Invariant: a chunk is handed out by the store only after its bytes were seen to be its id; they
//! are used from the buffer that was hashed.

use std::sync::Arc;

use bytes::Bytes;
use coldframe_chunks::{ChunkStore, StoreError};
use coldframe_envelope::{DecodeError, Limits};
use coldframe_memfile::{BlockPlan, BlockRow, Kind, MemFile, Piece};
use coldframe_units::{ChunkId, FileOffset, RamLayout, RootHash};

use crate::compose::{Layer, LayerBytes, compose};
use crate::{BlockReader, BlockSource, Content};

/// Why a chain in a store, or a block of it, cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreSourceError {
    /// The tables of a memory file are damaged, of another version, or of another parent.
    #[error("the tables of memory file {number} of the chain are refused")]
    Decode {
        /// Which file, counted from the Full file, which is 0.
        number: usize,
        /// Why.
        #[source]
        source: DecodeError,
    },
    /// A chain begins with one Full file, and all others are Diffs of the same RAM.
    #[error("memory file {number} of the chain does not follow the one below it: {what}")]
    NotAChain {
        /// Which file, counted from the Full file, which is 0.
        number: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// A chunk cannot be had.
    #[error("block {block} of memory file {number} of the chain cannot be had")]
    Chunk {
        /// Which block, counted in 64 KiB of RAM.
        block: u64,
        /// Which file, counted from the Full file, which is 0.
        number: usize,
        /// Why.
        #[source]
        source: Box<StoreError>,
    },
    /// A chunk has other bytes than its block can have.
    #[error("chunk {chunk} does not fit block {block} of memory file {number} of the chain")]
    Misfit {
        /// Which block, counted in 64 KiB of RAM.
        block: u64,
        /// Which file, counted from the Full file, which is 0.
        number: usize,
        /// The chunk, if the tables have one.
        chunk: ChunkId,
    },
}

/// The memory files of a chain in a chunk store, as a source of its youngest memory.
#[derive(Clone)]
pub struct StoreSource {
    /// The Full file's first.
    skeletons: Vec<Bytes>,
    chunks: Arc<dyn ChunkStore>,
    layout: RamLayout,
    root: RootHash,
}

impl StoreSource {
    /// From the skeletons of one Full file and any number of Diffs, each on the one before it, and
    /// the store of their chunks: a store with a cache in front of it, if it is far away.
    ///
    /// # Errors
    /// [`StoreSourceError::Decode`], [`StoreSourceError::NotAChain`].
    pub fn open(
        skeletons: Vec<Bytes>,
        chunks: Arc<dyn ChunkStore>,
    ) -> Result<Self, StoreSourceError> {
        let mut below: Option<(RootHash, RamLayout)> = None;
        for (number, skeleton) in skeletons.iter().enumerate() {
            let refused = |source| StoreSourceError::Decode { number, source };
            let not_a_chain = |what| StoreSourceError::NotAChain { number, what };
            let view = MemFile::open_skeleton(skeleton, Limits::MEMORY_FILE).map_err(refused)?;
            match &below {
                None if view.kind() != Kind::Full => return Err(not_a_chain("it is no Full file")),
                Some(_) if view.kind() != Kind::Diff => return Err(not_a_chain("it is no Diff")),
                Some((_, layout)) if view.layout() != layout => {
                    return Err(not_a_chain("its RAM layout is another"));
                }
                Some((root, _)) => view.check_parent(*root).map_err(refused)?,
                None => {}
            }
            below = Some((view.root(), view.layout().clone()));
        }
        let number = 0;
        let what = "there is none";
        let (root, layout) = below.ok_or(StoreSourceError::NotAChain { number, what })?;
        Ok(Self {
            skeletons,
            chunks,
            layout,
            root,
        })
    }

    /// Where RAM lies in the guest.
    #[must_use]
    pub const fn layout(&self) -> &RamLayout {
        &self.layout
    }

    /// The root of the youngest memory file.
    #[must_use]
    pub const fn root(&self) -> RootHash {
        self.root
    }
}

impl std::fmt::Debug for StoreSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreSource")
            .field("root", &self.root)
            .field("files", &self.skeletons.len())
            .finish_non_exhaustive()
    }
}

impl BlockSource for StoreSource {
    type Error = StoreSourceError;
    type Reader<'a> = StoreReader<'a>;

    fn reader(&self) -> Result<StoreReader<'_>, StoreSourceError> {
        let chunks = &*self.chunks;
        let open = |(number, skeleton)| -> Result<_, StoreSourceError> {
            let refused = |source| StoreSourceError::Decode { number, source };
            let skeleton: &Bytes = skeleton;
            let view = MemFile::open_skeleton(skeleton, Limits::MEMORY_FILE).map_err(refused)?;
            Ok(Layer {
                bytes: ChunkBytes { number, chunks },
                page_size: view.page_size(),
                extents: view.extents().map_err(refused)?,
                blocks: view.blocks().map_err(refused)?,
            })
        };
        // The youngest first: it has the last word.
        let layers = self.skeletons.iter().enumerate().rev().map(open);
        Ok(StoreReader {
            layers: layers.collect::<Result<_, _>>()?,
            scratch: Vec::new(),
        })
    }
}

/// Reads blocks of a chain in a store.
pub struct StoreReader<'a> {
    layers: Vec<Layer<'a, ChunkBytes<'a>>>,
    scratch: Vec<u8>,
}

impl BlockReader for StoreReader<'_> {
    type Error = StoreSourceError;

    fn read(&mut self, block: u64, buf: &mut [u8]) -> Result<Content, StoreSourceError> {
        compose(&self.layers, block, buf, &mut self.scratch)
    }
}

/// The chunks of one memory file.
struct ChunkBytes<'a> {
    number: usize,
    chunks: &'a dyn ChunkStore,
}

impl LayerBytes for ChunkBytes<'_> {
    type Error = StoreSourceError;

    fn read(
        &self,
        plan: &BlockPlan,
        row: &BlockRow,
        data: &mut [u8],
    ) -> Result<(), StoreSourceError> {
        let (block, number, chunk) = (plan.block(), self.number, row.stored_id());
        let misfit = StoreSourceError::Misfit {
            block,
            number,
            chunk,
        };
        let bytes = self.chunks.get(chunk);
        let bytes = bytes.map_err(|source| StoreSourceError::Chunk {
            block,
            number,
            source: Box::new(source),
        })?;
        // The hash is right: it is of zeros between the data, too, where the block is whole.
        let is_right = row.whole == plan.is_whole() && row.block == block;
        if !is_right || bytes.len() as u64 != plan.hashed_len().get() {
            return Err(misfit);
        }
        let (mut from, mut to) = (&*bytes, data);
        for piece in plan.pieces() {
            let (Piece::Data { len, .. } | Piece::Zeros { len }) = *piece;
            let Some((now, later)) = from.split_at_checked(len.get() as usize) else {
                return Err(misfit);
            };
            from = later;
            match piece {
                Piece::Data { .. } => {
                    let Some((place, rest)) = to.split_at_mut_checked(now.len()) else {
                        return Err(misfit);
                    };
                    place.copy_from_slice(now);
                    to = rest;
                }
                Piece::Zeros { .. } if now.iter().all(|byte| *byte == 0) => {}
                Piece::Zeros { .. } => return Err(misfit),
            }
        }
        Ok(())
    }

    fn refused(&self, source: DecodeError) -> StoreSourceError {
        let number = self.number;
        StoreSourceError::Decode { number, source }
    }

    fn damaged(&self, block: u64, _: FileOffset) -> StoreSourceError {
        StoreSourceError::Misfit {
            block,
            number: self.number,
            chunk: ChunkId::from_bytes([0; 32]),
        }
    }
}
