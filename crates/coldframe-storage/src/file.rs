//! A file of the host as [`Storage`]: pread(2), pwrite(2) and pwritev(2) only.
//!
//! The descriptor's own cursor is never used, interrupted calls are repeated and short ones
//! continued. Only what has bytes at offsets is opened. New files have mode 0600 and never take the
//! place of something else.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use coldframe_units::{ByteLen, FileOffset};
use nix::unistd::{Whence, lseek};

use crate::open::{Access, Kinds, open_kind};
use crate::owner::hand_over;
use crate::raw::{self, RawPart};
use crate::storage::{Storage, end_of};
use crate::{IoContext, Operation, StorageError};

/// A file of the host.
#[derive(Debug)]
pub struct FileStorage {
    file: File,
    path: PathBuf,
}

impl FileStorage {
    /// Creates a file of mode 0600 that must not exist yet; a symbolic link at `path` is not
    /// followed (open(2), `O_EXCL`). What root makes belongs to the owner of the directory.
    ///
    /// # Errors
    /// [`StorageError::Exists`] if the name is taken, else [`StorageError::Create`], or
    /// [`StorageError::SetMode`] if its owner cannot be set, as beyond a quota.
    pub fn create(path: &Path) -> Result<Self, StorageError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .open(path)
            .at(Operation::Create, path)?;
        if let Err(error) = hand_over(&file, path).at(Operation::SetMode, path) {
            let _ = fs::remove_file(path);
            return Err(error);
        }
        Ok(Self::from_file(file, path))
    }

    /// Opens a regular file or a block device for reading and writing.
    ///
    /// # Errors
    /// [`StorageError::NotRegular`] if it is anything else, [`StorageError::Open`].
    pub fn open(path: &Path) -> Result<Self, StorageError> {
        let file = open_kind(path, Access::ReadWrite, Kinds::Positional, 0)?;
        Ok(Self::from_file(file, path))
    }

    /// Opens a regular file or a block device for reading; writes to it fail.
    ///
    /// # Errors
    /// As [`FileStorage::open`].
    pub fn open_read_only(path: &Path) -> Result<Self, StorageError> {
        let file = open_kind(path, Access::Read, Kinds::Positional, 0)?;
        Ok(Self::from_file(file, path))
    }

    /// Takes over a file that is open already (a memfd, say); `path` is what errors call it.
    #[must_use]
    pub fn from_file(file: File, path: &Path) -> Self {
        Self {
            file,
            path: path.to_path_buf(),
        }
    }

    /// The open file alone.
    #[must_use]
    pub fn into_file(self) -> File {
        self.file
    }

    /// The open file.
    pub(crate) const fn file(&self) -> &File {
        &self.file
    }
}

impl AsFd for FileStorage {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Storage for FileStorage {
    fn read_at(&self, offset: FileOffset, buf: &mut [u8]) -> Result<(), StorageError> {
        end_of(&self.path, offset, buf.len())?;
        let need = ByteLen::new(buf.len() as u64);
        let mut done = 0;
        while done < buf.len() {
            match self
                .file
                .read_at(&mut buf[done..], offset.get() + done as u64)
            {
                Ok(0) => {
                    let have = ByteLen::new(done as u64);
                    let path = self.path.clone();
                    return Err(StorageError::UnexpectedEnd {
                        path,
                        offset,
                        need,
                        have,
                    });
                }
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error).at(Operation::Read(offset, need), &self.path),
            }
        }
        Ok(())
    }

    fn write_at(&self, offset: FileOffset, bytes: &[u8]) -> Result<(), StorageError> {
        end_of(&self.path, offset, bytes.len())?;
        let len = ByteLen::new(bytes.len() as u64);
        // Repeats interrupted calls, continues short ones, and fails on a write of nothing.
        self.file
            .write_all_at(bytes, offset.get())
            .at(Operation::Write(offset, len), &self.path)
    }

    fn write_raw_at(&self, offset: FileOffset, parts: &[RawPart<'_>]) -> Result<(), StorageError> {
        let total = raw::total(parts);
        end_of(&self.path, offset, total)?;
        raw::write_gathered(&self.file, offset.get(), parts).at(
            Operation::Write(offset, ByteLen::new(total as u64)),
            &self.path,
        )
    }

    fn len(&self) -> Result<ByteLen, StorageError> {
        let metadata = self.file.metadata().at(Operation::Len, &self.path)?;
        if metadata.file_type().is_block_device() {
            // A device has no length of its own for stat(2): its end says it.
            let end = lseek(&self.file, 0, Whence::SeekEnd).at(Operation::Len, &self.path)?;
            return Ok(ByteLen::new(end.cast_unsigned()));
        }
        Ok(ByteLen::new(metadata.len()))
    }

    fn set_len(&self, len: ByteLen) -> Result<(), StorageError> {
        end_of(&self.path, FileOffset::ZERO, len.get() as usize)?;
        self.file
            .set_len(len.get())
            .at(Operation::SetLen(len), &self.path)
    }

    fn sync_data(&self) -> Result<(), StorageError> {
        self.file.sync_data().at(Operation::Sync, &self.path)
    }

    fn path(&self) -> &Path {
        &self.path
    }

    fn host_file(&self) -> Option<BorrowedFd<'_>> {
        Some(self.file.as_fd())
    }
}
