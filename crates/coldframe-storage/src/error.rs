//! The one error of this crate: which operation failed, on what path, and where in it.
//!
//! Callers branch on variants and predicates, never on text.

use std::io;
use std::path::{Path, PathBuf};

use coldframe_units::{ByteLen, FileOffset};

/// Why a storage operation failed; the variant names the operation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// A file or directory could not be opened or examined.
    #[error("cannot open {}", path.display())]
    Open {
        /// What was to be opened.
        path: PathBuf,
        /// The host's reason.
        source: io::Error,
    },
    /// A file or directory could not be created.
    #[error("cannot create {}", path.display())]
    Create {
        /// What was to be created.
        path: PathBuf,
        /// The host's reason.
        source: io::Error,
    },
    /// The file system says that a file is empty, and it has bytes: its content is made as it is
    /// read, as in /proc.
    #[error(
        "{} has bytes, but its file system says that it is empty: copy it to a file first",
        path.display()
    )]
    NoLength {
        /// The file.
        path: PathBuf,
    },
    /// Reading failed.
    #[error("cannot read {len} bytes at {offset} of {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Where the read began.
        offset: FileOffset,
        /// How many bytes were asked for.
        len: ByteLen,
        /// The host's reason.
        source: io::Error,
    },
    /// Writing failed; an unknown part of the bytes may be there.
    #[error("cannot write {len} bytes at {offset} of {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Where the write began.
        offset: FileOffset,
        /// How many bytes were to be written.
        len: ByteLen,
        /// The host's reason.
        source: io::Error,
    },
    /// The file ends before the bytes that were asked for.
    #[error("{} ends early: {need} bytes needed at {offset}, {have} there", path.display())]
    UnexpectedEnd {
        /// The file.
        path: PathBuf,
        /// Where the bytes were to begin.
        offset: FileOffset,
        /// How many bytes were asked for.
        need: ByteLen,
        /// How many there were from that offset on.
        have: ByteLen,
    },
    /// The range passes the largest offset that a file can have (2^63 - 1).
    #[error("{len} bytes at {offset} of {} are out of bounds", path.display())]
    OutOfBounds {
        /// The file.
        path: PathBuf,
        /// Where the range begins.
        offset: FileOffset,
        /// How long it is.
        len: ByteLen,
    },
    /// The length could not be found out.
    #[error("cannot tell the length of {}", path.display())]
    Len {
        /// The file.
        path: PathBuf,
        /// The host's reason.
        source: io::Error,
    },
    /// The length could not be set.
    #[error("cannot set the length of {} to {len} bytes", path.display())]
    SetLen {
        /// The file.
        path: PathBuf,
        /// The length asked for.
        len: ByteLen,
        /// The host's reason.
        source: io::Error,
    },
    /// The permission bits could not be set.
    #[error("cannot set the mode of {}", path.display())]
    SetMode {
        /// The file.
        path: PathBuf,
        /// The host's reason.
        source: io::Error,
    },
    /// The file could not be synced: what was written may not be on the disk.
    #[error("cannot sync {}", path.display())]
    Sync {
        /// The file.
        path: PathBuf,
        /// The host's reason.
        source: io::Error,
    },
    /// The finished file or directory could not be given its final name.
    #[error("cannot rename to {}", path.display())]
    Rename {
        /// The final name.
        path: PathBuf,
        /// The host's reason.
        source: io::Error,
    },
    /// The directory could not be synced: its names may not survive a crash.
    #[error("cannot sync the directory {}", path.display())]
    SyncDirectory {
        /// The directory.
        path: PathBuf,
        /// The host's reason.
        source: io::Error,
    },
    /// Published, but the directory of the new name could not be synced: the file is there, whole
    /// and synced, and only its name may not survive a crash.
    #[error("{} is complete, but its directory cannot be synced", path.display())]
    NotDurable {
        /// The final name.
        path: PathBuf,
        /// The host's reason.
        source: io::Error,
    },
    /// Removed, but its directory could not be synced: after a power cut the file may be back.
    #[error(
        "{} is removed, but its directory cannot be synced: it may be back after a power cut",
        path.display()
    )]
    RemovalNotDurable {
        /// The name that is gone.
        path: PathBuf,
        /// The host's reason.
        source: io::Error,
    },
    /// The file system does not rename this directory: it comes from a lower layer (overlayfs), or
    /// from another branch of a union.
    #[error(
        "the file system does not rename the directory {}: use one that is not a lower layer",
        path.display()
    )]
    DirectoryMove {
        /// Its name, or the one that it was to get.
        path: PathBuf,
        /// The host's reason.
        source: io::Error,
    },
    /// The file system has no flock(2), or none of this kind: without it nobody could say which
    /// temporary files belong to living processes.
    #[error("file locks (flock) do not work at {}", path.display())]
    NoLocks {
        /// The file.
        path: PathBuf,
        /// The host's reason.
        source: io::Error,
    },
    /// The file is longer than what was asked for may be.
    #[error("{} has {len} bytes, and at most {limit} are read", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Its length.
        len: ByteLen,
        /// The limit.
        limit: ByteLen,
    },
    /// A temporary file or directory could not be removed.
    #[error("cannot remove {}", path.display())]
    Remove {
        /// What was to be removed.
        path: PathBuf,
        /// The host's reason.
        source: io::Error,
    },
    /// The lock that marks a temporary file as alive could not be taken.
    #[error("cannot lock {}", path.display())]
    Lock {
        /// The temporary file.
        path: PathBuf,
        /// The host's reason.
        source: io::Error,
    },
    /// The file could not be mapped.
    #[error("cannot map {}", path.display())]
    Map {
        /// The file.
        path: PathBuf,
        /// The host's reason.
        source: io::Error,
    },
    /// The host gave no random bytes for a temporary name.
    #[error("cannot make up a temporary name for {}", path.display())]
    TemporaryName {
        /// The final name.
        path: PathBuf,
        /// The host's reason.
        source: io::Error,
    },
    /// The name is taken, and overwriting was not asked for.
    #[error("{} exists already", path.display())]
    Exists {
        /// The name that is taken.
        path: PathBuf,
    },
    /// Someone may write to the file, so a mapping of it would not be safe: take the write bits
    /// away, read it without a mapping, or map a copy ([`crate::MapPolicy::Copy`]).
    #[error(
        "{} may be written to (mode {mode:#o}), so it is not mapped: chmod a-w it",
        path.display()
    )]
    NotReadOnly {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A regular file is needed, and this is something else.
    #[error("{} is not a regular file", path.display())]
    NotRegular {
        /// The file.
        path: PathBuf,
    },
    /// The path does not end in a plain file name.
    #[error("{} does not name a file", path.display())]
    BadName {
        /// What was given.
        path: PathBuf,
    },
}

impl StorageError {
    /// Whether the disk, or the user's quota on it, is full.
    #[must_use]
    pub fn is_out_of_space(&self) -> bool {
        self.io().is_some_and(|error| {
            use io::ErrorKind::{QuotaExceeded, StorageFull};
            matches!(error.kind(), StorageFull | QuotaExceeded)
        })
    }

    /// Whether nothing may be written there: a file system or a directory that is read-only.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.io().is_some_and(|error| {
            use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
            matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem)
        })
    }

    /// Whether what was to be published is there under its final name, in spite of the error.
    #[must_use]
    pub const fn is_published(&self) -> bool {
        matches!(self, Self::NotDurable { .. })
    }

    /// Whether what was to be removed is gone, in spite of the error.
    #[must_use]
    pub const fn is_removed(&self) -> bool {
        matches!(self, Self::RemovalNotDurable { .. })
    }

    /// Whether the file is shorter than what was asked of it.
    #[must_use]
    pub const fn is_unexpected_end(&self) -> bool {
        matches!(self, Self::UnexpectedEnd { .. })
    }

    /// Whether the name was taken already.
    #[must_use]
    pub const fn is_exists(&self) -> bool {
        matches!(self, Self::Exists { .. })
    }

    /// Whether there is nothing of that name.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.io()
            .is_some_and(|error| error.kind() == io::ErrorKind::NotFound)
    }

    /// The host's reason, where the host refused.
    fn io(&self) -> Option<&io::Error> {
        std::error::Error::source(self).and_then(|source| source.downcast_ref())
    }
}

/// What was being done when the host refused: the variant of [`StorageError`] to make of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Operation {
    /// [`StorageError::Open`].
    Open,
    /// [`StorageError::Create`], or [`StorageError::Exists`] if the name is taken.
    Create,
    /// [`StorageError::Read`].
    Read(FileOffset, ByteLen),
    /// [`StorageError::Write`].
    Write(FileOffset, ByteLen),
    /// [`StorageError::Len`].
    Len,
    /// [`StorageError::SetLen`].
    SetLen(ByteLen),
    /// [`StorageError::SetMode`].
    SetMode,
    /// [`StorageError::Sync`].
    Sync,
    /// [`StorageError::Rename`], or [`StorageError::Exists`] if the name is taken.
    Rename,
    /// [`StorageError::NotDurable`].
    MakeDurable,
    /// [`StorageError::RemovalNotDurable`].
    MakeRemovalDurable,
    /// [`StorageError::SyncDirectory`].
    SyncDirectory,
    /// [`StorageError::Remove`].
    Remove,
    /// [`StorageError::Lock`], or [`StorageError::NoLocks`] if the file system has none.
    Lock,
    /// [`StorageError::Map`].
    Map,
    /// [`StorageError::TemporaryName`].
    TemporaryName,
}

/// Says of an [`io::Error`] what was being done, and to which file.
pub trait IoContext<T> {
    /// Turns the host's error into a [`StorageError`] that names `operation` and `path`.
    ///
    /// # Errors
    /// The error of `self`, with its place.
    fn at(self, operation: Operation, path: &Path) -> Result<T, StorageError>;
}

impl<T, E: Into<io::Error>> IoContext<T> for Result<T, E> {
    fn at(self, operation: Operation, path: &Path) -> Result<T, StorageError> {
        self.map_err(|source| place(source.into(), operation, path.to_path_buf()))
    }
}

fn place(source: io::Error, operation: Operation, path: PathBuf) -> StorageError {
    let taken = source.kind() == io::ErrorKind::AlreadyExists;
    match operation {
        Operation::Create | Operation::Rename if taken => StorageError::Exists { path },
        Operation::Lock if has_no_locks(&source) => StorageError::NoLocks { path, source },
        Operation::MakeDurable => StorageError::NotDurable { path, source },
        Operation::MakeRemovalDurable => StorageError::RemovalNotDurable { path, source },
        Operation::Open => StorageError::Open { path, source },
        Operation::Create => StorageError::Create { path, source },
        Operation::Read(offset, len) => StorageError::Read {
            path,
            offset,
            len,
            source,
        },
        Operation::Write(offset, len) => StorageError::Write {
            path,
            offset,
            len,
            source,
        },
        Operation::Len => StorageError::Len { path, source },
        Operation::SetLen(len) => StorageError::SetLen { path, len, source },
        Operation::SetMode => StorageError::SetMode { path, source },
        Operation::Sync => StorageError::Sync { path, source },
        Operation::Rename => StorageError::Rename { path, source },
        Operation::SyncDirectory => StorageError::SyncDirectory { path, source },
        Operation::Remove => StorageError::Remove { path, source },
        Operation::Lock => StorageError::Lock { path, source },
        Operation::Map => StorageError::Map { path, source },
        Operation::TemporaryName => StorageError::TemporaryName { path, source },
    }
}

/// Whether it is the file system that has no locks: `EBADF` is NFS refusing an exclusive lock on
/// what was opened for reading (flock(2), "NFS details").
pub(crate) fn has_no_locks(error: &io::Error) -> bool {
    const NONE: [i32; 6] = [
        libc::EBADF,
        libc::ENOLCK,
        libc::ENOTSUP,
        libc::EOPNOTSUPP,
        libc::ENOSYS,
        libc::EINVAL,
    ];
    error
        .raw_os_error()
        .is_some_and(|number| NONE.contains(&number))
}
