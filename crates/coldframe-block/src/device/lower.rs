//! What lies below the active layer: changes on their way into the store, then the image.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use coldframe_chunks::{Backend, Located};
use coldframe_ring::Sequence;
use coldframe_units::{BLOCK_BYTES, ChunkId};

use crate::overlay::{Block, Blocks, ENTRY_BYTES, Runs};
use crate::{BlockError, DiskImage};

/// A layer that does not change any more.
#[derive(Debug)]
pub(super) struct Frozen {
    /// By shard.
    pub blocks: Vec<Blocks>,
    pub zeros: Runs,
    /// The size of the disk when it froze, and the last record that is in it.
    pub size: u64,
    pub through: Sequence,
    pub held: u64,
}

impl Frozen {
    pub fn block(&self, block: u64) -> Option<&Block> {
        self.blocks[shard_of(block, self.blocks.len())].get(block)
    }

    pub fn is_empty(&self) -> bool {
        self.blocks.iter().all(|blocks| blocks.len() == 0) && self.zeros.len() == 0
    }
}

/// Blocks of 1 MiB that lie together are in one shard.
pub(super) const fn shard_of(block: u64, count: usize) -> usize {
    (block / (crate::record::WRITE_BYTES_MAX / BLOCK_BYTES)) as usize % count
}

/// Blocks of the flat image that were read, and are in no index yet. They can be read again.
#[derive(Debug, Default)]
pub(super) struct Ingested {
    blocks: Mutex<HashMap<u64, Option<Bytes>>>,
    held: AtomicU64,
}

impl Ingested {
    pub fn blocks(&self) -> MutexGuard<'_, HashMap<u64, Option<Bytes>>> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    fn insert(&self, block: u64, bytes: Option<Bytes>) {
        let cost = cost(&bytes);
        if self.blocks().insert(block, bytes).is_none() {
            self.held.fetch_add(cost, Ordering::Relaxed);
        }
    }

    /// Forgets blocks that an index has.
    pub fn forget(&self, blocks: impl Iterator<Item = u64>) {
        let mut held = self.blocks();
        for block in blocks {
            if let Some(bytes) = held.remove(&block) {
                self.held.fetch_sub(cost(&bytes), Ordering::Relaxed);
            }
        }
    }
}

fn cost(bytes: &Option<Bytes>) -> u64 {
    ENTRY_BYTES + bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)
}

/// All that lies below the active layer, at one moment.
pub(super) struct Lower<B: Backend> {
    pub frozen: Option<Arc<Frozen>>,
    pub image: Arc<DiskImage<B>>,
}

impl<B: Backend> Lower<B> {
    /// The chunk of a block, if all of the block is in one.
    pub fn chunk(&self, block: u64) -> Result<Option<Bytes>, BlockError> {
        match self.located(block)? {
            Some(Located::Chunk(id, len)) => self.image.chunk(block, id, len).map(Some),
            _ => Ok(None),
        }
    }

    /// The id of that chunk; it is not read.
    pub fn chunk_id(&self, block: u64) -> Result<Option<ChunkId>, BlockError> {
        match self.located(block)? {
            Some(Located::Chunk(id, _)) => Ok(Some(id)),
            _ => Ok(None),
        }
    }

    /// Where the image has a block, unless the frozen layer covers it.
    fn located(&self, block: u64) -> Result<Option<Located>, BlockError> {
        let covers = |frozen: &Arc<Frozen>| {
            frozen.block(block).is_some() || frozen.zeros.end_of(block).is_some()
        };
        if self.frozen.as_ref().is_some_and(covers) {
            return Ok(None);
        }
        Ok(Some(self.image.located(block, 1)?.0))
    }
}

/// The bytes of a block of the image, at least the wanted pages of them; those of the flat image
/// are kept, as far as there is room.
pub(super) fn content<B: Backend>(
    image: &DiskImage<B>,
    ingested: &Ingested,
    ingest_max: u64,
    block: u64,
    wanted: u16,
) -> Result<Option<Bytes>, BlockError> {
    match image.located(block, 1)?.0 {
        Located::Zero => Ok(None),
        Located::Chunk(id, len) => image.chunk(block, id, len).map(Some),
        Located::Parts => image.read_parts(block, wanted),
        Located::Base => {
            if let Some(bytes) = ingested.blocks().get(&block) {
                return Ok(bytes.clone());
            }
            let bytes = image.base_block(block)?;
            if ingested.held() < ingest_max {
                ingested.insert(block, bytes.clone());
            }
            Ok(bytes)
        }
    }
}
