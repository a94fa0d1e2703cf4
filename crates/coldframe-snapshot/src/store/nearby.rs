//! Blocks of snapshots that are on this side already.
//!
//! Invariant: bytes leave it only after their hash was seen to be the chunk's id; what cannot be
//! read, or is not what it was, is as if it were not there.

use std::collections::HashMap;

use bytes::Bytes;
use coldframe_chunks::Chunk;
use coldframe_mem::{FilePool, MemoryFile};
use coldframe_memfile::Kind;
use coldframe_units::{BLOCK_BYTES, ChunkId, FileOffset};

use crate::files::{self, MEMORY};
use crate::{Snapshot, SnapshotError};

/// Where a chunk's bytes lie in one piece.
#[derive(Clone, Copy, Debug)]
struct Place {
    file: usize,
    offset: u64,
    len: u32,
}

/// An index of memory files by chunk.
#[derive(Debug, Default)]
pub(crate) struct Nearby {
    pool: FilePool,
    files: Vec<MemoryFile>,
    places: HashMap<ChunkId, Place>,
}

impl Nearby {
    /// Takes a snapshot's blocks in; only its tables are read.
    pub fn add(&mut self, snapshot: &Snapshot) {
        if let Err(error) = self.try_add(snapshot) {
            tracing::warn!(path = %snapshot.path().display(), %error, "blocks not used");
        }
    }

    fn try_add(&mut self, snapshot: &Snapshot) -> Result<(), SnapshotError> {
        let file = snapshot.memory_source(&self.pool)?;
        let refused = |source| SnapshotError::Decode {
            path: snapshot.path().join(MEMORY),
            source,
        };
        let view = file.view().map_err(files::of_memory)?;
        let blocks = file.blocks().map_err(files::of_memory)?;
        let plans = file.extents().map_err(files::of_memory)?.block_plans();
        let number = self.files.len();
        self.files.push(file.clone());
        for (plan, row) in plans.zip(blocks.iter_verified()) {
            let id = row.map_err(refused)?.stored_id();
            let offset = match (view.kind(), plan.pieces()) {
                // There zeros lie where RAM has them.
                (Kind::Full, _) => {
                    let start = plan.block().saturating_mul(BLOCK_BYTES);
                    view.data_offset().get().saturating_add(start)
                }
                (Kind::Diff, [coldframe_memfile::Piece::Data { file_offset, .. }]) => {
                    file_offset.get()
                }
                (Kind::Diff, _) => continue,
            };
            let len = u32::try_from(plan.hashed_len().get()).unwrap_or(u32::MAX);
            self.places.entry(id).or_insert(Place {
                file: number,
                offset,
                len,
            });
        }
        Ok(())
    }

    /// The bytes of a chunk, if they are at hand.
    pub fn get(&self, id: ChunkId) -> Option<Bytes> {
        let place = self.places.get(&id)?;
        let file = self.files.get(place.file)?;
        let mut bytes = vec![0; place.len as usize];
        file.read_at(FileOffset::new(place.offset), &mut bytes)
            .ok()?;
        let chunk = Chunk::verify(id, Bytes::from(bytes)).ok()?;
        Some(chunk.bytes().clone())
    }
}
