//! Hashing and compressing chunks, by several threads, with tables and room that are used again.
//!
//! Invariant: what is prepared comes out in the order of what came in, whichever thread did which.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use coldframe_chunkfile::Compression;
use coldframe_units::ChunkId;

use crate::StoreError;
use crate::chunk::{id_of, is_zero};
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
    pub raw_len: usize,
    pub compression: Compression,
    stored: Stored<'a>,
}

/// Where the bytes to store are.
enum Stored<'a> {
    /// In the caller's memory.
    Outside(&'a [u8]),
    /// In the room of the worker of this number.
    Room(usize, Range<usize>),
    /// Not kept: the chunk is there.
    Nowhere,
}

/// Chunks that were prepared together, in the order of the inputs; `None` for blocks of zeros.
pub(crate) struct Batch<'a> {
    pub chunks: Vec<Option<Prepared<'a>>>,
    workers: Vec<Worker>,
}

impl<'a> Batch<'a> {
    /// The bytes to store of one of its chunks; `None` if the chunk was there.
    pub fn stored<'b>(&'b self, chunk: &'b Prepared<'a>) -> Option<&'b [u8]> {
        match &chunk.stored {
            Stored::Outside(bytes) => Some(bytes),
            Stored::Room(owner, range) => {
                Some(&self.workers[*owner].compressor.bytes()[range.clone()])
            }
            Stored::Nowhere => None,
        }
    }
}

/// What a thread has, and uses again.
struct Worker {
    number: usize,
    compressor: Compressor,
    /// A block that was read.
    block: Vec<u8>,
}

/// Those who prepare.
pub(crate) struct Preparer {
    compression: Compression,
    threads: usize,
    idle: Mutex<Vec<Worker>>,
}

impl std::fmt::Debug for Preparer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Preparer")
    }
}

/// Whether a chunk is there.
type IsThere<'a> = dyn Fn(ChunkId) -> bool + Sync + 'a;

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
        is_there: &IsThere<'_>,
    ) -> Result<Batch<'a>, StoreError> {
        let bytes = inputs.iter().map(|input| input.bytes.len()).sum();
        self.run(inputs.len(), bytes, |number, worker| {
            prepare(&inputs[number], is_there, worker).map(Some)
        })
    }

    /// Reads blocks of these lengths, hashes all but those of zeros, and compresses those that are
    /// not there.
    pub fn read<E: Send>(
        &self,
        lens: &[usize],
        read: impl Fn(usize, &mut [u8]) -> Result<(), E> + Sync,
        is_there: &IsThere<'_>,
    ) -> Result<Batch<'static>, E> {
        self.run(lens.len(), lens.iter().sum(), |number, worker| {
            let len = lens[number];
            if worker.block.len() < len {
                worker.block.resize(len, 0);
            }
            let block = &mut worker.block[..len];
            read(number, block)?;
            if is_zero(block) {
                return Ok(None);
            }
            Ok(Some(keep(
                &worker.block[..len],
                is_there,
                worker.number,
                &mut worker.compressor,
            )))
        })
    }

    fn run<'a, E: Send>(
        &self,
        count: usize,
        bytes: usize,
        one: impl Fn(usize, &mut Worker) -> Result<Option<Prepared<'a>>, E> + Sync,
    ) -> Result<Batch<'a>, E> {
        let useful = (bytes / PER_THREAD).min(count);
        let threads = self.threads.min(useful).max(1);
        let mut workers = self.take(threads);
        let next = AtomicUsize::new(0);
        // Whoever is free takes the next: some chunks cost ten times as much as others.
        let work = |worker: &mut Worker| {
            let mut done = Vec::with_capacity(count / threads + 1);
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return Ok::<_, E>(done);
                }
                let prepared = one(number, worker);
                if prepared.is_err() {
                    next.store(count, Ordering::Relaxed);
                }
                done.push((number, prepared?));
            }
        };
        let work = &work;
        let (mine, others) = workers.split_first_mut().expect("there is one at least");
        let parts = std::thread::scope(|scope| {
            let others: Vec<_> = others
                .iter_mut()
                .map(|worker| scope.spawn(move || work(worker)))
                .collect();
            let mut parts = vec![work(mine)];
            parts.extend(others.into_iter().map(|other| {
                let joined = other.join();
                joined.expect("hashing and compressing do not panic")
            }));
            parts.into_iter().collect::<Result<Vec<_>, _>>()
        });
        let mut chunks = Vec::new();
        chunks.resize_with(count, || None);
        for (number, chunk) in parts?.into_iter().flatten() {
            chunks[number] = chunk;
        }
        Ok(Batch { chunks, workers })
    }

    /// Takes back what is used again.
    pub fn give_back(&self, batch: Batch<'_>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.extend(batch.workers);
        idle.truncate(self.threads);
    }

    fn take(&self, count: usize) -> Vec<Worker> {
        let mut taken = {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            let rest = idle.len().saturating_sub(count);
            idle.split_off(rest)
        };
        taken.resize_with(count, || Worker {
            number: 0,
            compressor: Compressor::new(self.compression),
            block: Vec::new(),
        });
        for (number, worker) in taken.iter_mut().enumerate() {
            worker.number = number;
            worker.compressor.clear();
        }
        taken
    }
}

fn prepare<'a>(
    input: &Input<'a>,
    is_there: &IsThere<'_>,
    worker: &mut Worker,
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
        false => worker.compressor.compress(input.bytes),
    };
    Ok(Prepared {
        id,
        raw_len: input.bytes.len(),
        compression: match packed {
            Some(_) => worker.compressor.compression(),
            None => Compression::None,
        },
        stored: match packed {
            Some(range) => Stored::Room(worker.number, range),
            None => Stored::Outside(input.bytes),
        },
    })
}

/// Prepares a block that is overwritten by the next: its bytes are kept in the room.
fn keep(
    block: &[u8],
    is_there: &IsThere<'_>,
    owner: usize,
    compressor: &mut Compressor,
) -> Prepared<'static> {
    let id = id_of(block);
    if is_there(id) {
        return Prepared {
            id,
            raw_len: block.len(),
            compression: Compression::None,
            stored: Stored::Nowhere,
        };
    }
    let (compression, range) = match compressor.compress(block) {
        Some(range) => (compressor.compression(), range),
        None => (Compression::None, compressor.keep(block)),
    };
    Prepared {
        id,
        raw_len: block.len(),
        compression,
        stored: Stored::Room(owner, range),
    }
}
