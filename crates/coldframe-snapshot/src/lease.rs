//! A snapshot that someone builds on is not deleted meanwhile.
//!
//! The lease is a shared flock(2) on the manifest: the kernel gives it back with the process, and
//! it needs no right to write. Deleting takes the exclusive lock (`Catalog::delete`). Where locks
//! do not work it says so in the log, and what is left is the look before a child is published: a
//! manifest that lost its last name was deleted.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use coldframe_envelope::Limits;
use coldframe_manifest::{Manifest, Parent};
use coldframe_storage::{IoContext, Operation, StorageError};

use crate::files::MANIFEST;
use crate::{Snapshot, SnapshotError};

/// How long a deletion that has begun is waited for: it ends at once, or the snapshot is gone.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(10);

/// The manifest of a snapshot, held.
#[derive(Debug)]
pub(crate) struct Lease {
    file: File,
    parent: Parent,
    /// The snapshot's directory.
    path: PathBuf,
}

impl Lease {
    /// Holds a snapshot that is at its place, and is the one that it was.
    pub fn take(snapshot: &Snapshot) -> Result<Self, SnapshotError> {
        let parent = Parent {
            id: snapshot.id(),
            root: snapshot.root(),
        };
        Self::of(snapshot.path(), parent)
    }

    /// Holds the snapshot in a directory.
    pub fn of(path: &Path, parent: Parent) -> Result<Self, SnapshotError> {
        let manifest = path.join(MANIFEST);
        let gone = || SnapshotError::ParentGone {
            path: path.to_path_buf(),
            id: parent.id,
        };
        let failed = |source| match source {
            StorageError::Open { source, .. } if source.kind() == io::ErrorKind::NotFound => gone(),
            source => SnapshotError::Storage(source),
        };
        for _ in 0..TRIES {
            let file = open(&manifest).map_err(failed)?;
            match file.try_lock_shared() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    sleep(PAUSE);
                    continue;
                }
                Err(TryLockError::Error(error)) => {
                    tracing::warn!(path = %path.display(), %error, "parent not locked");
                }
            }
            let lease = Self {
                file,
                parent,
                path: path.to_path_buf(),
            };
            lease.check_root()?;
            lease.check()?;
            return Ok(lease);
        }
        Err(SnapshotError::ParentBusy {
            path: path.to_path_buf(),
        })
    }

    /// Whether it still has a name.
    ///
    /// # Errors
    /// [`SnapshotError::ParentGone`] if it was deleted in spite of the lease.
    pub fn check(&self) -> Result<(), SnapshotError> {
        let metadata = self.file.metadata().at(Operation::Open, &self.path);
        let metadata = metadata.map_err(SnapshotError::Storage)?;
        if metadata.nlink() > 0 {
            return Ok(());
        }
        Err(SnapshotError::ParentGone {
            path: self.path.clone(),
            id: self.parent.id,
        })
    }

    fn check_root(&self) -> Result<(), SnapshotError> {
        let path = self.path.join(MANIFEST);
        let limit = Limits::SMALL_FILE.file_bytes_max;
        let mut bytes = Vec::new();
        (&self.file)
            .take(limit + 1)
            .read_to_end(&mut bytes)
            .at(Operation::Open, &path)
            .map_err(SnapshotError::Storage)?;
        let (manifest, found) =
            Manifest::decode(&bytes).map_err(|source| SnapshotError::Decode { path, source })?;
        if (manifest.id, found) == (self.parent.id, self.parent.root) {
            return Ok(());
        }
        Err(SnapshotError::ParentRoot {
            path: self.path.clone(),
            expected: self.parent.root,
            found,
        })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // A child process that another thread is about to start shares the open file for a moment.
        let _ = self.file.unlock();
    }
}

/// Opens a regular file; nothing else can block an open for reading.
fn open(path: &Path) -> Result<File, StorageError> {
    if !fs::metadata(path).at(Operation::Open, path)?.is_file() {
        let path = path.to_path_buf();
        return Err(StorageError::NotRegular { path });
    }
    File::open(path).at(Operation::Open, path)
}
