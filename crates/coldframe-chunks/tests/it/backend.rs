//! A backend in memory that fails on order and remembers what was done: the double of all tests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use coldframe_chunks::{Backend, Exclusive, Folder, Key, Lease, LeaseId, Listed};
use coldframe_storage::{IoContext, Operation, StorageError};
use coldframe_testkit::fault::{EIO, ENOSPC};
use coldframe_units::{ByteLen, FileOffset};

/// What shall go wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Every write fails: the disk is full.
    Full,
    /// The call of this number from now on fails, once; with `true` it has its effect all the
    /// same.
    Fail(u64, bool),
    /// Every range read of this folder comes back shorter.
    Short(Folder),
    /// Every range read of this folder comes back with one bit flipped.
    Flipped(Folder),
    /// Every range read of this folder is of the right length, and all zeros.
    Zeros(Folder),
    /// The next listing of this folder leaves all out.
    EmptyList(Folder),
    /// A tag is found by every spelling of its name, and refused by all but its own.
    IgnoresCase,
}

pub type Files = BTreeMap<Key, Bytes>;

/// What happens right after the next reading of a tag.
struct Meanwhile(Box<dyn FnOnce() + Send>);

impl std::fmt::Debug for Meanwhile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meanwhile")
    }
}

#[derive(Debug, Default)]
struct State {
    meanwhile: Option<Meanwhile>,
    files: Files,
    troubles: Vec<Trouble>,
    /// The files after each change.
    history: Vec<Files>,
    calls: u64,
    /// How often the ledger was read, and swapped.
    ledger: (u64, u64),
    leases: BTreeSet<LeaseId>,
    is_collecting: bool,
}

/// Clones are the same place.
#[derive(Clone, Debug, Default)]
pub struct MemBackend {
    state: Arc<Mutex<State>>,
    next: Arc<AtomicU64>,
    pub age: Duration,
    pub reads_at_once: usize,
}

impl MemBackend {
    pub fn with_files(files: Files) -> Self {
        let backend = Self::default();
        backend.state().files = files;
        backend
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn trouble(&self, trouble: Trouble) {
        self.state().troubles.push(trouble);
    }

    /// Lets something happen right after the next reading of a tag.
    #[allow(dead_code, reason = "for the tests of crates above this one")]
    pub fn after_tag_read(&self, meanwhile: impl FnOnce() + Send + 'static) {
        self.state().meanwhile = Some(Meanwhile(Box::new(meanwhile)));
    }

    pub fn heal(&self) {
        self.state().troubles.clear();
    }

    pub fn files(&self) -> Files {
        self.state().files.clone()
    }

    pub fn history(&self) -> Vec<Files> {
        self.state().history.clone()
    }

    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// How often the ledger was read, and swapped, since this was last asked.
    #[allow(dead_code, reason = "not for the tests of all crates above this one")]
    pub fn ledger_calls(&self) -> (u64, u64) {
        std::mem::take(&mut self.state().ledger)
    }

    pub fn leases_held(&self) -> usize {
        self.state().leases.len()
    }

    /// Changes the bytes of a file behind everyone's back.
    pub fn rot(&self, key: &Key, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let mut bytes = state.files[key].to_vec();
        change(&mut bytes);
        state.files.insert(key.clone(), Bytes::from(bytes));
    }

    /// Removes a file behind everyone's back.
    #[allow(dead_code, reason = "not for the tests of crates above this one")]
    pub fn take(&self, key: &Key) {
        self.state().files.remove(key);
    }

    pub fn keys(&self, folder: Folder) -> Vec<Key> {
        let in_folder = |key: &Key| match key {
            Key::Pack(_) => folder == Folder::Packs,
            Key::Root(..) => folder == Folder::Roots,
            Key::Tag(_) => folder == Folder::Tags,
            _ => false,
        };
        let state = self.state();
        state
            .files
            .keys()
            .filter(|key| in_folder(key))
            .cloned()
            .collect()
    }

    /// Counts a call; whether it fails, and whether it has its effect before.
    fn enter(&self, key: &Key) -> Result<Option<StorageError>, StorageError> {
        let mut state = self.state();
        state.calls += 1;
        let mut fate = None;
        for trouble in &mut state.troubles {
            if let Trouble::Fail(left, has_effect) = trouble {
                match *left {
                    0 => {}
                    1 => {
                        *left = 0;
                        fate = Some(*has_effect);
                    }
                    _ => *left -= 1,
                }
            }
        }
        let error = || failed(key, EIO);
        match fate {
            None => Ok(None),
            Some(true) => Ok(Some(error())),
            Some(false) => Err(error()),
        }
    }

    fn change(&self, change: impl FnOnce(&mut Files)) {
        let mut state = self.state();
        change(&mut state.files);
        let files = state.files.clone();
        state.history.push(files);
    }

    /// The tag whose file is found by this name that it does not have, where case is ignored.
    fn other_spelling(&self, key: &Key) -> Option<Key> {
        let state = self.state();
        let ignores_case = state.troubles.contains(&Trouble::IgnoresCase);
        if !ignores_case || state.files.contains_key(key) {
            return None;
        }
        let is_it = |other: &&Key| {
            matches!(other, Key::Tag(_)) && other.to_string().eq_ignore_ascii_case(&key.to_string())
        };
        state.files.keys().find(is_it).cloned()
    }

    fn is_full(&self) -> bool {
        self.state().troubles.contains(&Trouble::Full)
    }
}

fn failed(key: &Key, errno: i32) -> StorageError {
    let error: Result<(), _> = Err(std::io::Error::from_raw_os_error(errno));
    let path = PathBuf::from(key.to_string());
    let operation = Operation::Write(FileOffset::ZERO, ByteLen::ZERO);
    error.at(operation, &path).unwrap_err()
}

fn folder_of(key: &Key) -> Option<Folder> {
    match key {
        Key::Pack(_) => Some(Folder::Packs),
        Key::Root(..) => Some(Folder::Roots),
        Key::Tag(_) => Some(Folder::Tags),
        _ => None,
    }
}

#[derive(Debug)]
struct MemLease(MemBackend, LeaseId);

impl Lease for MemLease {
    fn id(&self) -> LeaseId {
        self.1
    }

    fn is_held(&self) -> bool {
        self.0.state().leases.contains(&self.1)
    }
}

impl Drop for MemLease {
    fn drop(&mut self) {
        self.0.state().leases.remove(&self.1);
    }
}

#[derive(Debug)]
struct MemExclusive(MemBackend);

impl Exclusive for MemExclusive {}

impl Drop for MemExclusive {
    fn drop(&mut self) {
        self.0.state().is_collecting = false;
    }
}

impl Backend for MemBackend {
    fn place(&self) -> String {
        "(memory)".to_owned()
    }

    fn reads_at_once(&self) -> usize {
        self.reads_at_once
    }

    fn create(&self, key: &Key, parts: &[&[u8]]) -> Result<bool, StorageError> {
        let fate = self.enter(key)?;
        if self.is_full() {
            return Err(failed(key, ENOSPC));
        }
        let mut is_new = false;
        self.change(|files| {
            is_new = !files.contains_key(key);
            if is_new {
                files.insert(key.clone(), Bytes::from(parts.concat()));
            }
        });
        fate.map_or(Ok(is_new), Err)
    }

    fn replace(
        &self,
        key: &Key,
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<bool, StorageError> {
        let fate = self.enter(key)?;
        self.state().ledger.1 += u64::from(*key == Key::Ledger);
        if self.is_full() && new.is_some() {
            return Err(failed(key, ENOSPC));
        }
        let mut matches = false;
        self.change(|files| {
            matches = files.get(key).map(|bytes| &bytes[..]) == expected;
            match new {
                Some(new) if matches => {
                    files.insert(key.clone(), Bytes::copy_from_slice(new));
                }
                None if matches => {
                    files.remove(key);
                }
                _ => {}
            }
        });
        fate.map_or(Ok(matches), Err)
    }

    fn read(&self, key: &Key, _limit: ByteLen) -> Result<Option<Bytes>, StorageError> {
        self.enter(key)?;
        self.state().ledger.0 += u64::from(*key == Key::Ledger);
        if let Some(other) = self.other_spelling(key) {
            let path = PathBuf::from(format!("/store/{other}"));
            return Err(StorageError::Exists { path });
        }
        let mut state = self.state();
        let bytes = state.files.get(key).cloned();
        let is_tag = folder_of(key) == Some(Folder::Tags);
        let meanwhile = state.meanwhile.take_if(|_| is_tag);
        drop(state);
        if let Some(Meanwhile(meanwhile)) = meanwhile {
            meanwhile();
        }
        Ok(bytes)
    }

    fn read_range(
        &self,
        key: &Key,
        offset: FileOffset,
        len: ByteLen,
    ) -> Result<Option<Bytes>, StorageError> {
        self.enter(key)?;
        let state = self.state();
        let Some(file) = state.files.get(key) else {
            return Ok(None);
        };
        let start = usize::try_from(offset.get()).unwrap().min(file.len());
        let end = (start + usize::try_from(len.get()).unwrap()).min(file.len());
        let mut bytes = file[start..end].to_vec();
        for trouble in &state.troubles {
            match trouble {
                Trouble::Short(folder) if folder_of(key) == Some(*folder) => {
                    bytes.truncate(bytes.len() / 2);
                }
                Trouble::Flipped(folder) if folder_of(key) == Some(*folder) => bytes[0] ^= 1,
                Trouble::Zeros(folder) if folder_of(key) == Some(*folder) => bytes.fill(0),
                _ => {}
            }
        }
        Ok(Some(Bytes::from(bytes)))
    }

    fn list(&self, folder: Folder) -> Result<Vec<Listed>, StorageError> {
        self.enter(&Key::Store)?;
        {
            let mut state = self.state();
            let empty = Trouble::EmptyList(folder);
            if let Some(at) = state.troubles.iter().position(|trouble| *trouble == empty) {
                state.troubles.remove(at);
                return Ok(Vec::new());
            }
        }
        let listed = self.keys(folder).into_iter().filter_map(|key| {
            let len = self.state().files.get(&key)?.len() as u64;
            let len = ByteLen::new(len);
            let age = self.age;
            Some(Listed { key, len, age })
        });
        Ok(listed.collect())
    }

    fn remove(&self, key: &Key) -> Result<bool, StorageError> {
        let fate = self.enter(key)?;
        let mut was_there = false;
        self.change(|files| was_there = files.remove(key).is_some());
        fate.map_or(Ok(was_there), Err)
    }

    fn lease(&self) -> Result<Box<dyn Lease>, StorageError> {
        self.enter(&Key::Store)?;
        let id = LeaseId::new(self.next.fetch_add(1, Ordering::Relaxed));
        self.state().leases.insert(id);
        Ok(Box::new(MemLease(self.clone(), id)))
    }

    fn leases(&self) -> Result<BTreeSet<LeaseId>, StorageError> {
        self.enter(&Key::Store)?;
        Ok(self.state().leases.clone())
    }

    fn exclusive(&self) -> Result<Option<Box<dyn Exclusive>>, StorageError> {
        let was = std::mem::replace(&mut self.state().is_collecting, true);
        Ok((!was).then(|| Box::new(MemExclusive(self.clone())) as Box<dyn Exclusive>))
    }

    fn sweep(&self) -> Result<u64, StorageError> {
        Ok(0)
    }
}
