//! Chunks, and the trait of all that stores them.

use std::ops::ControlFlow;

use bytes::Bytes;
use coldframe_chunkfile::{CHUNK_BYTES_MAX, Compression};
use coldframe_units::{ByteLen, ChunkId};

use crate::StoreError;

/// A chunk: bytes, and the id that they are known to have. Hashed once, when it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    id: ChunkId,
    bytes: Bytes,
}

impl Chunk {
    /// Of these bytes.
    ///
    /// # Errors
    /// [`StoreError::ChunkLen`] unless there are 1 byte to 2 MiB.
    pub fn new(bytes: Bytes) -> Result<Self, StoreError> {
        check_len(bytes.len())?;
        let id = id_of(&bytes);
        Ok(Self { id, bytes })
    }

    /// Of these bytes, which are said to have this id.
    ///
    /// # Errors
    /// [`StoreError::WrongBytes`] if they have another; as [`Chunk::new`].
    pub fn verify(id: ChunkId, bytes: Bytes) -> Result<Self, StoreError> {
        let chunk = Self::new(bytes)?;
        if chunk.id != id {
            let found = chunk.id;
            return Err(StoreError::WrongBytes { id, found });
        }
        Ok(chunk)
    }

    /// Of bytes that were seen to have this id.
    pub(crate) const fn known(id: ChunkId, bytes: Bytes) -> Self {
        Self { id, bytes }
    }

    /// Its id: the BLAKE3 hash of its bytes.
    #[must_use]
    pub const fn id(&self) -> ChunkId {
        self.id
    }

    /// Its bytes.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

pub(crate) fn id_of(bytes: &[u8]) -> ChunkId {
    ChunkId::from_bytes(*blake3::hash(bytes).as_bytes())
}

/// Whether all bytes are zero: such a block is a row of an index, and no chunk.
#[must_use]
pub fn is_zero(bytes: &[u8]) -> bool {
    bytes
        .chunks(128)
        .all(|part| part.iter().fold(0, |all, byte| all | byte) == 0)
}

pub(crate) fn check_len(len: usize) -> Result<(), StoreError> {
    let max = CHUNK_BYTES_MAX as usize;
    if (1..=max).contains(&len) {
        Ok(())
    } else {
        Err(StoreError::ChunkLen { len, max })
    }
}

/// What is known of a chunk without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkStat {
    /// Its length.
    pub raw_len: ByteLen,
    /// The bytes that it takes where it is stored.
    pub stored_len: ByteLen,
    /// How it is stored.
    pub compression: Compression,
}

/// What became of chunks that were put.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PutCount {
    /// Chunks that were written.
    pub written: u64,
    /// Chunks that were there already.
    pub deduplicated: u64,
    /// Bytes of the chunks that were written, before compression.
    pub raw_bytes: u64,
    /// Bytes that they take where they are stored.
    pub stored_bytes: u64,
}

impl PutCount {
    /// Adds what another put did.
    pub fn add(&mut self, other: Self) {
        self.written += other.written;
        self.deduplicated += other.deduplicated;
        self.raw_bytes += other.raw_bytes;
        self.stored_bytes += other.stored_bytes;
    }
}

/// What is shown the bytes of a chunk, or why they cannot be had, with its number among those that
/// were asked for; it may break off.
pub type Visitor<'a> = dyn Fn(usize, Result<&[u8], StoreError>) -> ControlFlow<()> + Sync + 'a;

/// Something that stores chunks: packs in a directory, an object store, a cache in front of one.
///
/// Invariants of every implementation: the bytes of a chunk were checked against its id when it is
/// handed out; a chunk that was put is durable when the call returns; a missing or damaged chunk
/// is an error that names it, and leaves the others readable.
pub trait ChunkStore: Send + Sync {
    /// The bytes of a chunk.
    ///
    /// # Errors
    /// [`StoreError::MissingChunk`], [`StoreError::DamagedChunk`], or the place failed.
    fn get(&self, id: ChunkId) -> Result<Bytes, StoreError>;

    /// The bytes of many chunks, in the order of `ids`.
    fn get_many(&self, ids: &[ChunkId]) -> Vec<Result<Bytes, StoreError>> {
        ids.iter().map(|id| self.get(*id)).collect()
    }

    /// Shows the bytes of many chunks to `visitor`, with their number in `ids`, in no order and
    /// from several threads, until it breaks off. Nothing of them is kept: this is how to go
    /// through more than fits into memory.
    fn visit_many(&self, ids: &[ChunkId], visitor: &Visitor<'_>) {
        for (number, id) in ids.iter().enumerate() {
            let shown = match self.get(*id) {
                Ok(bytes) => visitor(number, Ok(&bytes)),
                Err(error) => visitor(number, Err(error)),
            };
            if shown.is_break() {
                return;
            }
        }
    }

    /// What is known of a chunk without reading it; `None` if it is not there.
    ///
    /// # Errors
    /// The place failed.
    fn stat(&self, id: ChunkId) -> Result<Option<ChunkStat>, StoreError>;

    /// Whether a chunk is there; its bytes are not read.
    ///
    /// # Errors
    /// The place failed.
    fn has(&self, id: ChunkId) -> Result<bool, StoreError> {
        Ok(self.stat(id)?.is_some())
    }

    /// Whether each of many chunks is there, in the order of `ids`.
    ///
    /// # Errors
    /// The place failed.
    fn has_many(&self, ids: &[ChunkId]) -> Result<Vec<bool>, StoreError> {
        ids.iter().map(|id| self.has(*id)).collect()
    }

    /// Stores a chunk; see [`ChunkStore::put_many`].
    ///
    /// # Errors
    /// As [`ChunkStore::put_many`].
    fn put(&self, chunk: &Chunk) -> Result<PutCount, StoreError> {
        self.put_many(std::slice::from_ref(chunk))
    }

    /// Stores many chunks, those that are not there, durably: with one sync for many of them where
    /// the store can.
    ///
    /// # Errors
    /// The place failed; then any of the chunks may be there, and none that was is lost.
    fn put_many(&self, chunks: &[Chunk]) -> Result<PutCount, StoreError>;

    /// Calls `each` with every chunk, in no order, until it breaks off.
    ///
    /// # Errors
    /// The place failed.
    fn list(
        &self,
        each: &mut dyn FnMut(ChunkId, ChunkStat) -> ControlFlow<()>,
    ) -> Result<(), StoreError>;

    /// Removes chunks, needed or not, and says how many were there. Garbage collection is
    /// the safe way; this one is for caches and for tests.
    ///
    /// # Errors
    /// The place failed; then any of the chunks may be gone.
    fn delete(&self, ids: &[ChunkId]) -> Result<u64, StoreError>;
}
