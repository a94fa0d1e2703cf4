//! The parts of a device, and the locks between them.
//!
//! Order of locks: the fold's, writers' by shard rising, pages' by shard rising, zeros, lower.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{
    Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
};

use coldframe_chunkfile::Tag;
use coldframe_chunks::{Backend, PackStore, TagName};
use coldframe_ring::{RingError, RingPlace, RingWal, Sequence};
use coldframe_storage::Storage;
use coldframe_units::{ByteLen, RootHash};

use crate::BlockError;
use crate::device::ahead::ReadAhead;
use crate::device::lower::{Ingested, Lower, shard_of};
use crate::device::{DeviceOptions, DeviceStat};
use crate::error::log;
use crate::overlay::{Blocks, Runs};
use crate::record::{LogIdentity, OVERHEAD, PAGE_BYTES, WRITE_BYTES_MAX};

/// How many parts the changed pages are in: writers of different ones do not meet.
pub(super) const SHARDS: usize = 64;

/// Room in the log that writes leave, at least and at most: so that what is in a full log can
/// still be brought into the store, however often that fails.
const RESERVE_BYTES: std::ops::Range<u64> = 4096..64 << 10;

/// What the log needs for a record beside its payload, at most.
const RECORD_BYTES: u64 = 64;

/// How a device uses the ring of its log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// The longest record of a write.
    piece_bytes: u64,
    /// What writes leave free.
    reserve_bytes: u64,
}

impl Room {
    /// Of a ring of so many bytes.
    pub fn of(have: u64) -> Result<Self, BlockError> {
        let reserve_bytes = (have / 64).clamp(RESERVE_BYTES.start, RESERVE_BYTES.end);
        let piece = have.saturating_sub(reserve_bytes) / 4;
        let piece = piece.saturating_sub(OVERHEAD + RECORD_BYTES);
        let piece_bytes = piece.min(WRITE_BYTES_MAX) / PAGE_BYTES * PAGE_BYTES;
        if piece_bytes == 0 {
            let need = reserve_bytes + 4 * (PAGE_BYTES + OVERHEAD + RECORD_BYTES);
            return Err(BlockError::LogTooSmall { have, need });
        }
        Ok(Self {
            piece_bytes,
            reserve_bytes,
        })
    }
}

/// The changed pages of some of the disk.
#[derive(Debug, Default)]
pub(super) struct Shard {
    /// Held by a writer of pages, from before the record is appended.
    writer: Mutex<()>,
    pages: RwLock<Blocks>,
}

impl Shard {
    pub fn writer(&self) -> MutexGuard<'_, ()> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn pages(&self) -> RwLockReadGuard<'_, Blocks> {
        self.pages.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn pages_mut(&self) -> RwLockWriteGuard<'_, Blocks> {
        self.pages.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a fold must know.
#[derive(Debug)]
pub(super) struct FoldState {
    /// The index that the tag points to.
    pub root: RootHash,
    /// The tag, as it must be for this device to move it.
    pub tag: Tag,
    /// The last record that is in it.
    pub through: Sequence,
    /// Indexes that the log names already, but that the tag may not point to yet: those that were
    /// proposed since it last moved.
    pub pending: Vec<Proposed>,
    /// No block before this one is read from the flat image; none comes back.
    pub base_from: u64,
    /// The nearest ancestor that could not be merged into a new index, when that was last tried:
    /// some of its rows cannot be read, so it stays in the chain.
    pub pinned: Option<RootHash>,
    /// Whether the tag is there: one that is recovered is created by the first fold.
    pub is_created: bool,
}

/// An index that was proposed as the tag's next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Proposed {
    pub root: RootHash,
    /// The last record that is in it.
    pub through: Sequence,
}

pub(crate) struct Inner<B: Backend, S> {
    pub store: PackStore<B>,
    pub head: TagName,
    /// Of the disk, and of its log.
    pub identity: LogIdentity,
    pub log: RingWal<S>,
    pub(super) options: DeviceOptions,
    pub(super) piece_bytes: u64,
    reserve_bytes: u64,
    pub(super) size: AtomicU64,
    pub(super) shards: Vec<Shard>,
    pub(super) zeros: RwLock<Runs>,
    pub(super) lower: RwLock<Arc<Lower<B>>>,
    pub(super) ingested: Ingested,
    pub(super) ahead: ReadAhead<B>,
    pub(super) folding: Mutex<FoldState>,
    pub(super) folds: AtomicU64,
    /// Bytes of the active layer, and of the frozen one.
    pub(super) active_held: AtomicU64,
    pub(super) frozen_held: AtomicU64,
    /// Bytes of records that are being appended.
    in_flight: AtomicU64,
    pub(super) wanted: Mutex<super::worker::Wanted>,
    pub(super) wake: Condvar,
    /// Whether the device is being dropped: a fold ends where it is.
    pub(super) is_stopping: AtomicBool,
}

/// Why a record was not appended.
pub(super) enum Refused {
    Full {
        /// Whether nobody else was appending, so that only bringing changes into the store helps.
        alone: bool,
    },
    Failed(RingError),
}

impl<B: Backend, S: Storage> Inner<B, S> {
    pub fn new(
        parts: super::DeviceParts<B, S>,
        options: DeviceOptions,
        lower: Lower<B>,
        fold: FoldState,
        identity: LogIdentity,
    ) -> Result<Self, BlockError> {
        let Room {
            piece_bytes,
            reserve_bytes,
        } = Room::of(parts.log.stats().ring.get())?;
        Ok(Self {
            store: parts.store,
            head: parts.head,
            identity,
            log: parts.log,
            options,
            piece_bytes,
            reserve_bytes,
            size: AtomicU64::new(0),
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            zeros: RwLock::default(),
            lower: RwLock::new(Arc::new(lower)),
            ingested: Ingested::default(),
            ahead: ReadAhead::start(options.read_ahead_blocks)?,
            folding: Mutex::new(fold),
            folds: AtomicU64::new(0),
            active_held: AtomicU64::new(0),
            frozen_held: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            wanted: Mutex::default(),
            wake: Condvar::new(),
            is_stopping: AtomicBool::new(false),
        })
    }

    pub fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    pub(super) fn shard(&self, block: u64) -> &Shard {
        &self.shards[shard_of(block, SHARDS)]
    }

    pub(super) fn zeros(&self) -> RwLockReadGuard<'_, Runs> {
        self.zeros.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn zeros_mut(&self) -> RwLockWriteGuard<'_, Runs> {
        self.zeros.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn lower(&self) -> Arc<Lower<B>> {
        Arc::clone(&self.lower.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn set_lower(&self, lower: Lower<B>) {
        *self.lower.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(lower);
    }

    /// Keeps all writers of the shards that these blocks are in waiting.
    pub(super) fn lock_writers(&self, first: u64, end: u64) -> Vec<MutexGuard<'_, ()>> {
        let is_touched = |shard: &usize| {
            let per_shard = WRITE_BYTES_MAX / coldframe_units::BLOCK_BYTES;
            let (from, to) = (first / per_shard, end.div_ceil(per_shard));
            let ahead = (*shard as u64 + SHARDS as u64 - from % SHARDS as u64) % SHARDS as u64;
            from + ahead < to
        };
        let touched = (0..SHARDS).filter(is_touched);
        touched.map(|shard| self.shards[shard].writer()).collect()
    }

    /// Changes pages of one shard, and keeps count.
    pub(super) fn change(&self, block: u64, change: impl FnOnce(&mut Blocks)) {
        let mut pages = self.shard(block).pages_mut();
        let before = pages.held();
        change(&mut pages);
        // Wraps around and back: the sum is never below zero.
        self.active_held
            .fetch_add(pages.held().wrapping_sub(before), Ordering::Relaxed);
    }

    /// Appends a record, unless the log must be relieved first. The caller holds the writers.
    /// Where the payload lies is returned.
    pub(super) fn append(&self, parts: &[&[u8]]) -> Result<RingPlace, Refused> {
        let need = parts.iter().map(|part| part.len() as u64).sum::<u64>() + RECORD_BYTES;
        // Counted before the log's own count is read: each record is in one of the two.
        let others = self.in_flight.fetch_add(need, Ordering::SeqCst);
        let stats = self.log.stats();
        let taken = stats.used.get() + others + need + self.reserve_bytes;
        let result = if taken > stats.ring.get() {
            Err(Refused::Full { alone: others == 0 })
        } else {
            match self.log.append_parts(parts) {
                Ok((_, place)) => Ok(place),
                Err(RingError::Full { .. }) => Err(Refused::Full { alone: others == 0 }),
                Err(error) => Err(Refused::Failed(error)),
            }
        };
        self.in_flight.fetch_sub(need, Ordering::SeqCst);
        result
    }

    /// Appends a record that may use the reserve.
    pub(super) fn append_reserved(&self, payload: &[u8]) -> Result<(), BlockError> {
        match self.log.append(payload) {
            Ok(_) => Ok(()),
            Err(RingError::Full { .. }) => Err(BlockError::LogFull),
            Err(error) => Err(log(error)),
        }
    }

    pub fn flush(&self) -> Result<(), BlockError> {
        self.log.sync().map(drop).map_err(log)
    }

    /// Memory that changes take.
    pub(super) fn dirty_bytes(&self) -> u64 {
        let frozen = self.frozen_held.load(Ordering::Relaxed);
        self.active_held.load(Ordering::Relaxed) + frozen + self.ingested.held()
    }

    /// Bytes of the flat image that are kept until they are in an index.
    pub(super) const fn ingest_max(&self) -> u64 {
        self.options.dirty_bytes_max / 4
    }

    pub fn stat(&self) -> DeviceStat {
        DeviceStat {
            size: ByteLen::new(self.size()),
            dirty_bytes: self.dirty_bytes(),
            folds: self.folds.load(Ordering::Relaxed),
            ancestors: self.lower().image.ancestor_count(),
            read_ahead_chunks: self.ahead.chunk_count(),
            log: self.log.stats(),
        }
    }
}
