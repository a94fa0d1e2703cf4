//! A bounded cache of chunks in a directory, in front of a store that is far away.
//!
//! Invariants: nothing in it is believed (every read is checked against the id, and a file that
//! does not hold is removed and counts as missing); nothing is synced, since all can be fetched
//! again; a file appears by rename, so processes may share the directory. The bound is on the
//! bytes of all files there, of any process.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use coldframe_chunkfile::{CHUNK_BYTES_MAX, Compression};
use coldframe_storage::{
    FileStorage, IoContext, Operation, Storage as _, StorageError, create_dir_all, replace_in_cache,
};
use coldframe_units::{ByteLen, ChunkId, FileOffset};

use crate::StoreError;
use crate::chunk::{Chunk, ChunkStat, ChunkStore, PutCount, id_of};
use crate::error::storage;

/// The directory is looked through when this part of the bound was added.
const SCAN_PART: u64 = 16;

/// After eviction so many sixteenths of the bound are left.
const LEFT_PARTS: u64 = 14;

/// Unfinished files older than this are of processes that died.
const UNFINISHED_MAX: Duration = Duration::from_secs(60);

/// A cache of chunks in a directory.
#[derive(Debug)]
pub struct DiskCache {
    path: PathBuf,
    bytes_max: u64,
    /// Bytes that were there when the directory was looked through.
    found: AtomicU64,
    /// Bytes that this process has added since.
    added: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
}

struct Found {
    path: PathBuf,
    len: u64,
    used: SystemTime,
}

impl DiskCache {
    /// The cache in a directory, which is made if it is missing; what is in it is used.
    ///
    /// # Errors
    /// [`StoreError::Storage`].
    pub fn open(dir: &Path, bytes_max: u64) -> Result<Self, StoreError> {
        create_dir_all(dir).map_err(storage)?;
        let cache = Self {
            path: std::path::absolute(dir)
                .at(Operation::Open, dir)
                .map_err(storage)?,
            bytes_max,
            found: AtomicU64::new(0),
            added: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        };
        cache.evict()?;
        Ok(cache)
    }

    /// How often chunks were found, and were not.
    #[must_use]
    pub fn count(&self) -> (u64, u64) {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (load(&self.hits), load(&self.misses))
    }

    fn file(&self, id: ChunkId) -> PathBuf {
        let name = id.to_string();
        self.path.join(&name[..2]).join(name)
    }

    /// The bytes of a chunk, if they are there and right.
    fn read(&self, id: ChunkId) -> Option<Bytes> {
        let path = self.file(id);
        let file = fs::File::open(&path).ok()?;
        let len = file.metadata().ok()?.len();
        let bytes = (len <= CHUNK_BYTES_MAX.into())
            .then(|| fs::read(&path).ok())
            .flatten();
        let sound = bytes.map(Bytes::from).filter(|bytes| id_of(bytes) == id);
        if sound.is_none() {
            tracing::warn!(chunk = %id, "damaged chunk removed from the cache");
            let _ = fs::remove_file(&path);
            return None;
        }
        // Its use is its age: eviction goes by it. Without effect on a file system without times.
        let _ = file.set_modified(SystemTime::now());
        sound
    }

    fn write(&self, chunk: &Chunk) -> Result<(), StorageError> {
        let path = self.file(chunk.id());
        let folder = path.parent().unwrap_or(&self.path);
        if !folder.is_dir() {
            create_dir_all(folder)?;
        }
        let number = getrandom::u64().at(Operation::TemporaryName, &path)?;
        let temporary = folder.join(format!(".{number:016x}.new"));
        let file = FileStorage::create(&temporary)?;
        let written = file
            .write_at(FileOffset::ZERO, chunk.bytes())
            .and_then(|()| replace_in_cache(&temporary, &path));
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    /// Looks through the directory, and removes what was not used for longest if it is too much.
    fn evict(&self) -> Result<(), StoreError> {
        let mut files = self.scan().map_err(storage)?;
        let mut total: u64 = files.iter().map(|file| file.len).sum();
        if total > self.bytes_max {
            files.sort_by_key(|file| file.used);
            for file in files {
                if total <= self.bytes_max / 16 * LEFT_PARTS {
                    break;
                }
                if fs::remove_file(&file.path).is_ok() {
                    total -= file.len;
                }
            }
        }
        self.found.store(total, Ordering::Relaxed);
        self.added.store(0, Ordering::Relaxed);
        Ok(())
    }

    fn scan(&self) -> Result<Vec<Found>, StorageError> {
        let mut found = Vec::new();
        for folder in fs::read_dir(&self.path).at(Operation::Open, &self.path)? {
            let folder = folder.at(Operation::Open, &self.path)?.path();
            // What another process removes meanwhile is not there.
            let Ok(entries) = fs::read_dir(&folder) else {
                continue;
            };
            for entry in entries.flatten() {
                let Ok(metadata) = entry.metadata() else {
                    continue;
                };
                let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                let path = entry.path();
                let is_unfinished = entry.file_name().as_encoded_bytes().starts_with(b".");
                let age = SystemTime::now().duration_since(used).unwrap_or_default();
                if is_unfinished && age > UNFINISHED_MAX {
                    let _ = fs::remove_file(&path);
                    continue;
                }
                let len = metadata.len();
                found.push(Found { path, len, used });
            }
        }
        Ok(found)
    }
}

impl ChunkStore for DiskCache {
    fn get(&self, id: ChunkId) -> Result<Bytes, StoreError> {
        let found = self.read(id);
        let count = if found.is_some() {
            &self.hits
        } else {
            &self.misses
        };
        count.fetch_add(1, Ordering::Relaxed);
        found.ok_or(StoreError::MissingChunk { id })
    }

    fn stat(&self, id: ChunkId) -> Result<Option<ChunkStat>, StoreError> {
        let len = fs::metadata(self.file(id))
            .ok()
            .map(|metadata| metadata.len());
        Ok(len.map(raw_stat))
    }

    fn put_many(&self, chunks: &[Chunk]) -> Result<PutCount, StoreError> {
        let mut count = PutCount::default();
        for chunk in chunks {
            if self.stat(chunk.id())?.is_some() {
                count.deduplicated += 1;
                continue;
            }
            self.write(chunk).map_err(storage)?;
            let len = chunk.bytes().len() as u64;
            count.add(PutCount {
                written: 1,
                deduplicated: 0,
                raw_bytes: len,
                stored_bytes: len,
            });
            let added = self.added.fetch_add(len, Ordering::Relaxed) + len;
            let total = self.found.load(Ordering::Relaxed) + added;
            if total > self.bytes_max || added > self.bytes_max / SCAN_PART {
                self.evict()?;
            }
        }
        Ok(count)
    }

    fn list(
        &self,
        each: &mut dyn FnMut(ChunkId, ChunkStat) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        for file in self.scan().map_err(storage)? {
            let name = file.path.file_name().and_then(|name| name.to_str());
            if let Some(id) = name.and_then(|name| name.parse().ok())
                && each(id, raw_stat(file.len)).is_break()
            {
                break;
            }
        }
        Ok(())
    }

    fn delete(&self, ids: &[ChunkId]) -> Result<u64, StoreError> {
        let removed = ids
            .iter()
            .filter(|id| fs::remove_file(self.file(**id)).is_ok());
        Ok(removed.count() as u64)
    }
}

fn raw_stat(len: u64) -> ChunkStat {
    ChunkStat {
        raw_len: ByteLen::new(len),
        stored_len: ByteLen::new(len),
        compression: Compression::None,
    }
}
