//! A directory of the host as a [`Backend`].
//!
//! Files are published by rename after a sync. A lease is a file under flock(2): the kernel drops
//! the lock with the process, so the lease of a dead one is seen to be void at once, whatever the
//! clocks say. See flock(2) for file systems on which such locks do not work between hosts.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use coldframe_storage::{
    FileStorage, IoContext, Operation, Overwrite, PendingFile, Storage, StorageError,
    create_dir_all, lock, open_or_create, read_small, remove_durably, sweep_stale, try_lock,
};
use coldframe_units::{ByteLen, FileOffset};

use crate::backend::{Backend, Exclusive, Folder, Key, Lease, LeaseId, Listed, NewFile, Seen};

/// The longest tag, ledger or note: what is compared and swapped as a whole.
const SMALL_MAX: ByteLen = ByteLen::new(1 << 30);

/// Files that are kept open for reading.
const OPEN_FILES_MAX: usize = 128;

/// How often a name that is listed is looked at again when it is not found.
const LOOKS_MAX: usize = 3;

/// How often a lease is made anew when its file is gone, taken for an orphan's by a collector.
const LEASE_TRIES: usize = 16;

/// A directory that holds a store.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    open: Mutex<HashMap<Key, Arc<FileStorage>>>,
}

impl Directory {
    /// The directory at `path`; it is made when something is written to it.
    ///
    /// # Errors
    /// [`StorageError::Open`] if the path cannot be made absolute.
    pub fn new(path: &Path) -> Result<Self, StorageError> {
        Ok(Self {
            path: std::path::absolute(path).at(Operation::Open, path)?,
            open: Mutex::default(),
        })
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the directory and its folders, mode 0700; they may be there.
    ///
    /// # Errors
    /// [`StorageError::Create`], [`StorageError::SyncDirectory`].
    pub fn prepare(&self) -> Result<(), StorageError> {
        create_dir_all(&self.path)?;
        let folders = Folder::ALL.map(|folder| self.path.join(folder.name()));
        let mut folders = std::iter::once(self.leases_path()).chain(folders);
        folders.try_for_each(|path| create_dir_all(&path))
    }

    fn file(&self, key: &Key) -> PathBuf {
        self.path.join(key.to_string())
    }

    fn leases_path(&self) -> PathBuf {
        self.path.join("leases")
    }

    /// The directories that processes that died may have left something in; where a disk's logs
    /// are is not there before the first.
    fn swept_paths(&self) -> Vec<PathBuf> {
        let folders = Folder::ALL.map(|folder| self.path.join(folder.name()));
        let more = [self.path.clone(), self.path.join("wal")];
        more.into_iter().chain(folders).collect()
    }

    fn opened(&self, key: &Key) -> Result<Option<Arc<FileStorage>>, StorageError> {
        let lock = || self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = lock().get(key) {
            return Ok(Some(Arc::clone(file)));
        }
        let Some(file) = absent(FileStorage::open_read_only(&self.file(key)))? else {
            self.has_folder_of(key)?;
            return Ok(None);
        };
        let file = Arc::new(file);
        // Only packs never change under their name, and are read again and again.
        if matches!(key, Key::Pack(_)) {
            let mut open = lock();
            if open.len() >= OPEN_FILES_MAX {
                open.clear();
            }
            open.insert(key.clone(), Arc::clone(&file));
        }
        Ok(Some(file))
    }

    /// As `opened`; what is not found, though it is listed, is an error.
    fn opened_unless_listed(&self, key: &Key) -> Result<Option<Arc<FileStorage>>, StorageError> {
        for _ in 0..LOOKS_MAX {
            match self.opened(key)? {
                Some(file) => return Ok(Some(file)),
                None if self.is_listed(key)? => {}
                None => return Ok(None),
            }
        }
        let text = "it is listed, but not found when it is opened";
        Err(io::Error::other(text)).at(Operation::Open, &self.file(key))
    }

    /// Whether the directory that a file is in lists it.
    fn is_listed(&self, key: &Key) -> Result<bool, StorageError> {
        let path = self.file(key);
        let (folder, name) = (path.parent().unwrap_or(&self.path), path.file_name());
        let Some(entries) = absent(fs::read_dir(folder).at(Operation::Open, folder))? else {
            return Ok(false);
        };
        for entry in entries {
            if Some(&*entry.at(Operation::Open, folder)?.file_name()) == name {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Every store has all folders: where one cannot be found, it is not known what is in it.
    fn has_folder_of(&self, key: &Key) -> Result<(), StorageError> {
        let folder = match key {
            Key::Store | Key::Ledger => return Ok(()),
            Key::Pack(_) => Folder::Packs,
            Key::Root(..) => Folder::Roots,
            Key::Tag(_) => Folder::Tags,
        };
        let path = self.path.join(folder.name());
        fs::metadata(&path).at(Operation::Open, &path).map(drop)
    }

    /// Whether someone holds the lock of a lease; what nobody holds is removed.
    fn is_lease_held(&self, id: LeaseId) -> Result<bool, StorageError> {
        let path = self.leases_path().join(lease_name(id));
        // Over NFS an exclusive lock needs a descriptor that is open for writing (flock(2)).
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => file,
            // Someone else's, or nothing can be written here: it cannot be told from one that is
            // held.
            Err(error) if is_refused(&error) => return Ok(true),
            Err(error) => return Err(error).at(Operation::Open, &path),
        };
        match try_lock(&file) {
            Ok(()) => {
                if is_still_at(&file, &path)? {
                    absent(fs::remove_file(&path).at(Operation::Remove, &path))?;
                }
                Ok(false)
            }
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error).at(Operation::Lock, &path),
        }
    }

    /// Closes packs that others have deleted: their space is free only then.
    fn close_all_but(&self, seen: &[Seen]) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if !open.is_empty() {
            let listed: HashSet<&Key> = seen.iter().map(|seen| &seen.key).collect();
            open.retain(|key, _| listed.contains(key));
        }
    }

    /// Refuses a tag whose file is that of another name: the file system may ignore case.
    fn refuse_folded(&self, key: &Key) -> Result<(), StorageError> {
        let Key::Tag(name) = key else { return Ok(()) };
        let flip = |c: char| match c.is_ascii_lowercase() {
            true => c.to_ascii_uppercase(),
            false => c.to_ascii_lowercase(),
        };
        let path = self.file(key);
        let flipped: String = name.as_str().chars().map(flip).collect();
        if flipped == name.as_str() {
            return Ok(());
        }
        let look = |path: &Path| absent(fs::symlink_metadata(path).at(Operation::Open, path));
        let (ours, theirs) = (look(&path)?, look(&path.with_file_name(flipped))?);
        let place = |found: fs::Metadata| (found.dev(), found.ino());
        if theirs.is_none() || ours.map(place) != theirs.map(place) {
            return Ok(());
        }
        let names = entries(&self.path.join(Folder::Tags.name()), Folder::Tags)?;
        let is_same = |other: &&Key| match other {
            Key::Tag(other) => other.as_str().eq_ignore_ascii_case(name.as_str()),
            _ => false,
        };
        match names.iter().find(is_same) {
            Some(other) if !names.contains(key) => Err(StorageError::Exists {
                path: self.file(other),
            }),
            _ => Ok(()),
        }
    }

    /// Holds off every other change of tags and ledger.
    fn lock(&self) -> Result<File, StorageError> {
        let path = self.path.join("lock");
        let file = open_or_create(&path)?;
        lock(&file).at(Operation::Lock, &path)?;
        Ok(file)
    }
}

/// The keys of the files in a folder.
fn entries(path: &Path, folder: Folder) -> Result<BTreeSet<Key>, StorageError> {
    let mut keys = BTreeSet::new();
    for entry in fs::read_dir(path).at(Operation::Open, path)? {
        let name = entry.at(Operation::Open, path)?.file_name();
        keys.extend(name.to_str().and_then(|name| folder.key(name)));
    }
    Ok(keys)
}

/// The length and age of a file.
fn facts(key: &Key, path: &Path) -> Result<Listed, StorageError> {
    let metadata = fs::symlink_metadata(path).at(Operation::Open, path)?;
    let written = metadata.modified().ok();
    let age = written.and_then(|at| SystemTime::now().duration_since(at).ok());
    Ok(Listed {
        key: key.clone(),
        len: ByteLen::new(metadata.len()),
        age: age.unwrap_or_default(),
    })
}

/// No such file is not an error.
fn absent<T>(result: Result<T, StorageError>) -> Result<Option<T>, StorageError> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

fn write_parts(file: &PendingFile, parts: &[&[u8]]) -> Result<(), StorageError> {
    let mut at = FileOffset::ZERO;
    for part in parts {
        file.write_at(at, part)?;
        let len = ByteLen::new(part.len() as u64);
        at = at.checked_add(len).unwrap_or(at);
    }
    Ok(())
}

/// A file of a directory, under a temporary name.
struct Pending(PendingFile);

impl NewFile for Pending {
    fn write_at(&mut self, offset: FileOffset, bytes: &[u8]) -> Result<(), StorageError> {
        self.0.write_at(offset, bytes)
    }

    fn finish(self: Box<Self>) -> Result<bool, StorageError> {
        published(self.0.publish().map(drop))
    }
}

/// That the name is taken is not an error.
fn published(result: Result<(), StorageError>) -> Result<bool, StorageError> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.is_exists() => Ok(false),
        Err(error) => Err(error),
    }
}

impl Backend for Directory {
    fn place(&self) -> String {
        self.path.display().to_string()
    }

    fn directory(&self) -> Option<&Path> {
        Some(&self.path)
    }

    fn create(&self, key: &Key, parts: &[&[u8]]) -> Result<bool, StorageError> {
        let written = (PendingFile::create(&self.file(key), Overwrite::Refuse)).and_then(|file| {
            write_parts(&file, parts)?;
            file.publish()
        });
        published(written.map(drop))
    }

    fn begin<'a>(&'a self, key: &Key) -> Result<Box<dyn NewFile + 'a>, StorageError> {
        let file = PendingFile::create(&self.file(key), Overwrite::Refuse)?;
        Ok(Box::new(Pending(file)))
    }

    fn replace(
        &self,
        key: &Key,
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<bool, StorageError> {
        let _lock = self.lock()?;
        let path = self.file(key);
        let found = absent(read_small(&path, SMALL_MAX))?;
        match found {
            Some(_) => self.refuse_folded(key)?,
            None => self.has_folder_of(key)?,
        }
        if found.as_deref() != expected {
            return Ok(false);
        }
        match new {
            Some(new) => {
                // What was not found may be there all the same, as over NFS: it is not replaced.
                let overwrite = match found {
                    Some(_) => Overwrite::Replace,
                    None => Overwrite::Refuse,
                };
                let written = PendingFile::create(&path, overwrite).and_then(|file| {
                    write_parts(&file, &[new])?;
                    file.publish()
                });
                published(written.map(drop))
            }
            None => {
                self.remove(key)?;
                Ok(true)
            }
        }
    }

    fn read(&self, key: &Key, limit: ByteLen) -> Result<Option<Bytes>, StorageError> {
        let Some(file) = self.opened_unless_listed(key)? else {
            return Ok(None);
        };
        self.refuse_folded(key)?;
        let len = file.len()?;
        if len > limit {
            return Err(StorageError::OutOfBounds {
                path: self.file(key),
                offset: FileOffset::ZERO,
                len,
            });
        }
        read_exact(&file, FileOffset::ZERO, len).map(Some)
    }

    fn read_range(
        &self,
        key: &Key,
        offset: FileOffset,
        len: ByteLen,
    ) -> Result<Option<Bytes>, StorageError> {
        match self.opened(key)? {
            Some(file) => read_exact(&file, offset, len).map(Some),
            None => Ok(None),
        }
    }

    fn read_into(
        &self,
        key: &Key,
        offset: FileOffset,
        room: &mut [u8],
    ) -> Result<bool, StorageError> {
        let Some(file) = self.opened(key)? else {
            return Ok(false);
        };
        file.read_at(offset, room)?;
        Ok(true)
    }

    fn list(&self, folder: Folder) -> Result<Vec<Listed>, StorageError> {
        let seen = self.scan(folder)?;
        seen.into_iter().map(|seen| seen.facts).collect()
    }

    fn scan(&self, folder: Folder) -> Result<Vec<Seen>, StorageError> {
        let path = self.path.join(folder.name());
        let (mut seen, mut not_found) = (Vec::new(), BTreeSet::new());
        for key in entries(&path, folder)? {
            match facts(&key, &self.file(&key)) {
                Err(error) if error.is_not_found() => drop(not_found.insert(key)),
                facts => seen.push(Seen { key, facts }),
            }
        }
        // Removed since, or only not found: that is told by listing again.
        for _ in 0..LOOKS_MAX {
            if not_found.is_empty() {
                break;
            }
            let listed = entries(&path, folder)?;
            not_found.retain(|key| listed.contains(key));
            for key in std::mem::take(&mut not_found) {
                match facts(&key, &self.file(&key)) {
                    Err(error) if error.is_not_found() => drop(not_found.insert(key)),
                    facts => seen.push(Seen { key, facts }),
                }
            }
        }
        for key in not_found {
            let facts = facts(&key, &self.file(&key));
            seen.push(Seen { key, facts });
        }
        if folder == Folder::Packs {
            self.close_all_but(&seen);
        }
        Ok(seen)
    }

    fn remove(&self, key: &Key) -> Result<bool, StorageError> {
        let path = self.file(key);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.remove(key);
        remove_durably(&path)
    }

    fn lease(&self) -> Result<Box<dyn Lease>, StorageError> {
        let folder = self.leases_path();
        for _ in 0..LEASE_TRIES {
            let number = getrandom::u64().at(Operation::TemporaryName, &folder)?;
            let id = LeaseId::new(number);
            let path = folder.join(lease_name(id));
            let file = open_or_create(&path)?;
            lock(&file).at(Operation::Lock, &path)?;
            // Someone may have taken it for an orphan between the two steps.
            if is_still_at(&file, &path)? {
                return Ok(Box::new(FileLease { id, path, file }));
            }
            // Nobody else's file has ever had this name.
            let _ = fs::remove_file(&path);
        }
        let text = "lease files are not found right after they were made";
        Err(io::Error::other(text)).at(Operation::Open, &folder)
    }

    fn leases(&self) -> Result<BTreeSet<LeaseId>, StorageError> {
        let folder = self.leases_path();
        let mut held = BTreeSet::new();
        let mut open = lease_ids(&folder)?;
        for look in 0..=LOOKS_MAX {
            let mut not_found = BTreeSet::new();
            for id in open {
                match self.is_lease_held(id) {
                    Ok(true) => drop(held.insert(id)),
                    Ok(false) => {}
                    Err(error) if error.is_not_found() && look < LOOKS_MAX => {
                        not_found.insert(id);
                    }
                    Err(error) => return Err(error),
                }
            }
            if not_found.is_empty() {
                break;
            }
            // Given back since, unless it is listed all the same.
            let listed = lease_ids(&folder)?;
            open = not_found.intersection(&listed).copied().collect();
        }
        Ok(held)
    }

    fn exclusive(&self) -> Result<Option<Box<dyn Exclusive>>, StorageError> {
        let path = self.path.join("collector");
        let file = open_or_create(&path)?;
        match try_lock(&file) {
            Ok(()) => Ok(Some(Box::new(FileExclusive { file }))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error).at(Operation::Lock, &path),
        }
    }

    fn can_sweep(&self) -> Result<(), StorageError> {
        // What nobody can list, a collector cannot wait for.
        lease_ids(&self.leases_path())?;
        for path in self.swept_paths() {
            let listed = fs::read_dir(&path)
                .and_then(|mut entries| entries.try_for_each(|entry| entry.map(drop)));
            absent(listed.at(Operation::Open, &path))?;
        }
        Ok(())
    }

    fn sweep(&self) -> Result<u64, StorageError> {
        let mut count = 0;
        for path in self.swept_paths() {
            count += absent(sweep_stale(&path))?.map_or(0, |swept| swept.len());
        }
        Ok(count as u64)
    }
}

fn read_exact(file: &FileStorage, offset: FileOffset, len: ByteLen) -> Result<Bytes, StorageError> {
    let mut bytes = vec![0; len.get() as usize];
    file.read_at(offset, &mut bytes)?;
    Ok(Bytes::from(bytes))
}

/// Whether the host refused to open a file for writing.
fn is_refused(error: &io::Error) -> bool {
    use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
    matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem)
}

/// The leases that have a file.
fn lease_ids(folder: &Path) -> Result<BTreeSet<LeaseId>, StorageError> {
    let mut ids = BTreeSet::new();
    for entry in fs::read_dir(folder).at(Operation::Open, folder)? {
        let name = entry.at(Operation::Open, folder)?.file_name();
        ids.extend(name.to_str().and_then(lease_id));
    }
    Ok(ids)
}

fn lease_name(id: LeaseId) -> String {
    format!("{:016x}.lease", id.get())
}

fn lease_id(name: &str) -> Option<LeaseId> {
    let digits = name
        .strip_suffix(".lease")
        .filter(|text| text.len() == 16)?;
    u64::from_str_radix(digits, 16).ok().map(LeaseId::new)
}

/// Whether `path` is still a name of `file`.
fn is_still_at(file: &File, path: &Path) -> Result<bool, StorageError> {
    let ours = file.metadata().at(Operation::Open, path)?;
    let found = absent(fs::symlink_metadata(path).at(Operation::Open, path))?;
    Ok(found.is_some_and(|found| (found.dev(), found.ino()) == (ours.dev(), ours.ino())))
}

#[derive(Debug)]
struct FileLease {
    id: LeaseId,
    path: PathBuf,
    file: File,
}

impl Lease for FileLease {
    fn id(&self) -> LeaseId {
        self.id
    }

    fn is_held(&self) -> bool {
        self.confirm().unwrap_or(false)
    }

    fn confirm(&self) -> Result<bool, StorageError> {
        is_still_at(&self.file, &self.path)
    }
}

impl Drop for FileLease {
    fn drop(&mut self) {
        // Removed while the lock is held; if that fails, the next to list leases does it.
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "lease file left behind");
        }
    }
}

#[derive(Debug)]
struct FileExclusive {
    file: File,
}

impl Exclusive for FileExclusive {}

impl Drop for FileExclusive {
    fn drop(&mut self) {
        // A child process that another thread is about to start shares the open file for a moment.
        let _ = self.file.unlock();
    }
}
