//! A journal's file at its path: one writer, the same file still, a durable name.

use std::fs::{File, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use coldframe_storage::{IoContext, Operation, StorageError, try_lock};

use super::JournalError;

/// Refuses what is no regular file, before it is opened: a FIFO would keep us waiting.
pub(crate) fn refuse_special(path: &Path) -> Result<(), StorageError> {
    let metadata = std::fs::metadata(path).at(Operation::Open, path)?;
    if metadata.is_file() {
        return Ok(());
    }
    let path = path.to_path_buf();
    Err(StorageError::NotRegular { path })
}

/// The lock of a journal's file, held until it is dropped.
#[derive(Debug)]
pub(crate) struct FileLock(File);

impl FileLock {
    /// Takes the exclusive lock of `file` if nobody has it.
    pub fn take(file: &File, path: &Path) -> Result<Self, JournalError> {
        let path = || path.display().to_string();
        // The copy shares the open file, and with it the lock.
        let copy = file.try_clone();
        let copy = copy.map_err(|source| JournalError::Lock {
            path: path(),
            source,
        })?;
        match try_lock(&copy) {
            Ok(()) => Ok(Self(copy)),
            Err(TryLockError::WouldBlock) => Err(JournalError::Locked { path: path() }),
            Err(TryLockError::Error(source)) => Err(JournalError::Lock {
                path: path(),
                source,
            }),
        }
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // Closing is not enough: a child process that another thread is about to start has the
        // same open file until it executes its program (flock(2)).
        let _ = self.0.unlock();
    }
}

/// Whether `path` still names `file`.
pub(crate) fn is_at(file: &File, path: &Path) -> Result<bool, StorageError> {
    let ours = file.metadata().at(Operation::Open, path)?;
    let there = std::fs::metadata(path).at(Operation::Open, path)?;
    Ok((ours.dev(), ours.ino()) == (there.dev(), there.ino()))
}
