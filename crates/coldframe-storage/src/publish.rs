//! Giving finished files and directories their final name, all at once or not at all.
//!
//! Order: make the bytes and the mode durable (fsync(2)), rename (rename(2)), make the name
//! durable (fsync of the directory). A crash at any point leaves the old state or the new one, and
//! at most a temporary name that [`crate::sweep_stale`] removes. Refusing to overwrite is the
//! kernel's decision at the rename, not a check before it, wherever the file system lets it be.
//! The directory is opened before anything is made, so that one which cannot be synced is told of
//! before the work.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::time::Instant;

use coldframe_units::{ByteLen, FileOffset};

use crate::directory::{Parent, create_directory, sync_opened};
use crate::living::Live;
use crate::open::{Access, Kinds, open_kind};
use crate::raw::RawPart;
use crate::rename;
use crate::temporary::{self, create_locked};
use crate::{FileStorage, IoContext, MappedFile, Operation, Storage, StorageError};

/// The mode of everything published: its owner may read it, nobody may write it.
const PUBLISHED_MODE: u32 = 0o400;

/// All write bits.
const WRITE_BITS: u32 = 0o222;

/// What to do if the final name is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Overwrite {
    /// Fail with [`StorageError::Exists`], and leave what is there as it is.
    Refuse,
    /// Take its place atomically. A symbolic link is replaced itself, not followed.
    Replace,
}

/// A file that is being written under a temporary name; dropped unpublished, it leaves nothing.
///
/// It is a [`Storage`], so that it is filled like any other.
#[derive(Debug)]
pub struct PendingFile {
    // None once the temporary name is gone.
    temporary: Option<(Live, PathBuf)>,
    file: FileStorage,
    dest: PathBuf,
    parent: Parent,
    overwrite: Overwrite,
}

impl PendingFile {
    /// Creates an empty temporary file of mode 0600 in the directory of `dest`.
    ///
    /// # Errors
    /// [`StorageError::Exists`] if `dest` is taken and is to stay, [`StorageError::BadName`] if it
    /// names no file, [`StorageError::Open`] if its directory cannot be opened, else
    /// [`StorageError::Create`], [`StorageError::Lock`] or [`StorageError::NoLocks`].
    pub fn create(dest: &Path, overwrite: Overwrite) -> Result<Self, StorageError> {
        let (dest, parent) = temporary::split_dest(dest)?;
        let parent = Parent::open(parent)?;
        if overwrite == Overwrite::Refuse {
            refuse_taken(&dest, &parent)?;
        }
        let (live, temporary, file) = create_locked(&dest, FileStorage::create, FileStorage::file)?;
        Ok(Self {
            temporary: Some((live, temporary)),
            file,
            dest,
            parent,
            overwrite,
        })
    }

    /// The final name, as an absolute path.
    #[must_use]
    pub fn dest(&self) -> &Path {
        &self.dest
    }

    /// Syncs the file, makes it read-only (mode 0400), gives it its final name and syncs the
    /// directory.
    ///
    /// # Errors
    /// [`StorageError::Exists`] if the name was taken meanwhile and is to stay; else the step that
    /// failed. Only after [`StorageError::NotDurable`] is the final name there.
    pub fn publish(self) -> Result<PublishedFile, StorageError> {
        let path = self.finish(seal)?;
        Ok(PublishedFile { path })
    }

    /// The same for a file that goes on being written to, such as a log: it keeps its mode 0600,
    /// so that at no moment a power cut leaves one that its owner may not continue. Returns the
    /// final name.
    ///
    /// # Errors
    /// As [`PendingFile::publish`].
    pub fn publish_in_use(self) -> Result<PathBuf, StorageError> {
        self.finish(sync_all)
    }

    /// Makes the file durable by `settle`, then its final name.
    fn finish(
        mut self,
        settle: fn(&File, &Path) -> Result<(), StorageError>,
    ) -> Result<PathBuf, StorageError> {
        let span = tracing::info_span!("publish", path = %self.dest.display());
        let _entered = span.enter();
        let started = Instant::now();
        let bytes = self.file.len()?.get();
        settle(self.file.file(), self.file.path())?;
        if let Some((_, temporary)) = &self.temporary {
            match self.overwrite {
                Overwrite::Refuse => rename::new_file(temporary, &self.dest),
                Overwrite::Replace => fs::rename(temporary, &self.dest),
            }
            .at(Operation::Rename, &self.dest)
            .map_err(|error| settle_taken(error, &self.dest, &self.parent))?;
        }
        self.temporary = None;
        self.parent
            .sync(self.file.file())
            .at(Operation::MakeDurable, &self.dest)?;
        tracing::info!(bytes, duration_us = micros(started), "file published");
        Ok(self.dest.clone())
    }
}

impl Drop for PendingFile {
    fn drop(&mut self) {
        if let Some((_live, path)) = self.temporary.take() {
            discard(&path, false);
        }
    }
}

impl AsFd for PendingFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Storage for PendingFile {
    fn read_at(&self, offset: FileOffset, buf: &mut [u8]) -> Result<(), StorageError> {
        self.file.read_at(offset, buf)
    }

    fn write_at(&self, offset: FileOffset, bytes: &[u8]) -> Result<(), StorageError> {
        self.file.write_at(offset, bytes)
    }

    fn write_raw_at(&self, offset: FileOffset, parts: &[RawPart<'_>]) -> Result<(), StorageError> {
        self.file.write_raw_at(offset, parts)
    }

    fn len(&self) -> Result<ByteLen, StorageError> {
        self.file.len()
    }

    fn set_len(&self, len: ByteLen) -> Result<(), StorageError> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> Result<(), StorageError> {
        self.file.sync_data()
    }

    fn path(&self) -> &Path {
        self.file.path()
    }
}

/// A file under its final name, durable and read-only.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PublishedFile {
    path: PathBuf,
}

impl PublishedFile {
    /// The final name, as an absolute path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Maps it.
    ///
    /// # Errors
    /// As [`MappedFile::open_published`].
    pub fn map(&self) -> Result<MappedFile, StorageError> {
        MappedFile::open_published(&self.path)
    }
}

/// A directory of files that is being filled under a temporary name; dropped unpublished, it
/// leaves nothing.
#[derive(Debug)]
pub struct PendingDir {
    is_temporary: bool,
    // None if it is to stay when a signal ends the process: it can be resumed.
    live: Option<Live>,
    // Open for its lock, and to be synced.
    directory: File,
    path: PathBuf,
    dest: PathBuf,
    parent: Parent,
}

impl PendingDir {
    /// Creates an empty temporary directory of mode 0700 beside `dest`.
    ///
    /// # Errors
    /// [`StorageError::Exists`] if `dest` is taken, [`StorageError::BadName`] if it names nothing,
    /// [`StorageError::Open`] if the directory above cannot be opened, else
    /// [`StorageError::Create`], [`StorageError::Lock`] or [`StorageError::NoLocks`].
    pub fn create(dest: &Path) -> Result<Self, StorageError> {
        let (dest, parent) = temporary::split_dest(dest)?;
        let parent = Parent::open(parent)?;
        refuse_taken(&dest, &parent)?;
        let (live, path, directory) =
            create_locked(&dest, create_directory, |directory| directory)?;
        Ok(Self {
            is_temporary: true,
            live: Some(live),
            directory,
            path,
            dest,
            parent,
        })
    }

    /// As [`PendingDir::create`], but goes on with what [`PendingDir::leave`], or a process that
    /// died, left under a temporary name of `dest`: says whether there was such a directory. What
    /// is in it is to be checked: it may have lost what was not synced.
    ///
    /// # Errors
    /// As [`PendingDir::create`].
    pub fn resume(dest: &Path) -> Result<(Self, bool), StorageError> {
        // A new one first: what is taken over must be as much ours as that.
        let mut fresh = Self::create(dest)?;
        let parent = fresh.parent.path();
        let adopted = temporary::adopt_dir(&fresh.dest, parent, &fresh.directory)?;
        let is_resumed = adopted.is_some();
        if let Some((path, directory)) = adopted {
            fresh.become_other(path, directory);
        }
        fresh.live = None;
        Ok((fresh, is_resumed))
    }

    /// Takes over another temporary directory, and removes its own.
    fn become_other(&mut self, path: PathBuf, directory: File) {
        discard(&self.path, true);
        self.directory = directory;
        self.path = path;
    }

    /// Leaves it under its temporary name, for a later [`PendingDir::resume`].
    pub fn leave(mut self) {
        self.is_temporary = false;
    }

    /// The final name, as an absolute path.
    #[must_use]
    pub fn dest(&self) -> &Path {
        &self.dest
    }

    /// Where its files are until then.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Creates an empty file of mode 0600 in it. Drop the file before [`PendingDir::publish`]:
    /// what is published must not be written to any more.
    ///
    /// # Errors
    /// [`StorageError::BadName`] unless `name` is a plain file name, [`StorageError::Exists`] if
    /// it is taken, else [`StorageError::Create`].
    pub fn file(&self, name: &str) -> Result<FileStorage, StorageError> {
        let mut components = Path::new(name).components();
        match (components.next(), components.next()) {
            (Some(Component::Normal(plain)), None) if plain == name => {
                FileStorage::create(&self.path.join(name))
            }
            _ => Err(StorageError::BadName {
                path: PathBuf::from(name),
            }),
        }
    }

    /// Opens a file that is in it already, to go on writing; makes an empty one if there is none.
    ///
    /// # Errors
    /// As [`PendingDir::file`]; [`StorageError::NotRegular`], [`StorageError::Open`].
    pub fn reopen(&self, name: &str) -> Result<FileStorage, StorageError> {
        match self.file(name) {
            Err(error) if error.is_exists() => {}
            made => return made,
        }
        let path = self.path.join(name);
        let file = open_entry(&path)?;
        // It may have been sealed by a process that died before it could publish.
        match file.set_permissions(Permissions::from_mode(0o600)) {
            Err(error) if has_no_modes(&error) => {}
            set => set.at(Operation::SetMode, &path)?,
        }
        FileStorage::open(&path)
    }

    /// Syncs every file in it and makes it read-only (mode 0400), syncs the directory, gives it
    /// its final name and syncs the directory above; returns the final name.
    ///
    /// # Errors
    /// [`StorageError::Exists`] if the name was taken meanwhile; else the step that failed. Only
    /// after [`StorageError::NotDurable`] is the final name there.
    pub fn publish(mut self) -> Result<PathBuf, StorageError> {
        let span = tracing::info_span!("publish", path = %self.dest.display());
        let _entered = span.enter();
        let started = Instant::now();
        let mut bytes = 0;
        for entry in fs::read_dir(&self.path).at(Operation::Open, &self.path)? {
            bytes += seal_entry(&entry.at(Operation::Open, &self.path)?.path())?;
        }
        self.sync()?;
        self.rename()
            .map_err(|error| settle_taken(error, &self.dest, &self.parent))?;
        self.is_temporary = false;
        self.parent
            .sync(&self.directory)
            .at(Operation::MakeDurable, &self.dest)?;
        tracing::info!(bytes, duration_us = micros(started), "directory published");
        Ok(self.dest.clone())
    }

    fn sync(&self) -> Result<(), StorageError> {
        sync_opened(&self.directory, &self.path).at(Operation::SyncDirectory, &self.path)
    }

    fn rename(&mut self) -> Result<(), StorageError> {
        match rename::new_directory(&self.path, &self.dest) {
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {}
            renamed => return renamed.at(Operation::Rename, &self.dest),
        }
        // What was taken over may come from a lower layer of overlayfs, which moves files, but no
        // directory (rename(2), EXDEV): a directory that is made here and now can be renamed.
        self.move_files()?;
        match rename::new_directory(&self.path, &self.dest) {
            Err(source) if source.kind() == io::ErrorKind::CrossesDevices => {
                let path = self.dest.clone();
                Err(StorageError::DirectoryMove { path, source })
            }
            renamed => renamed.at(Operation::Rename, &self.dest),
        }
    }

    /// Moves all files into a new temporary directory.
    fn move_files(&mut self) -> Result<(), StorageError> {
        let (live, path, directory) =
            create_locked(&self.dest, create_directory, |directory| directory)?;
        let moved = fs::read_dir(&self.path).and_then(|mut entries| {
            entries.try_for_each(|entry| {
                let entry = entry?;
                fs::rename(entry.path(), path.join(entry.file_name()))
            })
        });
        if let Err(error) = moved {
            discard(&path, true);
            return Err(error).at(Operation::Rename, &path);
        }
        self.become_other(path, directory);
        self.live = Some(live);
        self.sync()
    }
}

impl Drop for PendingDir {
    fn drop(&mut self) {
        if self.is_temporary && !discard(&self.path, true) {
            // It needs descriptors that may all be in use: left to who calls `discard_living`.
            std::mem::forget(self.live.take());
        }
    }
}

/// A file of a pending directory; a link there was planted.
fn open_entry(path: &Path) -> Result<File, StorageError> {
    open_kind(path, Access::Read, Kinds::Regular, libc::O_NOFOLLOW)
}

/// An early answer only: the rename decides.
fn refuse_taken(dest: &Path, parent: &Parent) -> Result<(), StorageError> {
    match fs::symlink_metadata(dest) {
        Ok(_) => {
            let path = dest.to_path_buf();
            Err(settle_taken(StorageError::Exists { path }, dest, parent))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).at(Operation::Open, dest),
    }
}

/// That a name is taken is said only once the name is durable: callers build on what is there, and
/// who published it may have ended, or failed, between the rename and the sync of the directory.
fn settle_taken(error: StorageError, dest: &Path, parent: &Parent) -> StorageError {
    if !error.is_exists() {
        return error;
    }
    let synced = parent.sync_beside(dest).at(Operation::MakeDurable, dest);
    synced.err().unwrap_or(error)
}

/// Makes a file read-only and durable: fsync(2), not fdatasync(2), for the mode's sake.
fn seal(file: &File, path: &Path) -> Result<(), StorageError> {
    let set = |mode| file.set_permissions(Permissions::from_mode(mode));
    match set(PUBLISHED_MODE) {
        Err(error) if has_no_modes(&error) => {
            // vfat knows one bit, "read-only": all write bits or none, and no other change.
            let mode = file.metadata().at(Operation::SetMode, path)?.permissions();
            if let Err(error) = set(mode.mode() & !WRITE_BITS) {
                tracing::warn!(
                    path = %path.display(), %error,
                    "the file system has no modes: the file stays writable"
                );
            }
        }
        set => set.at(Operation::SetMode, path)?,
    }
    sync_all(file, path)
}

/// Whether the file system does not keep such modes (vfat, exFAT, SMB, some FUSE ones). The mode
/// only keeps others from writing by accident: what was published is found to be whole by hashes.
fn has_no_modes(error: &io::Error) -> bool {
    const NONE: [i32; 5] = [
        libc::EPERM,
        libc::ENOTSUP,
        libc::EOPNOTSUPP,
        libc::ENOSYS,
        libc::EINVAL,
    ];
    error
        .raw_os_error()
        .is_some_and(|number| NONE.contains(&number))
}

fn sync_all(file: &File, path: &Path) -> Result<(), StorageError> {
    file.sync_all().at(Operation::Sync, path)
}

/// Seals a file of a directory, and says how many bytes it has.
fn seal_entry(path: &Path) -> Result<u64, StorageError> {
    let file = open_entry(path)?;
    let len = file.metadata().at(Operation::Open, path)?.len();
    seal(&file, path)?;
    Ok(len)
}

/// Removes what a dropped, unpublished thing leaves: whether it is gone. An error there has nowhere
/// to go.
fn discard(path: &Path, is_dir: bool) -> bool {
    match temporary::remove(path, is_dir) {
        Err(error) if !error.is_not_found() => {
            tracing::warn!(path = %path.display(), %error, "temporary left behind");
            false
        }
        _ => true,
    }
}

fn micros(since: Instant) -> u64 {
    since.elapsed().as_micros().try_into().unwrap_or(u64::MAX)
}
