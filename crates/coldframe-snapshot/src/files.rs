//! The files of a snapshot directory: their names, and how the small ones are read.

use std::ffi::OsStr;
use std::fs;
#[cfg(feature = "catalog")]
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use coldframe_envelope::Limits;
use coldframe_mem::{FilePool, MemError, MemoryFile};
use coldframe_storage::{
    ByteSource, FileStorage, IoContext, MappedFile, Operation, PreadSource, StorageError,
};
use coldframe_units::{ByteLen, FileOffset};

use crate::SnapshotError;

/// The manifest: written last, read first.
pub const MANIFEST: &str = "manifest";
/// The machine's state; absent if only memory was imported.
pub const STATE: &str = "state";
/// The guest's memory.
pub const MEMORY: &str = "memory";

/// A whole small file (manifest, state), refused beyond the limit before it is read.
pub(crate) fn read_small(path: &Path) -> Result<Vec<u8>, SnapshotError> {
    check_regular(path)?;
    let source = PreadSource::<FileStorage>::open(path).map_err(SnapshotError::Storage)?;
    let len = source.len();
    let limit = Limits::SMALL_FILE.file_bytes_max;
    if len.get() > limit {
        return Err(SnapshotError::TooLong {
            path: path.to_path_buf(),
            len: len.get(),
            limit,
        });
    }
    let bytes = source
        .bytes(FileOffset::ZERO, len)
        .map_err(SnapshotError::Storage)?;
    Ok(bytes.to_vec())
}

/// Refuses what is no regular file before it is opened: an open of a FIFO waits for a writer.
pub(crate) fn check_regular(path: &Path) -> Result<(), SnapshotError> {
    let metadata = fs::metadata(path).at(Operation::Open, path);
    if metadata.map_err(SnapshotError::Storage)?.is_file() {
        return Ok(());
    }
    let path = path.to_path_buf();
    Err(SnapshotError::Storage(StorageError::NotRegular { path }))
}

/// A published file, mapped.
pub(crate) fn map(path: &Path) -> Result<MappedFile, SnapshotError> {
    check_regular(path)?;
    MappedFile::open_published(path).map_err(SnapshotError::Storage)
}

/// A memory file, for reading; nobody's promise is needed that it stays as it is.
pub(crate) fn open_memory(path: &Path, pool: &FilePool) -> Result<MemoryFile, SnapshotError> {
    MemoryFile::open(path, pool).map_err(of_memory)
}

/// An error of reading a memory file, as one of reading any file of a snapshot.
pub(crate) fn of_memory(error: MemError) -> SnapshotError {
    match error {
        MemError::ReadSource { source } => SnapshotError::Storage(source),
        MemError::Decode { path, source } => SnapshotError::Decode { path, source },
        error => SnapshotError::Memory(error),
    }
}

/// Checks a file's length against the manifest before anything in it is looked at.
pub(crate) fn check_len(
    path: &Path,
    found: ByteLen,
    expected: ByteLen,
) -> Result<(), SnapshotError> {
    if found == expected {
        return Ok(());
    }
    let path = path.to_path_buf();
    Err(SnapshotError::FileLength {
        path,
        expected: expected.get(),
        found: found.get(),
    })
}

/// The name of the catalog in a directory of snapshots.
pub const CATALOG: &str = "catalog";

/// The name that a damaged catalog is put aside under.
pub(crate) const CATALOG_ASIDE: &str = "catalog.damaged";

/// The directory of the notes of children elsewhere, in that of the parents.
pub(crate) const NOTES: &str = ".children";

/// What fsck(8) keeps at the root of a file system; only the superuser may look into it.
pub(crate) const LOST_AND_FOUND: &str = "lost+found";

/// Whether a name in a directory of snapshots has another meaning than that of a snapshot: the
/// catalog, its notes, a temporary name, `lost+found`.
#[must_use]
pub fn is_reserved(name: &OsStr) -> bool {
    let reserved = [CATALOG, CATALOG_ASIDE, NOTES, LOST_AND_FOUND];
    reserved.iter().any(|reserved| name == *reserved) || coldframe_storage::is_temporary(name)
}

/// What tells an entry of a directory from all others, whatever name it was found by; `None` if it
/// cannot be looked at.
#[cfg(feature = "catalog")]
pub(crate) fn identity(path: &Path) -> Option<(u64, u64)> {
    let found = fs::symlink_metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

/// The directory that holds `snapshot`, as a path that can be listed.
pub(crate) fn beside(snapshot: &Path) -> PathBuf {
    match snapshot
        .canonicalize()
        .unwrap_or_else(|_| snapshot.to_path_buf())
        .parent()
    {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}
