//! Hashing and compressing chunks, by several threads, with tables and room that are used again.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use coldframe_chunkfile::Compression;
use coldframe_units::ChunkId;

use crate::StoreError;
use crate::chunk::id_of;
use crate::compress::Compressor;

/// Bytes for which another thread is worth its start.
const PER_THREAD: usize = 128 << 10;

/// A chunk to prepare.
pub(crate) struct Input<'a> {
    pub bytes: &'a [u8],
    pub id: Option<ChunkId>,
    /// Whether the bytes are known to have the id.
    pub is_hashed: bool,
}

/// A chunk on its way to a pack.
pub(crate) struct Prepared<'a> {
    pub id: ChunkId,
    pub raw: &'a [u8],
    pub compression: Compression,
    /// Whose, and where in its room; `None` if the chunk is there, or is stored as it is.
    packed: Option<(usize, Range<usize>)>,
}

/// Chunks that were prepared together, in the order of the inputs.
pub(crate) struct Batch<'a> {
    pub chunks: Vec<Prepared<'a>>,
    compressors: Vec<Compressor>,
}

impl<'a> Batch<'a> {
    /// The bytes to store of one of its chunks.
    pub fn stored<'b>(&'b self, chunk: &'b Prepared<'a>) -> &'b [u8] {
        match &chunk.packed {
            Some((owner, range)) => &self.compressors[*owner].bytes()[range.clone()],
            None => chunk.raw,
        }
    }
}

/// Those who prepare: what they have made once is used for the next chunks.
pub(crate) struct Preparer {
    compression: Compression,
    threads: usize,
    idle: Mutex<Vec<Compressor>>,
}

impl std::fmt::Debug for Preparer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Preparer")
    }
}

impl Preparer {
    pub fn new(compression: Compression, threads: usize) -> Self {
        Self {
            compression,
            threads,
            idle: Mutex::default(),
        }
    }

    /// Hashes all, and compresses those that are not there.
    pub fn prepare<'a>(
        &self,
        inputs: &[Input<'a>],
        is_there: &(dyn Fn(ChunkId) -> bool + Sync),
    ) -> Result<Batch<'a>, StoreError> {
        let bytes: usize = inputs.iter().map(|input| input.bytes.len()).sum();
        let useful = (bytes / PER_THREAD).min(inputs.len());
        let threads = self.threads.min(useful).max(1);
        let mut compressors = self.take(threads);
        let next = AtomicUsize::new(0);
        // Whoever is free takes the next: some chunks cost ten times as much as others.
        let work = |owner: usize, compressor: &mut Compressor| {
            let mut done = Vec::with_capacity(inputs.len() / threads + 1);
            while let Some((number, input)) = {
                let number = next.fetch_add(1, Ordering::Relaxed);
                inputs.get(number).map(|input| (number, input))
            } {
                done.push((number, prepare(input, is_there, owner, compressor)?));
            }
            Ok::<_, StoreError>(done)
        };
        let work = &work;
        let (mine, others) = compressors
            .split_first_mut()
            .expect("there is one at least");
        let parts = std::thread::scope(|scope| {
            let others: Vec<_> = (1..)
                .zip(others)
                .map(|(owner, compressor)| scope.spawn(move || work(owner, compressor)))
                .collect();
            let mut parts = vec![work(0, mine)];
            parts.extend(others.into_iter().map(|other| {
                let joined = other.join();
                joined.expect("hashing and compressing do not panic")
            }));
            parts.into_iter().collect::<Result<Vec<_>, _>>()
        });
        let mut chunks: Vec<Option<Prepared<'a>>> = Vec::new();
        chunks.resize_with(inputs.len(), || None);
        for (number, chunk) in parts?.into_iter().flatten() {
            chunks[number] = Some(chunk);
        }
        let chunks = chunks.into_iter();
        Ok(Batch {
            chunks: chunks.map(|chunk| chunk.expect("all were taken")).collect(),
            compressors,
        })
    }

    /// Takes back what is used again.
    pub fn give_back(&self, batch: Batch<'_>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.extend(batch.compressors);
        idle.truncate(self.threads);
    }

    fn take(&self, count: usize) -> Vec<Compressor> {
        let mut taken = {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            let rest = idle.len().saturating_sub(count);
            idle.split_off(rest)
        };
        taken.resize_with(count, || Compressor::new(self.compression));
        taken.iter_mut().for_each(Compressor::clear);
        taken
    }
}

fn prepare<'a>(
    input: &Input<'a>,
    is_there: &(dyn Fn(ChunkId) -> bool + Sync),
    owner: usize,
    compressor: &mut Compressor,
) -> Result<Prepared<'a>, StoreError> {
    let id = match input.id {
        Some(id) if input.is_hashed => id,
        expected => {
            let found = id_of(input.bytes);
            match expected.filter(|id| *id != found) {
                Some(id) => return Err(StoreError::WrongBytes { id, found }),
                None => found,
            }
        }
    };
    let packed = match is_there(id) {
        true => None,
        false => compressor.compress(input.bytes),
    };
    Ok(Prepared {
        id,
        raw: input.bytes,
        compression: match packed {
            Some(_) => compressor.compression(),
            None => Compression::None,
        },
        packed: packed.map(|range| (owner, range)),
    })
}
