//! A store of packs: opening, reading, and the trait.
//!
//! Invariant: bytes leave it only after their BLAKE3 hash was seen to be the chunk's id.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{
    Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
};
use std::time::Instant;

use bytes::Bytes;
use coldframe_chunkfile::Compression;
use coldframe_envelope::{ContainerBuilder, Format, Header, Producer};
use coldframe_units::{ByteLen, ChunkId};

use crate::backend::{Backend, Folder, Key};
use crate::cache::{CacheCount, ChunkCache};
use crate::catalog::{Catalog, Place};
use crate::chunk::{Chunk, ChunkStat, ChunkStore, PutCount, Visitor};
use crate::error::{encode, storage};
use crate::read::LoadedPack;
use crate::visit::Rooms;
use crate::{Directory, FileId, Push, StoreError};

/// The format of the file that says that a place is a store.
pub const STORE_FORMAT: Format = Format::new(*b"STOR", 1, 0);

/// The longest file of the store itself, tags included.
pub(crate) const SMALL_FILE_MAX: ByteLen = ByteLen::new(64 << 20);

/// How a store works; none of it changes what other users of the store can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How new chunks are stored, where it saves space.
    pub compression: Compression,
    /// A pack is closed when its chunks take this many bytes: what is synced at once.
    pub pack_bytes: u32,
    /// Threads that hash, compress and decompress.
    pub threads: usize,
    /// Memory for chunks that were read, in bytes.
    pub cache_bytes: u64,
}

impl Options {
    /// LZ4, packs of 32 MiB, a thread for each processor up to 8, 64 MiB of memory.
    #[must_use]
    pub fn usual() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            compression: Compression::Lz4,
            pack_bytes: 32 << 20,
            threads: threads.clamp(1, 8),
            cache_bytes: 64 << 20,
        }
    }
}

/// A chunk store that keeps its chunks in packs, wherever a [`Backend`] keeps files.
///
/// Clones are the same store. Any number of threads and of processes may use one at a time.
#[derive(Debug)]
pub struct PackStore<B: Backend> {
    inner: Arc<Inner<B>>,
}

/// A chunk store in a directory.
pub type LocalStore = PackStore<Directory>;

pub(crate) struct Inner<B: Backend> {
    pub backend: B,
    pub options: Options,
    pub producer: Producer,
    catalog: RwLock<Catalog>,
    refreshing: Mutex<Refreshed>,
    pub cache: ChunkCache,
    /// What those who go through many chunks use again.
    pub rooms: Rooms,
    /// A cache outside of the memory, once one was given.
    pub near: OnceLock<Arc<dyn ChunkStore>>,
}

/// The last attempt to bring the catalog up to date.
#[derive(Clone, Copy, Debug, Default)]
struct Refreshed {
    began: Option<Instant>,
    is_done: bool,
}

impl<B: Backend> fmt::Debug for Inner<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Inner");
        shown.field("backend", &self.backend);
        shown.finish_non_exhaustive()
    }
}

impl<B: Backend> Clone for PackStore<B> {
    fn clone(&self) -> Self {
        let inner = Arc::clone(&self.inner);
        Self { inner }
    }
}

impl LocalStore {
    /// Opens the store in a directory, or makes one there; the directory may be missing.
    ///
    /// # Errors
    /// As [`PackStore::open_at`]; [`StoreError::Storage`].
    pub fn create(dir: &Path) -> Result<Self, StoreError> {
        let directory = Directory::new(dir).map_err(storage)?;
        directory.prepare().map_err(storage)?;
        Self::create_at(directory, Options::usual())
    }

    /// Opens the store in a directory.
    ///
    /// # Errors
    /// [`StoreError::NoStore`] if there is none; as [`PackStore::open_at`].
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        Self::open_at(Directory::new(dir).map_err(storage)?, Options::usual())
    }
}

impl<B: Backend> PackStore<B> {
    /// Opens the store in a place, or makes one there.
    ///
    /// # Errors
    /// As [`PackStore::open_at`].
    pub fn create_at(backend: B, options: Options) -> Result<Self, StoreError> {
        let builder = ContainerBuilder::new(STORE_FORMAT, producer()?);
        let (file, _) = builder.finish().map_err(encode)?;
        backend.create(&Key::Store, &[&file]).map_err(storage)?;
        Self::open_at(backend, options)
    }

    /// Opens the store in a place. A pack whose table is damaged or cannot be read is left out, and
    /// named by [`PackStore::verify`]; it does not keep the others from being read. It is tried
    /// again by each [`PackStore::refresh`].
    ///
    /// # Errors
    /// [`StoreError::NoStore`], [`StoreError::BadStore`], [`StoreError::Storage`].
    pub fn open_at(backend: B, options: Options) -> Result<Self, StoreError> {
        let place = backend.place();
        let file = backend.read(&Key::Store, SMALL_FILE_MAX);
        let Some(file) = file.map_err(storage)? else {
            return Err(StoreError::NoStore { place });
        };
        if let Err(source) = Header::decode(&file, STORE_FORMAT) {
            return Err(StoreError::BadStore { place, source });
        }
        let inner = Inner {
            backend,
            options,
            producer: producer()?,
            catalog: RwLock::default(),
            refreshing: Mutex::default(),
            cache: ChunkCache::new(options.cache_bytes),
            rooms: Rooms::default(),
            near: OnceLock::new(),
        };
        inner.refresh()?;
        let inner = Arc::new(inner);
        Ok(Self { inner })
    }

    /// The same store, its chunks sought in `cache` before they are fetched, and kept there after.
    /// What it has is checked like everything else, and that it fails is no error; verification
    /// and garbage collection pass it by. A store has one such cache: a second is not used.
    #[must_use]
    pub fn with_cache(self, cache: Arc<dyn ChunkStore>) -> Self {
        if self.inner.near.set(cache).is_err() {
            tracing::warn!("the store has a cache already");
        }
        self
    }

    /// Where its files are.
    #[must_use]
    pub fn backend(&self) -> &B {
        &self.inner.backend
    }

    /// How it works.
    #[must_use]
    pub fn options(&self) -> Options {
        self.inner.options
    }

    /// Looks for packs and files that others have added or deleted. Reads do so by themselves
    /// before they say that something is missing.
    ///
    /// # Errors
    /// [`StoreError::Storage`].
    pub fn refresh(&self) -> Result<(), StoreError> {
        self.inner.refresh()
    }

    /// How often chunks were found in memory.
    #[must_use]
    pub fn cache_count(&self) -> CacheCount {
        self.inner.cache.count()
    }

    /// Begins to store things: see [`Push`].
    ///
    /// # Errors
    /// [`StoreError::Storage`], [`StoreError::DamagedLedger`].
    pub fn push(&self) -> Result<Push<B>, StoreError> {
        Push::begin(Arc::clone(&self.inner))
    }

    pub(crate) fn inner(&self) -> &Arc<Inner<B>> {
        &self.inner
    }
}

pub(crate) fn producer() -> Result<Producer, StoreError> {
    Producer::new("coldframe-chunks", env!("CARGO_PKG_VERSION")).map_err(encode)
}

impl<B: Backend> Inner<B> {
    pub fn catalog(&self) -> RwLockReadGuard<'_, Catalog> {
        self.catalog.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn catalog_mut(&self) -> RwLockWriteGuard<'_, Catalog> {
        self.catalog.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the catalog agree with what is listed. One at a time: a list that is older must not
    /// bring back what a newer one left out. What others add meanwhile stays.
    ///
    /// A pack whose table cannot be read is left out, and tried again each time: the others are
    /// read as before.
    pub fn refresh(&self) -> Result<(), StoreError> {
        let mut last = self.lock_refreshing();
        self.refresh_locked(&mut last)
    }

    /// As [`Inner::refresh`], unless one succeeded that began after `since`.
    pub fn refresh_since(&self, since: Instant) -> Result<(), StoreError> {
        let mut last = self.lock_refreshing();
        if last.is_done && last.began.is_some_and(|began| began >= since) {
            return Ok(());
        }
        self.refresh_locked(&mut last)
    }

    /// As [`Inner::refresh_since`] where an error is known already: while the place is down, those
    /// who wait for one another here try it once, not each in turn.
    pub fn try_refresh_since(&self, since: Instant) {
        let mut last = self.lock_refreshing();
        if last.began.is_none_or(|began| began < since)
            && let Err(error) = self.refresh_locked(&mut last)
        {
            tracing::warn!(%error, "packs not looked for again");
        }
    }

    fn lock_refreshing(&self) -> MutexGuard<'_, Refreshed> {
        let lock = self.refreshing.lock();
        lock.unwrap_or_else(PoisonError::into_inner)
    }

    fn refresh_locked(&self, last: &mut Refreshed) -> Result<(), StoreError> {
        *last = Refreshed {
            began: Some(Instant::now()),
            is_done: false,
        };
        let (known, bad, roots) = {
            let catalog = self.catalog();
            let bad: BTreeSet<FileId> = catalog.bad_packs.keys().copied().collect();
            (catalog.packs.clone(), bad, catalog.roots.clone())
        };
        let listed = self.listed_packs()?;
        let unknown: Vec<FileId> = listed.difference(&known).copied().collect();
        let loaded = self.load_listed(&unknown)?;
        let files = self.backend.scan(Folder::Roots).map_err(storage)?;
        let gone = known.union(&bad).filter(|pack| !listed.contains(pack));
        let gone = gone.copied().collect();
        let mut catalog = self.catalog_mut();
        catalog.drop_packs(&gone);
        for (file, pack) in loaded {
            match pack {
                Ok(Some(pack)) => catalog.add_pack(file, &pack),
                Ok(None) => {
                    catalog.bad_packs.remove(&file);
                }
                Err(error) => {
                    if !bad.contains(&file) {
                        tracing::warn!(pack = %file, %error, "pack left out");
                    }
                    catalog.bad_packs.insert(file, Arc::new(error));
                }
            }
        }
        catalog.set_roots(&roots, files.into_iter().map(|file| file.key));
        last.is_done = true;
        Ok(())
    }

    fn listed_packs(&self) -> Result<BTreeSet<FileId>, StoreError> {
        let seen = self.backend.scan(Folder::Packs).map_err(storage)?;
        let packs = seen.into_iter().filter_map(|seen| match seen.key {
            Key::Pack(id) => Some(id),
            _ => None,
        });
        Ok(packs.collect())
    }

    /// The tables of packs that were listed; one that is not found must not be listed any more.
    fn load_listed(&self, files: &[FileId]) -> Result<Vec<LoadedPack>, StoreError> {
        let mut loaded: Vec<LoadedPack> = self.load_packs(files);
        if loaded.iter().any(|(_, pack)| matches!(pack, Ok(None))) {
            let listed = self.listed_packs()?;
            for (file, pack) in &mut loaded {
                if matches!(pack, Ok(None)) && listed.contains(file) {
                    *pack = match self.load_pack(*file) {
                        Ok(None) => Err(StoreError::ListedNotFound {
                            key: Key::Pack(*file),
                        }),
                        again => again,
                    };
                }
            }
        }
        Ok(loaded)
    }

    fn stat(&self, id: ChunkId) -> Option<ChunkStat> {
        let places = self.catalog().places(id);
        places.first().map(Place::stat)
    }

    /// What to say of a chunk that no table has.
    pub fn absent(&self, id: ChunkId) -> StoreError {
        let catalog = self.catalog();
        if let Some((pack, source)) = catalog.unread_pack() {
            return StoreError::Unlocated { id, pack, source };
        }
        match catalog.bad_packs.first_key_value() {
            Some((pack, source)) => StoreError::LostChunk {
                id,
                pack: *pack,
                source: Arc::clone(source),
            },
            None => StoreError::MissingChunk { id },
        }
    }
}

impl<B: Backend> ChunkStore for PackStore<B> {
    fn get(&self, id: ChunkId) -> Result<Bytes, StoreError> {
        self.inner.get(id)
    }

    fn get_many(&self, ids: &[ChunkId]) -> Vec<Result<Bytes, StoreError>> {
        self.inner.get_many(ids)
    }

    fn visit_many(&self, ids: &[ChunkId], visitor: &Visitor<'_>) {
        self.inner.visit(ids, visitor);
    }

    fn stat(&self, id: ChunkId) -> Result<Option<ChunkStat>, StoreError> {
        if let Some(stat) = self.inner.stat(id) {
            return Ok(Some(stat));
        }
        self.inner.refresh()?;
        match self.inner.stat(id) {
            Some(stat) => Ok(Some(stat)),
            None => match self.inner.absent(id) {
                error if error.is_missing() => Ok(None),
                error => Err(error),
            },
        }
    }

    fn has_many(&self, ids: &[ChunkId]) -> Result<Vec<bool>, StoreError> {
        // One look for new packs, however many are missing.
        let find = || -> Vec<bool> {
            ids.iter()
                .map(|id| self.inner.stat(*id).is_some())
                .collect()
        };
        let found = find();
        if found.iter().all(|found| *found) {
            return Ok(found);
        }
        self.inner.refresh()?;
        Ok(find())
    }

    fn put_many(&self, chunks: &[Chunk]) -> Result<PutCount, StoreError> {
        let push = self.push()?;
        push.put_chunks(chunks)?;
        push.finish()
    }

    fn list(
        &self,
        each: &mut dyn FnMut(ChunkId, ChunkStat) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.inner.refresh()?;
        let ids = self.inner.catalog().ids();
        for id in ids {
            // The catalog is not locked while `each` runs: it may use the store.
            if let Some(stat) = self.inner.stat(id)
                && each(id, stat).is_break()
            {
                break;
            }
        }
        Ok(())
    }

    fn delete(&self, ids: &[ChunkId]) -> Result<u64, StoreError> {
        crate::compact::delete(self, ids)
    }
}
