//! Children in other directories: their parent's directory has a note of where to look.
//!
//! A note says where to look, no more: whether the child is still there is asked when it matters.
//! Notes are left by every snapshot that is made, and read where snapshots are deleted (feature
//! `catalog`). Spec: `specs/catalog.md`.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use coldframe_envelope::Producer;
use coldframe_manifest::ChildNote;
use coldframe_storage::{Overwrite, PendingFile, Storage, StorageError};
use coldframe_units::{FileOffset, SnapshotId};

use crate::SnapshotError;
use crate::files::NOTES;

/// The target of the event that a child could not be noted in its parent's directory, which is
/// read-only: a command shows it to its user.
pub const CHILD_NOT_NOTED: &str = "coldframe_snapshot::child_not_noted";

/// Notes in `parent_dir` that a child of `parent` will be in `child_dir`. Where this user may not
/// write, or nobody can here, the child is made without a note, and an event says so.
///
/// # Errors
/// [`SnapshotError::Storage`], [`SnapshotError::Encode`].
pub(crate) fn note(
    parent_dir: &Path,
    parent: SnapshotId,
    child_dir: &Path,
    producer: Producer,
) -> Result<(), SnapshotError> {
    let note = ChildNote {
        producer,
        parent,
        dir: child_dir.as_os_str().as_bytes().to_vec(),
    };
    let file = "note of a child";
    let (bytes, root) = note
        .encode()
        .map_err(|source| SnapshotError::Encode { file, source })?;
    // The same note has the same name, so that it is there once.
    let path = parent_dir.join(NOTES).join(format!("{parent}-{root}"));
    match write(&path, &bytes) {
        Ok(()) => Ok(()),
        Err(StorageError::Exists { path: there }) if there == path => Ok(()),
        Err(error) if error.is_read_only() => {
            tracing::warn!(
                target: CHILD_NOT_NOTED,
                "{} is read-only: it has no note of the child in {}, so a deletion of the parent \
                 from elsewhere does not know of it",
                parent_dir.display(),
                child_dir.display()
            );
            Ok(())
        }
        Err(error) => Err(SnapshotError::Storage(error)),
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), StorageError> {
    if let Some(dir) = path.parent() {
        coldframe_storage::create_dir_all(dir)?;
    }
    let file = PendingFile::create(path, Overwrite::Refuse)?;
    file.write_at(FileOffset::ZERO, bytes)?;
    file.publish().map(drop)
}
