//! Several stores read as one: the near ones first, and filled from the far ones.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use coldframe_units::ChunkId;

use crate::StoreError;
use crate::chunk::{Chunk, ChunkStat, ChunkStore, PutCount};

/// One store of several, the nearest first.
#[derive(Clone)]
pub struct Layer {
    store: Arc<dyn ChunkStore>,
    is_cache: bool,
}

impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layer")
            .field("is_cache", &self.is_cache)
            .finish_non_exhaustive()
    }
}

impl Layer {
    /// A store that is only read; chunks that are put go to it if it is the last.
    #[must_use]
    pub fn store(store: Arc<dyn ChunkStore>) -> Self {
        let is_cache = false;
        Self { store, is_cache }
    }

    /// A store that also keeps what is found in layers behind it. That it fails is no error of a
    /// read, only of speed.
    #[must_use]
    pub fn cache(store: Arc<dyn ChunkStore>) -> Self {
        let is_cache = true;
        Self { store, is_cache }
    }
}

/// Stores that are asked one after the other; what is missing or damaged in one is sought in the
/// next. Chunks are put into the last.
#[derive(Clone, Debug)]
pub struct Layers {
    front: Vec<Layer>,
    last: Layer,
}

impl Layers {
    /// These layers, `last` behind all of `front`.
    #[must_use]
    pub fn new(front: Vec<Layer>, last: Arc<dyn ChunkStore>) -> Self {
        let last = Layer::store(last);
        Self { front, last }
    }

    fn all(&self) -> impl Iterator<Item = &Layer> {
        self.front.iter().chain([&self.last])
    }

    /// Keeps a chunk in the caches in front of the layer of this number.
    fn fill(&self, before: usize, id: ChunkId, bytes: &Bytes) {
        let caches = self
            .front
            .iter()
            .take(before)
            .filter(|layer| layer.is_cache);
        for cache in caches {
            let kept = Chunk::verify(id, bytes.clone()).and_then(|chunk| cache.store.put(&chunk));
            if let Err(error) = kept {
                tracing::warn!(chunk = %id, %error, "chunk not cached");
            }
        }
    }
}

impl ChunkStore for Layers {
    fn get(&self, id: ChunkId) -> Result<Bytes, StoreError> {
        let mut reason = None;
        for (number, layer) in self.all().enumerate() {
            match layer.store.get(id) {
                Ok(bytes) => {
                    self.fill(number, id, &bytes);
                    return Ok(bytes);
                }
                Err(error) if error.is_missing() => {}
                // The last layer's word counts most; a cache's failure counts only without any.
                Err(error) => {
                    tracing::warn!(chunk = %id, %error, layer = number, "layer passed over");
                    reason = Some(error);
                }
            }
        }
        Err(reason.unwrap_or(StoreError::MissingChunk { id }))
    }

    fn stat(&self, id: ChunkId) -> Result<Option<ChunkStat>, StoreError> {
        let mut reason = None;
        for layer in self.all() {
            match layer.store.stat(id) {
                Ok(None) => {}
                Ok(found) => return Ok(found),
                Err(error) => reason = Some(error),
            }
        }
        reason.map_or(Ok(None), Err)
    }

    fn put_many(&self, chunks: &[Chunk]) -> Result<PutCount, StoreError> {
        self.last.store.put_many(chunks)
    }

    fn list(
        &self,
        each: &mut dyn FnMut(ChunkId, ChunkStat) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let mut seen = BTreeSet::new();
        let mut stopped = ControlFlow::Continue(());
        for layer in self.all() {
            layer.store.list(&mut |id, stat| {
                if seen.insert(id) {
                    stopped = each(id, stat);
                }
                stopped
            })?;
            if stopped.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn delete(&self, ids: &[ChunkId]) -> Result<u64, StoreError> {
        let mut most = 0;
        for layer in self.all() {
            most = layer.store.delete(ids)?.max(most);
        }
        Ok(most)
    }
}
