//! A journal's file at its path: one writer, the same file still, a durable name.

use std::fs::{File, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use coldframe_storage::{IoContext, Operation, StorageError, sync_directory, try_lock};

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

/// Makes this process the one writer of `file`, until the file is closed.
pub(crate) fn lock(file: &File, path: &Path) -> Result<(), JournalError> {
    let path = || path.display().to_string();
    try_lock(file).map_err(|error| match error {
        TryLockError::WouldBlock => JournalError::Locked { path: path() },
        TryLockError::Error(source) => JournalError::Lock {
            path: path(),
            source,
        },
    })
}

/// Whether `path` still names `file`.
pub(crate) fn is_at(file: &File, path: &Path) -> Result<bool, StorageError> {
    let ours = file.metadata().at(Operation::Open, path)?;
    let there = std::fs::metadata(path).at(Operation::Open, path)?;
    Ok((ours.dev(), ours.ino()) == (there.dev(), there.ino()))
}

/// Makes the name of a new file durable.
pub(crate) fn sync_directory_of(path: &Path) -> Result<(), StorageError> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    sync_directory(directory)
}
