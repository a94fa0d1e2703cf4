//! Directories: made durably, and synced where a file system knows how.
//!
//! A name lasts from the next sync of its directory on (fsync(2)), and a new directory is itself a
//! name in the one above. Some file systems (CIFS, several FUSE ones, shared folders of virtual
//! machines) refuse to sync a directory with `EINVAL` or `ENOTSUP`: they have no such operation,
//! and whatever they do for names they do without being asked. That is logged and passed over; any
//! other error is one, since it says that the disk failed.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::owner::hand_over;
use crate::{IoContext, Operation, StorageError};

/// Makes a directory of mode 0700 and those above it that are missing, and makes their names
/// durable; what is there already stays as it is.
///
/// A name that an earlier process made, but died before it could sync, is made durable as well, if
/// it is that of `path` itself and the directory above it may be read.
///
/// # Errors
/// [`StorageError::Exists`] if something else has the name, [`StorageError::Open`],
/// [`StorageError::Create`], [`StorageError::SyncDirectory`].
pub fn create_dir_all(path: &Path) -> Result<(), StorageError> {
    let path = std::path::absolute(path).at(Operation::Open, path)?;
    let mut missing = Vec::new();
    for ancestor in path.ancestors() {
        if is_directory(ancestor)? {
            break;
        }
        missing.push(ancestor);
    }
    if missing.is_empty()
        && let Some(parent) = path.parent()
    {
        return match sync_directory(parent) {
            // Not ours to read, so another made what is there, and answers for it.
            Err(StorageError::SyncDirectory { source, .. })
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                Ok(())
            }
            synced => synced,
        };
    }
    for made in missing.into_iter().rev() {
        // Opened before anything is made: where it could not be synced, nothing is left behind.
        let parent = made.parent().unwrap_or(made);
        let parent = Parent::open(parent.to_path_buf())?;
        let synced = match create_directory(made) {
            Ok(directory) => parent.sync(&directory),
            // Another process was faster; it may not have synced the name yet.
            Err(error) if error.is_exists() && is_directory(made)? => parent.sync_beside(made),
            Err(error) => return Err(error),
        };
        synced.at(Operation::SyncDirectory, parent.path())?;
    }
    Ok(())
}

/// Makes a directory of mode 0700, and opens it. What root makes belongs to the owner of the
/// directory above.
pub(crate) fn create_directory(path: &Path) -> Result<File, StorageError> {
    DirBuilder::new()
        .mode(0o700)
        .create(path)
        .at(Operation::Create, path)?;
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_DIRECTORY)
        .open(path)
        .at(Operation::Open, path);
    let made = opened.and_then(|directory| {
        hand_over(&directory, path).at(Operation::SetMode, path)?;
        Ok(directory)
    });
    if made.is_err() {
        // Nobody else will; if another process has swept it, there is nothing to remove.
        let _ = fs::remove_dir(path);
    }
    made
}

/// Whether there is a directory; something else of that name is an error.
fn is_directory(path: &Path) -> Result<bool, StorageError> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Ok(true),
        Ok(_) => Err(StorageError::Exists {
            path: path.to_path_buf(),
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).at(Operation::Open, path),
    }
}

/// Makes the names in a directory durable. A file system that has no sync of directories is
/// passed over with an event.
///
/// # Errors
/// [`StorageError::SyncDirectory`].
pub fn sync_directory(path: &Path) -> Result<(), StorageError> {
    open(path)
        .and_then(|directory| sync_opened(&directory, path))
        .at(Operation::SyncDirectory, path)
}

/// Makes the name of a file or directory durable, whatever name it is in its directory.
///
/// # Errors
/// [`StorageError::Open`] if its directory cannot be opened, [`StorageError::SyncDirectory`].
pub fn sync_name(path: &Path) -> Result<(), StorageError> {
    let path = std::path::absolute(path).at(Operation::Open, path)?;
    let parent = path.parent().unwrap_or(&path);
    let parent = Parent::open(parent.to_path_buf())?;
    let synced = parent.sync_beside(&path);
    synced.at(Operation::SyncDirectory, parent.path())
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_CLOEXEC | libc::O_DIRECTORY)
        .open(path)
}

/// Syncs a directory that is open.
pub(crate) fn sync_opened(directory: &File, path: &Path) -> io::Result<()> {
    match directory.sync_all() {
        Err(error) if has_no_sync(&error) => {
            tracing::warn!(
                path = %path.display(), %error,
                "the file system cannot sync a directory: a name may not survive a power cut"
            );
            Ok(())
        }
        result => result,
    }
}

/// Whether the file system does not know the operation, as fsync(2) says of special files.
fn has_no_sync(error: &io::Error) -> bool {
    const NONE: [i32; 4] = [libc::EINVAL, libc::ENOTSUP, libc::EOPNOTSUPP, libc::ENOSYS];
    error
        .raw_os_error()
        .is_some_and(|number| NONE.contains(&number))
}

/// The directory that a new name goes into: opened before the work, so that one which cannot be
/// opened is told of before it.
#[derive(Debug)]
pub(crate) struct Parent {
    path: PathBuf,
    // None if it may be written to but not read (a drop-box of mode 0300).
    directory: Option<File>,
}

impl Parent {
    /// Opens it.
    pub fn open(path: PathBuf) -> Result<Self, StorageError> {
        let directory = match open(&path) {
            Ok(directory) => Some(directory),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && HAS_SYNCFS => None,
            Err(error) => return Err(error).at(Operation::Open, &path),
        };
        Ok(Self { path, directory })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the names in it durable; `within` is an open file or directory in it.
    ///
    /// A directory that may not be read cannot be synced, for want of a descriptor: then all of the
    /// file system is (syncfs(2)).
    pub fn sync(&self, within: &File) -> io::Result<()> {
        match &self.directory {
            Some(directory) => sync_opened(directory, &self.path),
            None => sync_file_system(within),
        }
    }

    /// As [`Parent::sync`], where nothing in it is open: `name` is what to open if need be.
    pub fn sync_beside(&self, name: &Path) -> io::Result<()> {
        match &self.directory {
            Some(directory) => sync_opened(directory, &self.path),
            None => open_within(name).and_then(|within| sync_file_system(&within)),
        }
    }

    /// What makes the names in it durable when `name` is gone: opened before `name` is removed.
    pub fn keep_open(&self, name: &Path) -> io::Result<Option<File>> {
        match &self.directory {
            Some(_) => Ok(None),
            None => open_within(name).map(Some),
        }
    }

    /// As [`Parent::sync`], by what [`Parent::keep_open`] returned.
    pub fn sync_by(&self, kept: Option<&File>) -> io::Result<()> {
        match (&self.directory, kept) {
            (Some(directory), _) => sync_opened(directory, &self.path),
            (None, Some(within)) => sync_file_system(within),
            (None, None) => Ok(()),
        }
    }
}

fn open_within(name: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_CLOEXEC | libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(name)
}

const HAS_SYNCFS: bool = cfg!(target_os = "linux");

#[cfg(target_os = "linux")]
fn sync_file_system(within: &File) -> io::Result<()> {
    Ok(nix::unistd::syncfs(within)?)
}

#[cfg(not(target_os = "linux"))]
fn sync_file_system(_within: &File) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
