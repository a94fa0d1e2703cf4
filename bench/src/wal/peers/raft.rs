//! raft-engine: files that are recycled, group commit. Syncs (`fdatasync`); entries and index
//! items have CRCs, record headers have none. A group of its has one writer, so each thread at
//! work has a group of its own.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use protobuf::well_known_types::BytesValue;
use raft_engine::{Config, Engine, LogBatch, MessageExt, ReadableSize};

use crate::wal::plain::LOG_BYTES;
use crate::wal::{Log, Mode, Peer};

pub const PEER: Peer = Peer {
    name: "raft-engine",
    unsynced: true,
    open,
    recover,
};

/// The first group, and the only one of a single thread.
const GROUP: u64 = 1;
/// Read at once when all entries are read.
const READ_BYTES: usize = 4 << 20;

struct Raft {
    engine: Engine,
    groups: Mutex<Groups>,
    mode: Mode,
}

/// The next index of every group, that of [`GROUP`] first, and the groups that no thread uses.
#[derive(Default)]
struct Groups {
    next: Vec<u64>,
    free: Vec<usize>,
}

impl Groups {
    /// A group for a thread, and the index of the first of `count` entries in it.
    fn take(&mut self, count: u64) -> (usize, u64) {
        let group = self.free.pop().unwrap_or_else(|| {
            self.next.push(1);
            self.next.len() - 1
        });
        let first = self.next[group];
        self.next[group] += count;
        (group, first)
    }
}

/// An entry is bytes; the first eight are its index.
struct Bytes;

impl MessageExt for Bytes {
    type Entry = BytesValue;

    fn index(entry: &BytesValue) -> u64 {
        let index = entry.value.first_chunk().copied();
        index.map_or(0, u64::from_le_bytes)
    }
}

fn config(dir: PathBuf, mode: Mode) -> Config {
    let fill = mode == Mode::Fill;
    let mut config = Config {
        dir: dir.to_string_lossy().into_owned(),
        // The payload cannot be compressed.
        batch_compression_threshold: ReadableSize(0),
        ..Config::default()
    };
    if !fill {
        // Files are written ahead and used again, as ours is.
        config.target_file_size = ReadableSize(LOG_BYTES / 2);
        config.purge_threshold = ReadableSize(LOG_BYTES);
        config.prefill_for_recycle = true;
        config.prefill_limit = Some(ReadableSize(LOG_BYTES * 2));
    }
    config
}

fn open(dir: PathBuf, mode: Mode) -> Result<Box<dyn Log>> {
    Ok(Box::new(Raft {
        engine: Engine::open(config(dir, mode))?,
        groups: Mutex::default(),
        mode,
    }))
}

fn recover(dir: PathBuf) -> Result<usize> {
    let engine = Engine::open(config(dir, Mode::Fill))?;
    let first = engine.first_index(GROUP).unwrap_or(1);
    let end = engine.last_index(GROUP).map_or(1, |last| last + 1);
    let mut entries = Vec::new();
    let mut at = first;
    let mut count = 0;
    while at < end {
        entries.clear();
        engine.fetch_entries_to::<Bytes>(GROUP, at, end, Some(READ_BYTES), &mut entries)?;
        count += entries.len();
        at += entries.len() as u64;
    }
    Ok(count)
}

impl Raft {
    fn groups(&self) -> MutexGuard<'_, Groups> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log for Raft {
    fn append(&self, payload: &[u8]) -> Result<()> {
        self.append_all(payload, 1)
    }

    fn append_all(&self, payload: &[u8], count: usize) -> Result<()> {
        let (group, first) = self.groups().take(count as u64);
        let mut batch = LogBatch::with_capacity(1);
        for index in first..first + count as u64 {
            let mut entry = BytesValue::new();
            entry.value = payload.to_vec();
            entry.value[..8].copy_from_slice(&index.to_le_bytes());
            batch.add_entries::<Bytes>(GROUP + group as u64, &[entry])?;
        }
        self.engine.write(&mut batch, self.mode == Mode::Durable)?;
        self.groups().free.push(group);
        Ok(())
    }

    fn settle(&self) -> Result<()> {
        for (group, next) in (GROUP..).zip(&self.groups().next) {
            self.engine.compact_to(group, *next);
        }
        self.engine.purge_expired_files()?;
        Ok(self.engine.sync()?)
    }
}
