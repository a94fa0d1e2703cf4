//! A place of whatever kind, and the store in it: for programs that learn at run time where a
//! store is.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use coldframe_storage::StorageError;
use coldframe_units::{ByteLen, FileOffset};

use crate::backend::{Backend, Exclusive, Folder, Key, Lease, LeaseId, Listed, NewFile, Seen};
use crate::store::{Options, PackStore};
use crate::url::StoreUrl;
use crate::{StoreError, error};

/// Any [`Backend`]. Clones are the same place.
#[derive(Clone, Debug)]
pub struct AnyBackend(Arc<dyn Backend>);

impl AnyBackend {
    /// This one.
    #[must_use]
    pub fn new(backend: impl Backend) -> Self {
        Self(Arc::new(backend))
    }
}

/// A chunk store wherever a URL says.
pub type AnyStore = PackStore<AnyBackend>;

/// Opens the store that a URL names: see [`StoreUrl`].
///
/// ```
/// use coldframe_chunks::{ChunkStore, Options, create, open};
///
/// # let dir = coldframe_testkit::scratch::on_disk();
/// # let url = format!("file://{}", dir.path().display());
/// create(&url, Options::usual())?; // or "s3://bucket/prefix", with the feature `remote`
/// let store = open(&url, Options::usual())?;
/// assert!(store.tags()?.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`StoreError::BadUrl`]; [`StoreError::NoStore`] if there is none; as [`PackStore::open_at`].
pub fn open(url: &str, options: Options) -> Result<AnyStore, StoreError> {
    let url: StoreUrl = url.parse().map_err(error::url)?;
    PackStore::open_at(url.backend()?, options)
}

/// Opens the store that a URL names, or makes one there.
///
/// # Errors
/// [`StoreError::BadUrl`]; as [`PackStore::create_at`].
pub fn create(url: &str, options: Options) -> Result<AnyStore, StoreError> {
    let url: StoreUrl = url.parse().map_err(error::url)?;
    PackStore::create_at(url.prepared()?, options)
}

impl Backend for AnyBackend {
    fn place(&self) -> String {
        self.0.place()
    }

    fn directory(&self) -> Option<&Path> {
        self.0.directory()
    }

    fn create(&self, key: &Key, parts: &[&[u8]]) -> Result<bool, StorageError> {
        self.0.create(key, parts)
    }

    fn begin<'a>(&'a self, key: &Key) -> Result<Box<dyn NewFile + 'a>, StorageError> {
        self.0.begin(key)
    }

    fn replace(
        &self,
        key: &Key,
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<bool, StorageError> {
        self.0.replace(key, expected, new)
    }

    fn read(&self, key: &Key, limit: ByteLen) -> Result<Option<Bytes>, StorageError> {
        self.0.read(key, limit)
    }

    fn read_range(
        &self,
        key: &Key,
        offset: FileOffset,
        len: ByteLen,
    ) -> Result<Option<Bytes>, StorageError> {
        self.0.read_range(key, offset, len)
    }

    fn exists(&self, key: &Key) -> Result<bool, StorageError> {
        self.0.exists(key)
    }

    fn read_into(
        &self,
        key: &Key,
        offset: FileOffset,
        room: &mut [u8],
    ) -> Result<bool, StorageError> {
        self.0.read_into(key, offset, room)
    }

    fn list(&self, folder: Folder) -> Result<Vec<Listed>, StorageError> {
        self.0.list(folder)
    }

    fn scan(&self, folder: Folder) -> Result<Vec<Seen>, StorageError> {
        self.0.scan(folder)
    }

    fn remove(&self, key: &Key) -> Result<bool, StorageError> {
        self.0.remove(key)
    }

    fn lease(&self) -> Result<Box<dyn Lease>, StorageError> {
        self.0.lease()
    }

    fn leases(&self) -> Result<BTreeSet<LeaseId>, StorageError> {
        self.0.leases()
    }

    fn exclusive(&self) -> Result<Option<Box<dyn Exclusive>>, StorageError> {
        self.0.exclusive()
    }

    fn can_sweep(&self) -> Result<(), StorageError> {
        self.0.can_sweep()
    }

    fn sweep(&self) -> Result<u64, StorageError> {
        self.0.sweep()
    }

    fn reads_at_once(&self) -> usize {
        self.0.reads_at_once()
    }
}
