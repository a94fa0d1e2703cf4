//! Taking what was published away, all at once.
//!
//! Order: rename to a temporary name, make that durable, remove. A crash at any point leaves the
//! published thing whole, or a temporary name that [`crate::sweep_stale`] removes.
//!
//! A directory out of a lower layer of overlayfs (one that an image brought along) cannot be
//! renamed: rename(2) says `EXDEV`. There the file that makes the directory what it is, its *seal*,
//! goes first, and that is made durable before anything else goes: a crash leaves the published
//! thing whole, or something that nobody takes for one.

use std::fs;
use std::io;
use std::path::Path;

use crate::directory::{Parent, sync_directory};
use crate::living::Live;
use crate::temporary;
use crate::{IoContext, Operation, StorageError};

/// Removes a published file or directory. Who has it open or mapped keeps what they have.
///
/// # Errors
/// [`StorageError::BadName`], [`StorageError::Open`] if it is not there; [`StorageError::Rename`]
/// or [`StorageError::DirectoryMove`] before anything has changed; [`StorageError::SyncDirectory`]
/// and [`StorageError::Remove`] when the name is gone already.
pub fn retract(path: &Path) -> Result<(), StorageError> {
    retract_by(path, None)
}

/// As [`retract`], for a directory that is nothing without the file `seal` in it: one that cannot
/// be renamed is removed in place, the seal first.
///
/// # Errors
/// As [`retract`]; [`StorageError::Remove`] also if the seal is still there.
pub fn retract_sealed(path: &Path, seal: &str) -> Result<(), StorageError> {
    retract_by(path, Some(seal))
}

/// Removes a file and makes that durable; `false` if it is not there. What the sync needs is opened
/// first, so that what cannot be opened is told of while the file is still there.
///
/// # Errors
/// [`StorageError::Open`], [`StorageError::Remove`] while the file is there, and
/// [`StorageError::RemovalNotDurable`] when it is gone.
pub fn remove_durably(path: &Path) -> Result<bool, StorageError> {
    let (path, parent) = temporary::split(path)?;
    let parent = Parent::open(parent)?;
    let kept = match parent.keep_open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        kept => kept.at(Operation::Open, &path)?,
    };
    let is_removed = match fs::remove_file(&path) {
        Ok(()) => true,
        // Whoever removed it may not have got to make that durable.
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(error).at(Operation::Remove, &path),
    };
    match parent.sync_by(kept.as_ref()) {
        Err(error) if is_removed => Err(error).at(Operation::MakeRemovalDurable, &path),
        synced => synced.at(Operation::SyncDirectory, parent.path()),
    }?;
    Ok(is_removed)
}

fn retract_by(path: &Path, seal: Option<&str>) -> Result<(), StorageError> {
    let (path, parent) = temporary::split(path)?;
    let is_dir = fs::symlink_metadata(&path)
        .at(Operation::Open, &path)?
        .is_dir();
    let parent = Parent::open(parent)?;
    let gone = temporary::invent(&path)?;
    let (_live, renamed) = Live::making(&gone, || fs::rename(&path, &gone));
    match renamed {
        Err(source) if is_dir && source.kind() == io::ErrorKind::CrossesDevices => {
            let Some(seal) = seal else {
                return Err(StorageError::DirectoryMove { path, source });
            };
            remove_in_place(&path, seal)?;
        }
        renamed => {
            renamed.at(Operation::Rename, &path)?;
            parent
                .sync_beside(&gone)
                .at(Operation::SyncDirectory, parent.path())?;
            temporary::remove(&gone, is_dir)?;
        }
    }
    tracing::info!(path = %path.display(), "retracted");
    Ok(())
}

fn remove_in_place(path: &Path, seal: &str) -> Result<(), StorageError> {
    let seal = path.join(seal);
    match fs::remove_file(&seal) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        removed => removed.at(Operation::Remove, &seal)?,
    }
    sync_directory(path)?;
    temporary::remove(path, true)
}
