//! Writing a pack: places out while chunks go in, then the tables.
//!
//! Invariant: what it has taken is a table that a reader accepts. The chunks' bytes never pass
//! through it.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use coldframe_envelope::{HEADER_LEN, Producer};
use coldframe_units::{ByteLen, ChunkId, FileOffset, RootHash};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U32, U64};

use super::{CHUNK_COUNT_MAX, Compression, PACK_LIMITS, PackedChunk, SHAPE};
use crate::BuildError;
use crate::error::check_limit;
use crate::layout::{CHNK, ChunkBytes};
use crate::parts::PartsBuilder;

/// Everything of a pack but its chunks, ready to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedPack {
    /// What lies at the beginning of the file.
    pub header: [u8; 160],
    /// Where the tables begin: right behind the chunks.
    pub tail_offset: FileOffset,
    /// The tables; they reach to the end of the file.
    pub tail: Vec<u8>,
    /// The length of the whole file.
    pub file_len: ByteLen,
    /// The hash that identifies the pack.
    pub root: RootHash,
}

/// Builds the tables of a pack while its caller writes the chunks.
#[derive(Clone, Debug)]
pub struct PackBuilder {
    producer: Producer,
    chunks: Vec<PackedChunk>,
    ids: BTreeSet<ChunkId>,
    end: u64,
}

impl PackBuilder {
    /// A pack without chunks.
    #[must_use]
    pub const fn new(producer: Producer) -> Self {
        Self {
            producer,
            chunks: Vec::new(),
            ids: BTreeSet::new(),
            end: HEADER_LEN,
        }
    }

    /// Adds a chunk, and says where in the file the caller writes its `stored_len` bytes: right
    /// behind the one before.
    ///
    /// # Errors
    /// [`BuildError`]: added already, lengths that do not go with the compression, too many.
    pub fn push(
        &mut self,
        id: ChunkId,
        compression: Compression,
        raw_len: u32,
        stored_len: u32,
    ) -> Result<FileOffset, BuildError> {
        if !compression.allows(raw_len, stored_len) {
            return Err(BuildError::ChunkLen {
                id,
                raw_len,
                stored_len,
            });
        }
        let count = u64::try_from(self.chunks.len()).unwrap_or(u64::MAX);
        check_limit(
            "chunk count",
            count.saturating_add(1),
            CHUNK_COUNT_MAX.into(),
        )?;
        let end = self.end.saturating_add(stored_len.into());
        check_limit("file_len", end, PACK_LIMITS.file_bytes_max)?;
        if !self.ids.insert(id) {
            return Err(BuildError::DuplicateChunk { id });
        }
        let offset = FileOffset::new(self.end);
        self.chunks.push(PackedChunk {
            id,
            offset,
            stored_len,
            raw_len,
            compression,
        });
        self.end = end;
        Ok(offset)
    }

    /// Whether the chunk was added.
    #[must_use]
    pub fn contains(&self, id: ChunkId) -> bool {
        self.ids.contains(&id)
    }

    /// How many chunks were added.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.chunks.len()
    }

    /// Whether none was.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Where the next chunk would be written: the file's length so far.
    #[must_use]
    pub const fn end(&self) -> FileOffset {
        FileOffset::new(self.end)
    }

    /// The tables.
    ///
    /// # Errors
    /// [`BuildError`]: a file over what a reader accepts.
    pub fn finish(mut self) -> Result<EncodedPack, BuildError> {
        self.chunks.sort_unstable_by_key(|chunk| chunk.id);
        let rows: Vec<ChunkBytes> = self.chunks.iter().map(encode_row).collect();
        let body_len = self.end.saturating_sub(HEADER_LEN);
        let mut parts = PartsBuilder::new(&SHAPE, PACK_LIMITS, body_len);
        parts.section(CHNK, rows.as_bytes())?;
        let built = parts.finish(self.producer)?;
        Ok(EncodedPack {
            header: built.header,
            tail_offset: built.tail_offset,
            tail: built.tail,
            file_len: built.file_len,
            root: built.root,
        })
    }
}

fn encode_row(chunk: &PackedChunk) -> ChunkBytes {
    ChunkBytes {
        id: *chunk.id.as_bytes(),
        offset: U64::new(chunk.offset.get()),
        stored_len: U32::new(chunk.stored_len),
        raw_len: U32::new(chunk.raw_len),
        compression: chunk.compression.code(),
        reserved: [0; 7],
    }
}
