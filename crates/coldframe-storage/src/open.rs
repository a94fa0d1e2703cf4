//! Opening what a path names, without waiting for it and without waking it.
//!
//! A path that someone typed, or that a directory lists, may be a FIFO, a socket, a terminal or a
//! watchdog: opening a FIFO waits for its other end, and opening a device may do something
//! (open(2)). So the kind is looked at first, the file is opened without waiting, and the kind of
//! what was opened is looked at again, since another file may have taken the name meanwhile.

use std::fs::{self, File, FileType, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

use coldframe_units::{ByteLen, FileOffset};

use crate::storage::Storage;
use crate::{FileStorage, IoContext, Operation, StorageError};

/// How often a file may be made and removed by others while it is opened.
const TRIES_MAX: usize = 64;

/// What an open file may be used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Reading only.
    Read,
    /// Reading and writing.
    ReadWrite,
}

/// Which kinds of file are taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kinds {
    /// Regular files.
    Regular,
    /// Regular files and block devices: what has bytes at offsets.
    Positional,
}

impl Kinds {
    fn has(self, kind: FileType) -> bool {
        kind.is_file() || (self == Self::Positional && kind.is_block_device())
    }
}

/// Opens a regular file; a symbolic link is followed. Never waits for a FIFO or a device.
///
/// # Errors
/// [`StorageError::NotRegular`] if it is anything else, [`StorageError::NoLength`] for one of /proc
/// and the like that is to be read, [`StorageError::Open`].
pub fn open_regular(path: &Path, access: Access) -> Result<File, StorageError> {
    open_kind(path, access, Kinds::Regular, 0)
}

/// Opens a regular file for reading and writing, and makes an empty one of mode 0600 if there is
/// none: for a lock. What root makes belongs to the owner of the directory.
///
/// # Errors
/// As [`open_regular`] and [`FileStorage::create`].
pub fn open_or_create(path: &Path) -> Result<File, StorageError> {
    for _ in 0..TRIES_MAX {
        match open_regular(path, Access::ReadWrite) {
            Err(error) if error.is_not_found() => {}
            opened => return opened,
        }
        match FileStorage::create(path) {
            // Another was faster, or it is a link that leads nowhere.
            Err(error) if error.is_exists() => {}
            made => return made.map(FileStorage::into_file),
        }
    }
    let path = path.to_path_buf();
    Err(StorageError::Exists { path })
}

/// Reads a whole regular file of at most `limit` bytes; a longer one is refused before it is read.
///
/// # Errors
/// As [`open_regular`]; [`StorageError::TooLong`], [`StorageError::Read`].
pub fn read_small(path: &Path, limit: ByteLen) -> Result<Vec<u8>, StorageError> {
    let storage = FileStorage::from_file(open_regular(path, Access::Read)?, path);
    let len = storage.len()?;
    if len > limit {
        return Err(StorageError::TooLong {
            path: path.to_path_buf(),
            len,
            limit,
        });
    }
    let mut bytes = vec![0; len.get() as usize];
    storage.read_at(FileOffset::ZERO, &mut bytes)?;
    Ok(bytes)
}

/// Opens a file of one of `kinds`, with `flags` of open(2) besides.
pub(crate) fn open_kind(
    path: &Path,
    access: Access,
    kinds: Kinds,
    flags: i32,
) -> Result<File, StorageError> {
    let refuse = |kind: FileType| {
        if kinds.has(kind) {
            return Ok(());
        }
        Err(StorageError::NotRegular {
            path: path.to_path_buf(),
        })
    };
    let metadata = match flags & libc::O_NOFOLLOW {
        0 => fs::metadata(path),
        _ => fs::symlink_metadata(path),
    };
    let kind = metadata.at(Operation::Open, path)?.file_type();
    // The host tells of a link that it may not follow.
    if !kind.is_symlink() {
        refuse(kind)?;
    }
    let file = OpenOptions::new()
        .read(true)
        .write(access == Access::ReadWrite)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC | flags)
        .open(path)
        .at(Operation::Open, path)?;
    let metadata = file.metadata().at(Operation::Open, path)?;
    refuse(metadata.file_type())?;
    if access == Access::Read {
        refuse_unmeasured(&file, path)?;
    }
    Ok(file)
}

/// Refuses a regular file whose length is said to be 0 and that has bytes, as those of /proc have:
/// a caller that goes by the length would take it for empty.
///
/// # Errors
/// [`StorageError::NoLength`], [`StorageError::Read`].
pub fn refuse_unmeasured(file: &File, path: &Path) -> Result<(), StorageError> {
    let is_empty = || {
        let metadata = file.metadata().at(Operation::Len, path)?;
        Ok(metadata.is_file() && metadata.len() == 0)
    };
    if !is_empty()? {
        return Ok(());
    }
    let one = ByteLen::new(1);
    let read = loop {
        match file.read_at(&mut [0], 0) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            read => break read.at(Operation::Read(FileOffset::ZERO, one), path)?,
        }
    };
    // Unless it was written to just now.
    match read > 0 && is_empty()? {
        true => Err(StorageError::NoLength {
            path: path.to_path_buf(),
        }),
        false => Ok(()),
    }
}
