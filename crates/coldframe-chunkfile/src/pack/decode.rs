//! Reading a pack's table: the chunks' own bytes are checked when they are decompressed.
//!
//! Invariant: the chunks of a [`Pack`] stand in rising id, none twice, and their places tile the
//! body section: no byte of it belongs to none or to two.

use alloc::vec::Vec;

use coldframe_envelope::{DecodeError, DecodeErrorKind as Error, Limits, Producer};
use coldframe_units::{ByteLen, ChunkId, FileOffset, RootHash};

use super::{CHUNK_COUNT_MAX, Compression, SHAPE};
use crate::layout::{CHNK, ChunkBytes};
use crate::parts::{self, Parts, invalid};

/// Where a chunk lies in its pack, and how it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackedChunk {
    /// The BLAKE3 hash of the chunk's bytes before compression.
    pub id: ChunkId,
    /// Where its stored bytes begin in the file.
    pub offset: FileOffset,
    /// How many bytes are stored.
    pub stored_len: u32,
    /// How many bytes the chunk has.
    pub raw_len: u32,
    /// How it is stored.
    pub compression: Compression,
}

/// The table of a pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pack {
    root: RootHash,
    producer: Producer,
    file_len: u64,
    chunks: Vec<PackedChunk>,
}

impl Pack {
    /// Opens a pack that is wholly in memory.
    ///
    /// # Errors
    /// [`DecodeError`] naming the first thing that does not hold.
    pub fn open(file: &[u8], limits: Limits) -> Result<Self, DecodeError> {
        Self::from_parts(file, file, FileOffset::ZERO, limits)
    }

    /// Opens a pack by its header and its last bytes, from `tail_offset` to its end, which hold at
    /// least what [`Pack::tail_range`] names.
    ///
    /// # Errors
    /// As [`Pack::open`].
    ///
    /// Spec: PACK-3.
    pub fn from_parts(
        header: &[u8],
        tail: &[u8],
        tail_offset: FileOffset,
        limits: Limits,
    ) -> Result<Self, DecodeError> {
        let parts = Parts::open(&SHAPE, header, tail, tail_offset, limits)?;
        parts.check_all()?;
        let (rows, at) = parts.rows::<ChunkBytes>(CHNK)?;
        let found = u64::try_from(rows.len()).unwrap_or(u64::MAX);
        let limit = u64::from(CHUNK_COUNT_MAX);
        if found > limit {
            let what = "chunk count";
            let kind = Error::LimitExceeded { what, limit, found };
            return Err(DecodeError::new(kind, at));
        }
        let mut chunks: Vec<PackedChunk> = Vec::with_capacity(rows.len());
        let mut row_at = at;
        for row in rows {
            let chunk = decode_row(row, row_at)?;
            if chunks.last().is_some_and(|last| last.id >= chunk.id) {
                return Err(invalid("order of the chunks", row_at));
            }
            chunks.push(chunk);
            row_at = row_at.saturating_add(56);
        }
        let pack = Self {
            root: parts.header.root(),
            producer: parts.header.producer,
            file_len: parts.header.file_len,
            chunks,
        };
        let mut free_from = parts.front.offset;
        for chunk in pack.in_file_order() {
            if chunk.offset.get() != free_from {
                return Err(invalid("chunk offset", at));
            }
            free_from = free_from.saturating_add(chunk.stored_len.into());
        }
        if free_from != parts.front.end() {
            return Err(invalid("length of the body section", at));
        }
        Ok(pack)
    }

    /// Where the section table lies, from the first 160 bytes of a file: what to read next.
    ///
    /// # Errors
    /// [`DecodeError`]: as for any header, or over the limits.
    pub fn table_range(
        header: &[u8],
        limits: Limits,
    ) -> Result<(FileOffset, ByteLen), DecodeError> {
        parts::table_range(&SHAPE, header, limits)
    }

    /// Where the tables behind the chunks lie, from the bytes of header and section table; it
    /// reaches to the end of the file.
    ///
    /// # Errors
    /// [`DecodeError`]: as for any header and section table, or over the limits.
    pub fn tail_range(
        header: &[u8],
        table: &[u8],
        limits: Limits,
    ) -> Result<(FileOffset, ByteLen), DecodeError> {
        parts::tail_range(&SHAPE, header, table, limits)
    }

    /// The hash of the pack's header and so of its table, which has the ids of the chunks.
    #[must_use]
    pub const fn root(&self) -> RootHash {
        self.root
    }

    /// Who wrote it.
    #[must_use]
    pub const fn producer(&self) -> Producer {
        self.producer
    }

    /// The length of the whole file.
    #[must_use]
    pub const fn file_len(&self) -> ByteLen {
        ByteLen::new(self.file_len)
    }

    /// Its chunks, in rising id.
    #[must_use]
    pub fn chunks(&self) -> &[PackedChunk] {
        &self.chunks
    }

    /// Its chunks as they lie in the file.
    #[must_use]
    pub fn in_file_order(&self) -> Vec<PackedChunk> {
        let mut chunks = self.chunks.clone();
        chunks.sort_unstable_by_key(|chunk| chunk.offset);
        chunks
    }

    /// The chunk of this id, if it is in the pack.
    #[must_use]
    pub fn find(&self, id: ChunkId) -> Option<&PackedChunk> {
        let at = self.chunks.binary_search_by_key(&id, |chunk| chunk.id);
        self.chunks.get(at.ok()?)
    }
}

fn decode_row(row: &ChunkBytes, at: u64) -> Result<PackedChunk, DecodeError> {
    if row.reserved != [0; 7] {
        return Err(DecodeError::new(Error::ReservedNotZero, at));
    }
    let compression = Compression::from_code(row.compression).ok_or(invalid("compression", at))?;
    let (raw_len, stored_len) = (row.raw_len.get(), row.stored_len.get());
    if !compression.allows(raw_len, stored_len) {
        return Err(invalid("chunk length", at));
    }
    Ok(PackedChunk {
        id: ChunkId::from_bytes(row.id),
        offset: FileOffset::new(row.offset.get()),
        stored_len,
        raw_len,
        compression,
    })
}
