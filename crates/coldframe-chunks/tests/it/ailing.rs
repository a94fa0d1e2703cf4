//! A place where one file cannot be read, and stays so: the double of the tests of what then goes
//! on.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use coldframe_chunks::{
    Backend, Exclusive, Folder, Key, Lease, LeaseId, Listed, PackStore, Seen, StoreError,
};
use coldframe_storage::{IoContext, Operation, StorageError};
use coldframe_testkit::unreadable::Ailment;
use coldframe_units::{ByteLen, FileOffset};

use crate::backend::MemBackend;
use crate::support::OPTIONS;

/// What is wrong with which file.
#[derive(Clone, Debug)]
pub struct Sick {
    pub key: Key,
    pub ailment: Ailment,
    /// What can be read of it all the same: its first bytes.
    pub sound_bytes: u64,
}

/// Clones are the same place.
#[derive(Clone, Debug, Default)]
pub struct Ailing {
    pub inner: MemBackend,
    sick: Arc<Mutex<Option<Sick>>>,
    /// Left out of listings, whatever else ails it.
    hidden: Arc<Mutex<Option<Key>>>,
    /// No lease is listed.
    hides_leases: Arc<AtomicBool>,
    /// The planted bug: what cannot be read is taken for absent.
    pub forgives: bool,
}

impl Ailing {
    pub fn new(inner: MemBackend) -> Self {
        Self {
            inner,
            ..Self::default()
        }
    }

    pub fn store(&self) -> Result<PackStore<Self>, StoreError> {
        PackStore::open_at(self.clone(), OPTIONS)
    }

    /// Nothing of this file can be read from now on.
    pub fn spoil(&self, key: &Key, ailment: Ailment) {
        self.spoil_behind(key, ailment, 0);
    }

    /// As [`Ailing::spoil`], but for its first bytes.
    pub fn spoil_behind(&self, key: &Key, ailment: Ailment, sound_bytes: u64) {
        let key = key.clone();
        *self.sick.lock().unwrap() = Some(Sick {
            key,
            ailment,
            sound_bytes,
        });
    }

    /// No listing has this file from now on.
    pub fn hide(&self, key: &Key) {
        *self.hidden.lock().unwrap() = Some(key.clone());
    }

    /// Whether a listing has the leases that are held.
    pub fn hide_leases(&self, is_hidden: bool) {
        self.hides_leases.store(is_hidden, Ordering::Relaxed);
    }

    pub fn heal(&self) {
        *self.sick.lock().unwrap() = None;
        *self.hidden.lock().unwrap() = None;
    }

    /// What ails this file, when its bytes up to `end` are read.
    fn ailment(&self, key: &Key, end: u64) -> Option<Ailment> {
        let sick = self.sick.lock().unwrap();
        let sick = sick
            .as_ref()
            .filter(|sick| sick.key == *key && end > sick.sound_bytes);
        sick.map(|sick| sick.ailment)
    }

    /// `Ok(false)` if there seems to be no such file.
    fn look(&self, key: &Key, end: u64) -> Result<bool, StorageError> {
        match self.ailment(key, end) {
            None | Some(Ailment::LeftOut) => Ok(true),
            Some(Ailment::ListedNotFound) => Ok(false),
            Some(_) if self.forgives => Ok(false),
            Some(Ailment::Errno(errno)) => {
                let error: Result<(), _> = Err(std::io::Error::from_raw_os_error(errno));
                let operation = Operation::Read(FileOffset::ZERO, ByteLen::ZERO);
                error.at(operation, key.to_string().as_ref()).map(|()| true)
            }
        }
    }
}

impl Backend for Ailing {
    fn place(&self) -> String {
        self.inner.place()
    }

    fn create(&self, key: &Key, parts: &[&[u8]]) -> Result<bool, StorageError> {
        self.inner.create(key, parts)
    }

    fn replace(
        &self,
        key: &Key,
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<bool, StorageError> {
        // It compares what is there, whatever reading says.
        if self.look(key, u64::MAX)? {
            return self.inner.replace(key, expected, new);
        }
        Ok(false)
    }

    fn read(&self, key: &Key, limit: ByteLen) -> Result<Option<Bytes>, StorageError> {
        match self.look(key, u64::MAX)? {
            true => self.inner.read(key, limit),
            false => Ok(None),
        }
    }

    fn read_range(
        &self,
        key: &Key,
        offset: FileOffset,
        len: ByteLen,
    ) -> Result<Option<Bytes>, StorageError> {
        match self.look(key, offset.get() + len.get())? {
            true => self.inner.read_range(key, offset, len),
            false => Ok(None),
        }
    }

    fn list(&self, folder: Folder) -> Result<Vec<Listed>, StorageError> {
        let seen = self.scan(folder)?;
        seen.into_iter().map(|seen| seen.facts).collect()
    }

    fn scan(&self, folder: Folder) -> Result<Vec<Seen>, StorageError> {
        let mut seen = Vec::new();
        for listed in self.inner.list(folder)? {
            let key = listed.key.clone();
            if self.hidden.lock().unwrap().as_ref() == Some(&key) {
                continue;
            }
            let facts = match self.ailment(&key, u64::MAX) {
                Some(Ailment::LeftOut) => continue,
                Some(_) if self.forgives => continue,
                Some(Ailment::ListedNotFound) | None => Ok(listed),
                Some(Ailment::Errno(_)) => self.look(&key, u64::MAX).map(|_| listed),
            };
            seen.push(Seen { key, facts });
        }
        Ok(seen)
    }

    fn remove(&self, key: &Key) -> Result<bool, StorageError> {
        self.inner.remove(key)
    }

    fn lease(&self) -> Result<Box<dyn Lease>, StorageError> {
        self.inner.lease()
    }

    fn leases(&self) -> Result<BTreeSet<LeaseId>, StorageError> {
        match self.hides_leases.load(Ordering::Relaxed) {
            true => Ok(BTreeSet::new()),
            false => self.inner.leases(),
        }
    }

    fn exclusive(&self) -> Result<Option<Box<dyn Exclusive>>, StorageError> {
        self.inner.exclusive()
    }

    fn sweep(&self) -> Result<u64, StorageError> {
        self.inner.sweep()
    }
}
