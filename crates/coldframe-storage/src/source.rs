//! Reading a finished file as [`Bytes`], by mapping or by pread(2), through one trait.
//!
//! The length is that of the moment of opening. A range is checked against it before anything is
//! allocated, so what a file claims about itself costs nothing.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use coldframe_units::{ByteLen, FileOffset};

use crate::storage::end_of;
use crate::{FileStorage, Storage, StorageError};

/// A finished file, as ranges of shared bytes.
pub trait ByteSource: Send + Sync {
    /// The length in bytes when it was opened.
    fn len(&self) -> ByteLen;

    /// Whether the length is 0.
    fn is_empty(&self) -> bool {
        self.len() == ByteLen::ZERO
    }

    /// The `len` bytes from `offset` on.
    ///
    /// # Errors
    /// [`StorageError::UnexpectedEnd`] if there are fewer, [`StorageError::OutOfBounds`] if the
    /// range is impossible, [`StorageError::Read`] if the host fails.
    fn bytes(&self, offset: FileOffset, len: ByteLen) -> Result<Bytes, StorageError>;

    /// The name to put into errors.
    fn path(&self) -> &Path;
}

impl<T: ByteSource + ?Sized> ByteSource for Arc<T> {
    fn len(&self) -> ByteLen {
        (**self).len()
    }

    fn bytes(&self, offset: FileOffset, len: ByteLen) -> Result<Bytes, StorageError> {
        (**self).bytes(offset, len)
    }

    fn path(&self) -> &Path {
        (**self).path()
    }
}

/// Reads with [`Storage::read_at`]: needs no mapping, and a file cut short under it is an error.
#[derive(Debug)]
pub struct PreadSource<S = FileStorage> {
    storage: S,
    len: ByteLen,
}

impl PreadSource<FileStorage> {
    /// Opens the file at `path`, whatever its mode.
    ///
    /// # Errors
    /// [`StorageError::NotRegular`], [`StorageError::Open`] or [`StorageError::Len`].
    pub fn open(path: &Path) -> Result<Self, StorageError> {
        Self::new(FileStorage::open_read_only(path)?)
    }
}

impl<S: Storage> PreadSource<S> {
    /// Reads from `storage`, up to its length of now.
    ///
    /// # Errors
    /// [`StorageError::Len`].
    pub fn new(storage: S) -> Result<Self, StorageError> {
        let len = storage.len()?;
        Ok(Self { storage, len })
    }

    /// What it reads from.
    #[must_use]
    pub const fn storage(&self) -> &S {
        &self.storage
    }
}

impl<S: Storage> ByteSource for PreadSource<S> {
    fn len(&self) -> ByteLen {
        self.len
    }

    fn bytes(&self, offset: FileOffset, len: ByteLen) -> Result<Bytes, StorageError> {
        let (start, end) = range_within(self.path(), self.len, offset, len)?;
        let mut buf = vec![0; end - start];
        self.storage.read_at(offset, &mut buf)?;
        Ok(Bytes::from(buf))
    }

    fn path(&self) -> &Path {
        self.storage.path()
    }
}

/// First and last-plus-one index of a range that must lie in a file of `file_len` bytes; an
/// empty range lies in every file.
pub(crate) fn range_within(
    path: &Path,
    file_len: ByteLen,
    offset: FileOffset,
    len: ByteLen,
) -> Result<(usize, usize), StorageError> {
    // 64-bit targets only: a u64 is a usize.
    let end = end_of(path, offset, len.get() as usize)?;
    if len == ByteLen::ZERO {
        return Ok((0, 0));
    }
    if end > file_len.get() {
        return Err(StorageError::UnexpectedEnd {
            path: path.to_path_buf(),
            offset,
            need: len,
            have: ByteLen::new(file_len.get().saturating_sub(offset.get())),
        });
    }
    Ok((offset.get() as usize, end as usize))
}
