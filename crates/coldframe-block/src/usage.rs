//! What the blocks of a disk are; no chunk is read, and no flat image is needed.

use std::collections::HashSet;

use coldframe_chunkfile::{BaseId, PartSource};
use coldframe_chunks::{Backend, Located, PackStore};
use coldframe_units::{ByteLen, ChunkId, RootHash};

use crate::BlockError;
use crate::error::store;

/// What the blocks of a disk are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskUsage {
    /// The size of the disk.
    pub size: ByteLen,
    /// Blocks that its own index names, zeros included; its ancestors name the others.
    pub own_blocks: u64,
    /// Blocks that are chunks.
    pub data_blocks: u64,
    /// Different chunks among them.
    pub unique_chunks: u64,
    /// Blocks that are zero.
    pub zero_blocks: u64,
    /// Blocks that are read from the flat image.
    pub base_blocks: u64,
    /// How many ancestors the index has.
    pub ancestors: usize,
    /// The flat image that the disk was made of, if it may still need it.
    pub base: Option<BaseId>,
    /// Blocks with pages that are lost for good: reading them is an error until they are written.
    pub lost_blocks: u64,
}

fn chunk_of((_, source): (u16, PartSource)) -> Option<ChunkId> {
    match source {
        PartSource::Chunk { id, .. } => Some(id),
        PartSource::Zero | PartSource::Origin { .. } | PartSource::Lost => None,
    }
}

/// Counts the blocks of the disk with this root.
///
/// # Errors
/// [`BlockError::Store`], [`BlockError::Read`].
pub fn usage<B: Backend>(from: &PackStore<B>, root: RootHash) -> Result<DiskUsage, BlockError> {
    let image = from.image(root).map_err(store)?;
    let index = image.index();
    let mut usage = DiskUsage {
        size: index.size(),
        own_blocks: 0,
        data_blocks: 0,
        unique_chunks: 0,
        zero_blocks: 0,
        base_blocks: 0,
        ancestors: image.ancestor_count(),
        base: image.base().map(|(id, _)| id),
        lost_blocks: image.lost_pages().map_err(store)?.len() as u64,
    };
    for page in index.pages() {
        let rows = from.index_page(index, &page).map_err(store)?;
        usage.own_blocks += rows
            .rows()
            .iter()
            .map(|row| u64::from(row.count))
            .sum::<u64>();
    }
    let parts = index.parts();
    usage.own_blocks += parts.chunk_by(|one, next| one.block == next.block).count() as u64;
    let mut chunks = HashSet::new();
    let mut block = 0;
    while block < index.block_count() {
        let run = image.locate_run(block, u64::MAX);
        let (located, count) = run.map_err(|source| BlockError::Read { block, source })?;
        match located {
            Located::Zero => usage.zero_blocks += count,
            Located::Base => usage.base_blocks += count,
            Located::Parts => {
                usage.data_blocks += count;
                chunks.extend(image.parts(block).known.into_iter().filter_map(chunk_of));
            }
            Located::Chunk(id, _) => {
                usage.data_blocks += count;
                chunks.insert(id);
            }
        }
        block += count;
    }
    usage.unique_chunks = chunks.len() as u64;
    Ok(usage)
}
