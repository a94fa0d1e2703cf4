//! Published files as memory: ranges are shared [`Bytes`] that keep the mapping alive.
//!
//! Invariant: a mapping is made of a regular file that nobody may write to (no write bit for
//! anyone), or the caller has promised as much.
//!
//! # Safety
//! memmap2 needs one promise: the file is not changed or cut short while it is mapped, or the
//! bytes change under a `&[u8]` and a read past the new end is SIGBUS (mmap(2)).
//! [`MappedFile::open_published`] takes the mode as the token for it: [`crate::PendingFile`] and
//! [`crate::PendingDir`] set it to 0400 and never write afterwards. Whoever gives a published
//! file its write bits back breaks that promise.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use coldframe_units::{ByteLen, FileOffset};
use memmap2::Mmap;

use crate::source::{ByteSource, range_within};
use crate::{IoContext, Operation, StorageError};

/// A file mapped read-only and shared (`MAP_SHARED`, `PROT_READ`).
#[derive(Debug)]
pub struct MappedFile {
    all: Bytes,
    file: File,
    path: PathBuf,
}

impl MappedFile {
    /// Maps the published file at `path`; a symbolic link there is not followed.
    ///
    /// # Errors
    /// [`StorageError::Open`], [`StorageError::NotRegular`], [`StorageError::Map`], or
    /// [`StorageError::NotReadOnly`] if the file has a write bit for anyone.
    pub fn open_published(path: &Path) -> Result<Self, StorageError> {
        // O_NONBLOCK: opening a FIFO must not wait for its writer (open(2)).
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK)
            .open(path)
            .at(Operation::Open, path)?;
        let metadata = file.metadata().at(Operation::Open, path)?;
        if !metadata.is_file() {
            return Err(StorageError::NotRegular {
                path: path.to_path_buf(),
            });
        }
        let mode = metadata.permissions().mode() & 0o7777;
        if mode & 0o222 != 0 {
            return Err(StorageError::NotReadOnly {
                path: path.to_path_buf(),
                mode,
            });
        }
        // SAFETY: no write bit for anyone: published, hence unchanging (see the module header).
        unsafe { Self::map_unchecked(file, path) }
    }

    /// Maps `file`, whatever its mode; `path` is what errors call it.
    ///
    /// # Errors
    /// [`StorageError::Len`] or [`StorageError::Map`].
    ///
    /// # Safety
    /// Until the last [`Bytes`] taken from it is gone, nobody writes to the file or cuts it short,
    /// in this process or another: the bytes would change under a shared borrow, and a read past
    /// the new end raises SIGBUS (mmap(2)).
    pub unsafe fn map_unchecked(file: File, path: &Path) -> Result<Self, StorageError> {
        let empty = file.metadata().at(Operation::Len, path)?.len() == 0;
        let all = if empty {
            Bytes::new()
        } else {
            // SAFETY: the caller promises that the file stays as it is while it is mapped, and
            // the mapping lives in the Bytes made of it here.
            let map = unsafe { Mmap::map(&file) };
            Bytes::from_owner(map.at(Operation::Map, path)?)
        };
        Ok(Self {
            all,
            file,
            path: path.to_path_buf(),
        })
    }

    /// All of the file.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.all
    }

    /// The open file, for mapping ranges of it elsewhere.
    #[must_use]
    pub const fn file(&self) -> &File {
        &self.file
    }
}

impl AsFd for MappedFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl ByteSource for MappedFile {
    fn len(&self) -> ByteLen {
        ByteLen::new(self.all.len() as u64)
    }

    /// Never copies: the bytes are the mapping, and keep it alive.
    fn bytes(&self, offset: FileOffset, len: ByteLen) -> Result<Bytes, StorageError> {
        let (start, end) = range_within(&self.path, self.len(), offset, len)?;
        Ok(self.all.slice(start..end))
    }

    fn path(&self) -> &Path {
        &self.path
    }
}
