//! A place that gives up after so many calls, and counts what is read from it.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use coldframe_chunks::{Backend, Directory, Exclusive, Folder, Key, Lease, LeaseId, Listed};
use coldframe_storage::{IoContext, Operation, StorageError};
use coldframe_units::{ByteLen, FileOffset};

use crate::support::Home;

#[derive(Debug)]
pub struct State {
    directory: Directory,
    /// Calls that are still answered.
    left: AtomicU64,
    calls: AtomicU64,
    pack_bytes_read: AtomicU64,
}

/// Clones are the same place.
#[derive(Clone, Debug)]
pub struct Flaky(Arc<State>);

impl Flaky {
    /// The store of `home`, answering this many calls.
    pub fn new(home: &Home, calls: u64) -> Self {
        Self(Arc::new(State {
            directory: Directory::new(&home.at("store")).unwrap(),
            left: AtomicU64::new(calls),
            calls: AtomicU64::new(0),
            pack_bytes_read: AtomicU64::new(0),
        }))
    }

    pub fn calls(&self) -> u64 {
        self.0.calls.load(Ordering::Relaxed)
    }

    pub fn pack_bytes_read(&self) -> u64 {
        self.0.pack_bytes_read.load(Ordering::Relaxed)
    }

    fn enter(&self) -> Result<&Directory, StorageError> {
        self.0.calls.fetch_add(1, Ordering::Relaxed);
        let left = &self.0.left;
        let taken = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        let gone: io::Result<u64> = taken.map_err(|_| io::Error::other("the place is gone"));
        gone.at(Operation::Open, self.0.directory.path())?;
        Ok(&self.0.directory)
    }
}

impl Backend for Flaky {
    fn place(&self) -> String {
        self.0.directory.place()
    }

    fn create(&self, key: &Key, parts: &[&[u8]]) -> Result<bool, StorageError> {
        self.enter()?.create(key, parts)
    }

    fn replace(
        &self,
        key: &Key,
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<bool, StorageError> {
        self.enter()?.replace(key, expected, new)
    }

    fn read(&self, key: &Key, limit: ByteLen) -> Result<Option<Bytes>, StorageError> {
        self.enter()?.read(key, limit)
    }

    fn read_range(
        &self,
        key: &Key,
        offset: FileOffset,
        len: ByteLen,
    ) -> Result<Option<Bytes>, StorageError> {
        let bytes = self.enter()?.read_range(key, offset, len)?;
        if let (Key::Pack(_), Some(bytes)) = (key, &bytes) {
            let len = bytes.len() as u64;
            self.0.pack_bytes_read.fetch_add(len, Ordering::Relaxed);
        }
        Ok(bytes)
    }

    fn list(&self, folder: Folder) -> Result<Vec<Listed>, StorageError> {
        self.enter()?.list(folder)
    }

    fn remove(&self, key: &Key) -> Result<bool, StorageError> {
        self.enter()?.remove(key)
    }

    fn lease(&self) -> Result<Box<dyn Lease>, StorageError> {
        self.enter()?.lease()
    }

    fn leases(&self) -> Result<BTreeSet<LeaseId>, StorageError> {
        self.enter()?.leases()
    }

    fn exclusive(&self) -> Result<Option<Box<dyn Exclusive>>, StorageError> {
        self.enter()?.exclusive()
    }

    fn sweep(&self) -> Result<u64, StorageError> {
        self.enter()?.sweep()
    }
}
