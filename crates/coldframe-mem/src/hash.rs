//! Blocks of a memory file, read in large calls and handed to several threads.
//!
//! Invariant: results come in the order of the plans; memory is bounded by threads and batch, not
//! by the file, but for 32 bytes for each block.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::thread;

use coldframe_memfile::{BlockPlan, MemFileBuilder};
use coldframe_storage::{Storage, StorageError};
use coldframe_units::FileOffset;

use crate::{MemError, MemoryFile};

/// Blocks that are read at once: 1 MiB of data.
const BATCH: usize = 16;

/// More threads than these would wait for memory.
const THREADS_MAX: usize = 4;

/// What blocks are read from.
pub(crate) trait ReadAt: Sync {
    /// Fills `buf` from `offset` on.
    fn read_at(&self, offset: FileOffset, buf: &mut [u8]) -> Result<(), StorageError>;
}

impl ReadAt for dyn Storage + '_ {
    fn read_at(&self, offset: FileOffset, buf: &mut [u8]) -> Result<(), StorageError> {
        Storage::read_at(self, offset, buf)
    }
}

impl ReadAt for MemoryFile {
    fn read_at(&self, offset: FileOffset, buf: &mut [u8]) -> Result<(), StorageError> {
        MemoryFile::read_at(self, offset, buf)
    }
}

/// The hashes of all blocks that need one; `known` are some of them, in rising block.
pub(crate) fn blocks(
    storage: &dyn Storage,
    builder: &MemFileBuilder,
    known: &[(u64, [u8; 32])],
    threads: Option<NonZeroUsize>,
) -> Result<Vec<[u8; 32]>, MemError> {
    let is_known = |plan: &BlockPlan| find(known, plan).is_some();
    let unknown = builder.blocks_to_hash().filter(|plan| !is_known(plan));
    let hashes = map_blocks(storage, threads, unknown, |plan, data| {
        let data = data.map_err(|source| MemError::ReadBack { source })?;
        plan.hash(data).map_err(MemError::from)
    });
    if known.is_empty() {
        return hashes.into_iter().collect();
    }
    let mut hashed = hashes.into_iter();
    builder
        .blocks_to_hash()
        .filter_map(|plan| find(known, &plan).map(Ok).or_else(|| hashed.next()))
        .collect()
}

fn find(known: &[(u64, [u8; 32])], plan: &BlockPlan) -> Option<[u8; 32]> {
    if !plan.is_whole() {
        return None;
    }
    let found = known.binary_search_by_key(&plan.block(), |(block, _)| *block);
    found.ok().map(|index| known[index].1)
}

/// Calls `work` with the data of each plan, in any order and on several threads, or on as many
/// as the caller says; on one, no thread is made.
pub(crate) fn map_blocks<T: Send, R: ReadAt + ?Sized>(
    storage: &R,
    threads: Option<NonZeroUsize>,
    mut plans: impl Iterator<Item = BlockPlan> + Send,
    work: impl Fn(&BlockPlan, Result<&[u8], StorageError>) -> T + Sync,
) -> Vec<T> {
    let first: Vec<BlockPlan> = plans.by_ref().take(BATCH).collect();
    if first.len() < BATCH {
        return run_batch(storage, &first, &mut Vec::new(), &work);
    }
    let queue = Mutex::new(first.into_iter().chain(plans).fuse().enumerate());
    let worker = || {
        let mut results = Vec::new();
        let mut buf = Vec::new();
        loop {
            let batch: Vec<(usize, BlockPlan)> = {
                // A panic of another worker is passed on when it is joined.
                let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
                queue.by_ref().take(BATCH).collect()
            };
            let Some((index, _)) = batch.first() else {
                return results;
            };
            let index = *index;
            let plans: Vec<BlockPlan> = batch.into_iter().map(|(_, plan)| plan).collect();
            results.push((index, run_batch(storage, &plans, &mut buf, &work)));
        }
    };
    let threads = threads
        .or_else(|| thread::available_parallelism().ok())
        .map_or(1, |count| count.get().min(THREADS_MAX));
    if threads == 1 {
        return flat(worker());
    }
    let results = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(worker)).collect();
        let mut results = worker();
        for other in others {
            match other.join() {
                Ok(more) => results.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        results
    });
    flat(results)
}

/// Batches in the order of their plans.
fn flat<T>(mut batches: Vec<(usize, Vec<T>)>) -> Vec<T> {
    batches.sort_by_key(|(index, _)| *index);
    batches.into_iter().flat_map(|(_, batch)| batch).collect()
}

/// Reads all of a batch at once; block by block if that fails, to tell which of them it is.
fn run_batch<T, R: ReadAt + ?Sized>(
    storage: &R,
    plans: &[BlockPlan],
    buf: &mut Vec<u8>,
    work: &impl Fn(&BlockPlan, Result<&[u8], StorageError>) -> T,
) -> Vec<T> {
    if read(storage, plans, buf).is_err() {
        let one = |plan: &BlockPlan| {
            let read = read(storage, std::slice::from_ref(plan), buf);
            work(plan, read.map(|()| &buf[..]))
        };
        return plans.iter().map(one).collect();
    }
    let mut rest = &buf[..];
    let one = |plan: &BlockPlan| {
        let (data, tail) = rest.split_at(plan.data_len().get() as usize);
        rest = tail;
        work(plan, Ok(data))
    };
    plans.iter().map(one).collect()
}

/// Fills `buf` with the data of all plans, in as few calls as there are gaps between.
fn read<R: ReadAt + ?Sized>(
    storage: &R,
    plans: &[BlockPlan],
    buf: &mut Vec<u8>,
) -> Result<(), StorageError> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for (offset, len) in plans.iter().flat_map(BlockPlan::data) {
        match ranges.last_mut() {
            Some((start, sum)) if *start + *sum == offset.get() => *sum += len.get(),
            _ => ranges.push((offset.get(), len.get())),
        }
    }
    let total: u64 = ranges.iter().map(|(_, len)| len).sum();
    buf.resize(total as usize, 0);
    let mut filled = 0;
    for (offset, len) in ranges {
        let end = filled + len as usize;
        storage.read_at(FileOffset::new(offset), &mut buf[filled..end])?;
        filled = end;
    }
    Ok(())
}
