//! A disk behind a page cache: what a failed sync, and a power cut after it, leave of a file.
//!
//! The model is Linux since 4.16 (fsync(2), errseq_t):
//! - reads and writes go to the cache; dirty pages go to the disk at a sync, or when the kernel
//!   writes them back on its own;
//! - a page whose writeback failed is clean afterwards: the cache still shows it (ext4), until it
//!   is evicted and read again from the disk (what XFS and btrfs may do at once), and no later
//!   sync writes it unless somebody writes to it again;
//! - an error is told once per open descriptor, at its next sync. A descriptor that is opened later
//!   is told only if nobody was told yet;
//! - a length is metadata, which is journaled: a failed sync does not forget it. The disk has a
//!   file's new end once a page there is written, and what was never written before it reads as
//!   zeros. ENOSPC of delayed allocation is such a failure;
//! - a power cut leaves any of the dirty sectors, whole or not at all.
//!
//! All calls are recorded, so that the power can be cut after each of them.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use coldframe_storage::{IoContext, Operation, Storage, StorageError};
use coldframe_units::{ByteLen, FileOffset};

use crate::rng::Rng;

/// Bytes of a page of the cache.
const PAGE: usize = 4096;
/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// A file in a page cache over a disk.
#[derive(Clone, Debug)]
pub struct PageCacheDisk(Arc<Mutex<State>>);

/// An open descriptor of the file.
#[derive(Debug)]
pub struct CachedFile {
    disk: PageCacheDisk,
    /// The errors that this descriptor was told of, or that were told before it was opened.
    told: Mutex<u64>,
}

#[derive(Clone, Debug)]
struct State {
    initial: Vec<u8>,
    now: Medium,
    events: Vec<Event>,
    /// Failed writebacks so far, and how many of them some descriptor was told of.
    errors: u64,
    seen: u64,
    errno: i32,
    /// Writes that change nothing are left out: see [`PageCacheDisk::plant_lazy_writes`].
    lazy: bool,
    /// What the next sync does.
    next: Option<Failure>,
}

/// How a writeback fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Failure {
    errno: i32,
    written: u64,
}

/// The cache, and the disk under it.
#[derive(Clone, Debug)]
struct Medium {
    cache: Vec<u8>,
    disk: Vec<u8>,
    dirty: BTreeSet<usize>,
    /// A length that was set, and that the disk does not have yet.
    length: Option<usize>,
}

/// Something that happened.
#[derive(Clone, Debug)]
enum Event {
    Write {
        offset: usize,
        bytes: Vec<u8>,
    },
    SetLen(usize),
    /// These pages went to the disk; the other dirty ones were dropped if it failed.
    Writeback {
        pages: BTreeSet<usize>,
        failed: bool,
    },
    Evict,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write { offset, bytes } => {
                write!(f, "write {} bytes at {offset:#x}", bytes.len())
            }
            Self::SetLen(len) => write!(f, "set length {len}"),
            Self::Writeback {
                pages,
                failed: false,
            } => write!(f, "sync: {} pages", pages.len()),
            Self::Writeback { pages, .. } => {
                write!(f, "failed writeback: only pages {pages:?} reached the disk")
            }
            Self::Evict => f.write_str("clean pages are evicted"),
        }
    }
}

impl PageCacheDisk {
    /// A file that holds `initial`, on the disk.
    #[must_use]
    pub fn new(initial: Vec<u8>) -> Self {
        let now = Medium::new(&initial);
        Self(Arc::new(Mutex::new(State {
            initial,
            now,
            events: Vec::new(),
            errors: 0,
            seen: 0,
            errno: 0,
            lazy: false,
            next: None,
        })))
    }

    /// A planted bug: from now on a write of the bytes that the cache shows anyway is not made, as
    /// if the program had taken them for durable.
    pub fn plant_lazy_writes(&self) {
        self.state().lazy = true;
    }

    /// Opens the file.
    #[must_use]
    pub fn open(&self) -> CachedFile {
        let state = self.state();
        // As errseq_sample(): an error that nobody was told of is told to who opens later, too.
        let told = if state.seen < state.errors {
            state.seen
        } else {
            state.errors
        };
        CachedFile {
            disk: self.clone(),
            told: Mutex::new(told),
        }
    }

    /// The next sync fails with `errno`; of the dirty pages those reach the disk that the seed
    /// `written` picks, none if it is 0.
    pub fn fail_next_sync(&self, errno: i32, written: u64) {
        self.state().next = Some(Failure { errno, written });
    }

    /// Takes [`PageCacheDisk::fail_next_sync`] back, if no sync came.
    pub fn heal(&self) {
        self.state().next = None;
    }

    /// The kernel writes dirty pages back on its own, and cannot: as a failed sync, but nobody is
    /// told yet.
    pub fn fail_in_background(&self, errno: i32, written: u64) {
        self.state().write_back(Some(Failure { errno, written }));
    }

    /// The cache gives up all clean pages: they are read from the disk again.
    pub fn evict(&self) {
        self.state().record(Event::Evict);
    }

    /// How many calls were recorded: a moment that can be named later.
    #[must_use]
    pub fn operations(&self) -> usize {
        self.state().events.len()
    }

    /// The calls before `moment`, for the report of a failure.
    #[must_use]
    pub fn history(&self, moment: usize) -> Vec<String> {
        let state = self.state();
        let past = state.events.iter().take(moment);
        past.map(ToString::to_string).collect()
    }

    /// What a power cut after the first `moment` calls leaves: of the sectors that were dirty then
    /// those that `seed` picks, none of them for 0 and all for 1. Also says what was lost.
    #[must_use]
    pub fn power_cut_at(&self, moment: usize, seed: u64) -> (Vec<u8>, Vec<String>) {
        let state = self.state();
        let mut medium = Medium::new(&state.initial);
        for event in state.events.iter().take(moment) {
            medium.apply(event);
        }
        drop(state);
        medium.cut(seed)
    }

    /// What a power cut now leaves.
    #[must_use]
    pub fn power_cut(&self, seed: u64) -> Vec<u8> {
        self.power_cut_at(self.operations(), seed).0
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn record(&mut self, event: Event) {
        self.now.apply(&event);
        self.events.push(event);
    }

    fn write_back(&mut self, failure: Option<Failure>) {
        let dirty = &self.now.dirty;
        let pages = match failure {
            None => dirty.clone(),
            Some(Failure { written: 0, .. }) => BTreeSet::new(),
            Some(Failure { written, .. }) => {
                let mut rng = Rng::new(written);
                dirty
                    .iter()
                    .copied()
                    .filter(|_| rng.below(2) == 0)
                    .collect()
            }
        };
        if let Some(Failure { errno, .. }) = failure {
            self.errors += 1;
            self.errno = errno;
        }
        let failed = failure.is_some();
        self.record(Event::Writeback { pages, failed });
    }
}

impl Medium {
    fn new(initial: &[u8]) -> Self {
        Self {
            cache: initial.to_vec(),
            disk: initial.to_vec(),
            dirty: BTreeSet::new(),
            length: None,
        }
    }

    fn apply(&mut self, event: &Event) {
        match event {
            Event::Write { offset, bytes } => {
                let end = offset + bytes.len();
                if self.cache.len() < end {
                    self.cache.resize(end, 0);
                }
                self.cache[*offset..end].copy_from_slice(bytes);
                self.dirty.extend(offset / PAGE..end.div_ceil(PAGE));
            }
            Event::SetLen(len) => {
                self.cache.resize(*len, 0);
                self.dirty.retain(|page| page * PAGE < *len);
                self.length = Some(*len);
            }
            Event::Writeback { pages, .. } => {
                self.settle_length();
                for page in pages {
                    let start = page * PAGE;
                    let end = (start + PAGE).min(self.cache.len());
                    put(&mut self.disk, start, &self.cache[start..end]);
                }
                self.dirty.clear();
            }
            Event::Evict => {
                let clean: Vec<usize> = (0..self.cache.len().div_ceil(PAGE))
                    .filter(|page| !self.dirty.contains(page))
                    .collect();
                for page in clean {
                    let start = page * PAGE;
                    let end = (start + PAGE).min(self.cache.len());
                    for at in start..end {
                        self.cache[at] = self.disk.get(at).copied().unwrap_or(0);
                    }
                }
            }
        }
    }

    /// A length that was set is metadata: it gets to the disk whatever becomes of pages.
    fn settle_length(&mut self) {
        if let Some(len) = self.length.take() {
            self.disk.resize(len, 0);
        }
    }

    fn cut(mut self, seed: u64) -> (Vec<u8>, Vec<String>) {
        let mut rng = Rng::new(seed);
        let chosen = |rng: &mut Rng| match seed {
            0 => false,
            1 => true,
            _ => rng.below(2) == 0,
        };
        let mut lost = Vec::new();
        if chosen(&mut rng) {
            self.settle_length();
        } else if let Some(len) = self.length {
            lost.push(format!("length {len}"));
        }
        for page in &self.dirty {
            let from = page * PAGE;
            let until = (from + PAGE).min(self.cache.len());
            for start in (from..until).step_by(SECTOR) {
                let end = (start + SECTOR).min(until);
                if chosen(&mut rng) {
                    put(&mut self.disk, start, &self.cache[start..end]);
                } else if self.disk.get(start..end) != self.cache.get(start..end) {
                    lost.push(format!("{} bytes at {start:#x}", end - start));
                }
            }
        }
        (self.disk, lost)
    }
}

fn put(disk: &mut Vec<u8>, start: usize, bytes: &[u8]) {
    let end = start + bytes.len();
    if disk.len() < end {
        disk.resize(end, 0);
    }
    disk[start..end].copy_from_slice(bytes);
}

impl Storage for CachedFile {
    fn read_at(&self, offset: FileOffset, buf: &mut [u8]) -> Result<(), StorageError> {
        let state = self.disk.state();
        let start = usize::try_from(offset.get()).unwrap_or(usize::MAX);
        let end = start.saturating_add(buf.len());
        let Some(bytes) = state.now.cache.get(start..end) else {
            let path = self.path().to_path_buf();
            let have = state.now.cache.len().saturating_sub(start);
            return Err(StorageError::UnexpectedEnd {
                path,
                offset,
                need: ByteLen::new(buf.len() as u64),
                have: ByteLen::new(have as u64),
            });
        };
        buf.copy_from_slice(bytes);
        Ok(())
    }

    fn write_at(&self, offset: FileOffset, bytes: &[u8]) -> Result<(), StorageError> {
        let mut state = self.disk.state();
        let start = usize::try_from(offset.get()).unwrap_or(usize::MAX);
        let there = state
            .now
            .cache
            .get(start..start.saturating_add(bytes.len()));
        if bytes.is_empty() || state.lazy && there == Some(bytes) {
            return Ok(());
        }
        state.record(Event::Write {
            offset: start,
            bytes: bytes.to_vec(),
        });
        Ok(())
    }

    fn len(&self) -> Result<ByteLen, StorageError> {
        Ok(ByteLen::new(self.disk.state().now.cache.len() as u64))
    }

    fn set_len(&self, len: ByteLen) -> Result<(), StorageError> {
        let len = usize::try_from(len.get()).unwrap_or(usize::MAX);
        self.disk.state().record(Event::SetLen(len));
        Ok(())
    }

    fn sync_data(&self) -> Result<(), StorageError> {
        let mut state = self.disk.state();
        let failure = state.next.take();
        state.write_back(failure);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if *told == state.errors {
            return Ok(());
        }
        *told = state.errors;
        state.seen = state.errors;
        let failed: io::Result<()> = Err(io::Error::from_raw_os_error(state.errno));
        failed.at(Operation::Sync, self.path())
    }

    fn path(&self) -> &Path {
        static NAME: LazyLock<PathBuf> = LazyLock::new(|| PathBuf::from("(page cache disk)"));
        &NAME
    }
}
