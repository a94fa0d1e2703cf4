//! Taking what was published away, all at once.
//!
//! Order: rename to a temporary name, make that durable, remove. A crash at any point leaves the
//! published thing whole, or a temporary name that [`crate::sweep_stale`] removes.

use std::fs;
use std::path::Path;

use crate::publish::sync_directory;
use crate::temporary;
use crate::{IoContext, Operation, StorageError};

/// Removes a published file or directory. Who has it open or mapped keeps what they have.
///
/// # Errors
/// [`StorageError::BadName`], [`StorageError::Open`] if it is not there; [`StorageError::Rename`]
/// before anything has changed; [`StorageError::SyncDirectory`] and [`StorageError::Remove`] when
/// the name is gone already.
pub fn retract(path: &Path) -> Result<(), StorageError> {
    let (path, parent) = temporary::split(path)?;
    let is_dir = fs::symlink_metadata(&path)
        .at(Operation::Open, &path)?
        .is_dir();
    let gone = temporary::invent(&path)?;
    fs::rename(&path, &gone).at(Operation::Rename, &path)?;
    sync_directory(&parent)?;
    temporary::remove(&gone, is_dir)?;
    tracing::info!(path = %path.display(), "retracted");
    Ok(())
}
