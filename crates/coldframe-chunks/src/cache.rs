//! Chunks kept in memory: bounded in bytes, filled by reads, with counts of hits and misses.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use coldframe_units::ChunkId;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

/// What a chunk costs beside its bytes.
const OVERHEAD: u64 = 128;

#[derive(Clone, Debug)]
struct ByLength;

impl Weighter<ChunkId, Bytes> for ByLength {
    fn weight(&self, _: &ChunkId, bytes: &Bytes) -> u64 {
        bytes.len() as u64 + OVERHEAD
    }
}

/// How often chunks were found in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheCount {
    /// Reads that were answered from memory.
    pub hits: u64,
    /// Reads that were not.
    pub misses: u64,
    /// Bytes that are kept now.
    pub bytes: u64,
}

/// Verified chunks in memory.
#[derive(Debug)]
pub(crate) struct ChunkCache {
    cache: Cache<ChunkId, Bytes, ByLength>,
    hits: AtomicU64,
    misses: AtomicU64,
}

impl ChunkCache {
    pub fn new(bytes_max: u64) -> Self {
        let chunks = usize::try_from(bytes_max / (64 << 10)).unwrap_or(usize::MAX);
        Self {
            cache: Cache::with_weighter(chunks.clamp(16, 1 << 20), bytes_max, ByLength),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    pub fn get(&self, id: ChunkId) -> Option<Bytes> {
        let found = self.cache.get(&id);
        let count = if found.is_some() {
            &self.hits
        } else {
            &self.misses
        };
        count.fetch_add(1, Ordering::Relaxed);
        found
    }

    pub fn insert(&self, id: ChunkId, bytes: &Bytes) {
        self.cache.insert(id, bytes.clone());
    }

    pub fn remove(&self, id: ChunkId) {
        self.cache.remove(&id);
    }

    pub fn count(&self) -> CacheCount {
        CacheCount {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            bytes: self.cache.weight(),
        }
    }
}
