//! The trait of things with bytes at offsets.
//!
//! Invariants of every implementation: no cursor, so that any number of threads may share one;
//! a read fills the whole buffer or fails; a write writes all bytes or fails; a write past the
//! end extends the file, and the gap reads as zeros; no range wraps around.

use std::io::IoSlice;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;

use coldframe_units::{ByteLen, FileOffset};

use crate::StorageError;
use crate::raw::{self, RawPart};

/// Bytes at offsets: a file, or something that behaves like one.
pub trait Storage: Send + Sync {
    /// Fills `buf` with the bytes from `offset` on.
    ///
    /// # Errors
    /// [`StorageError::UnexpectedEnd`] if there are fewer, [`StorageError::OutOfBounds`] if the
    /// range is impossible, [`StorageError::Read`] if the host fails.
    fn read_at(&self, offset: FileOffset, buf: &mut [u8]) -> Result<(), StorageError>;

    /// Writes all of `bytes` at `offset`. Durable only after [`Storage::sync_data`].
    ///
    /// # Errors
    /// [`StorageError::OutOfBounds`] if the range is impossible, [`StorageError::Write`] if the
    /// host fails; then an unknown part of the bytes may be there.
    fn write_at(&self, offset: FileOffset, bytes: &[u8]) -> Result<(), StorageError>;

    /// Writes all of `parts`, one behind the other, from `offset` on.
    ///
    /// # Errors
    /// As [`Storage::write_at`].
    fn write_vectored_at(
        &self,
        offset: FileOffset,
        parts: &[IoSlice<'_>],
    ) -> Result<(), StorageError> {
        let parts: Vec<RawPart<'_>> = parts.iter().map(|part| RawPart::from(&**part)).collect();
        self.write_raw_at(offset, &parts)
    }

    /// Writes all of `parts`, one behind the other, from `offset` on, out of memory that others
    /// may be writing to meanwhile (the RAM of a guest).
    ///
    /// Unless an implementation can do better, the bytes go through a buffer of at most 256 KiB
    /// and then to [`Storage::write_at`].
    ///
    /// # Errors
    /// As [`Storage::write_at`].
    fn write_raw_at(&self, offset: FileOffset, parts: &[RawPart<'_>]) -> Result<(), StorageError> {
        raw::write_bounced(self, offset, parts)
    }

    /// The length in bytes.
    ///
    /// # Errors
    /// [`StorageError::Len`] if the host fails.
    fn len(&self) -> Result<ByteLen, StorageError>;

    /// Whether the length is 0.
    ///
    /// # Errors
    /// As [`Storage::len`].
    fn is_empty(&self) -> Result<bool, StorageError> {
        Ok(self.len()? == ByteLen::ZERO)
    }

    /// Cuts off, or extends with zeros, to `len` bytes.
    ///
    /// # Errors
    /// [`StorageError::OutOfBounds`] if no file can be that long, [`StorageError::SetLen`] if
    /// the host fails.
    fn set_len(&self, len: ByteLen) -> Result<(), StorageError>;

    /// Returns once all bytes written before are on the disk, and the length with them.
    ///
    /// # Errors
    /// [`StorageError::Sync`]; after it, nothing is known of what was written since the last
    /// sync that succeeded (fsync(2)).
    fn sync_data(&self) -> Result<(), StorageError>;

    /// The name to put into errors.
    fn path(&self) -> &Path;

    /// The host's file behind it, if there is one: for what only a file has, such as a lock.
    fn host_file(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

macro_rules! forward {
    ($pointer:ty) => {
        impl<S: Storage + ?Sized> Storage for $pointer {
            fn read_at(&self, offset: FileOffset, buf: &mut [u8]) -> Result<(), StorageError> {
                (**self).read_at(offset, buf)
            }

            fn write_at(&self, offset: FileOffset, bytes: &[u8]) -> Result<(), StorageError> {
                (**self).write_at(offset, bytes)
            }

            fn write_vectored_at(
                &self,
                offset: FileOffset,
                parts: &[IoSlice<'_>],
            ) -> Result<(), StorageError> {
                (**self).write_vectored_at(offset, parts)
            }

            fn write_raw_at(
                &self,
                offset: FileOffset,
                parts: &[RawPart<'_>],
            ) -> Result<(), StorageError> {
                (**self).write_raw_at(offset, parts)
            }

            fn len(&self) -> Result<ByteLen, StorageError> {
                (**self).len()
            }

            fn set_len(&self, len: ByteLen) -> Result<(), StorageError> {
                (**self).set_len(len)
            }

            fn sync_data(&self) -> Result<(), StorageError> {
                (**self).sync_data()
            }

            fn path(&self) -> &Path {
                (**self).path()
            }

            fn host_file(&self) -> Option<BorrowedFd<'_>> {
                (**self).host_file()
            }
        }
    };
}

forward!(&S);
forward!(Arc<S>);

/// The largest offset a file can have: `off_t` is signed (lseek(2)).
const OFFSET_MAX: u64 = i64::MAX.cast_unsigned();

/// The offset after `len` bytes from `offset` on, if a file can have it.
pub(crate) fn end_of(path: &Path, offset: FileOffset, len: usize) -> Result<u64, StorageError> {
    // 64-bit targets only: a usize is a u64.
    let len = len as u64;
    match offset.get().checked_add(len) {
        Some(end) if end <= OFFSET_MAX => Ok(end),
        _ => Err(StorageError::OutOfBounds {
            path: path.to_path_buf(),
            offset,
            len: ByteLen::new(len),
        }),
    }
}
