//! Published files as memory: ranges are shared [`Bytes`] that keep the mapping alive.
//!
//! Invariant: a mapping is made of a regular file that nobody may write to (no write bit for
//! anyone), or the caller has promised as much.
//!
//! # Safety
//! A mapping handed out as `&[u8]` needs one promise: the file is not changed or cut short while it
//! is mapped, or the bytes change under a borrow and a read past the new end is SIGBUS (mmap(2)).
//! [`MappedFile::open_published`] takes the mode as the token for it: [`crate::PendingFile`] and
//! [`crate::PendingDir`] set it to 0400 and never write afterwards. A program that gives a
//! published file its write bits back breaks that promise.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::fs::File;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;

use bytes::Bytes;
use coldframe_units::{ByteLen, FileOffset};

use crate::open::{Access, Kinds, open_kind};
use crate::source::{ByteSource, range_within};
use crate::{IoContext, Operation, StorageError};

/// What to do with a file that is to be mapped, but has a write bit: on file systems without modes
/// (vfat, SMB), or after a download, every file has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum MapPolicy {
    /// Refuse it: [`StorageError::NotReadOnly`].
    #[default]
    ReadOnly,
    /// Map a copy that nobody can write to (memfd_create(2), sealed): it takes as much memory as
    /// the file has data. On systems without such files it is refused.
    Copy,
}

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
        Self::open_with(path, MapPolicy::ReadOnly)
    }

    /// As [`MappedFile::open_published`], but `policy` says what becomes of a file that has a write
    /// bit.
    ///
    /// # Errors
    /// As [`MappedFile::open_published`]; with [`MapPolicy::Copy`] not
    /// [`StorageError::NotReadOnly`], but [`StorageError::Read`] and [`StorageError::Write`].
    pub fn open_with(path: &Path, policy: MapPolicy) -> Result<Self, StorageError> {
        let file = open_kind(path, Access::Read, Kinds::Regular, libc::O_NOFOLLOW)?;
        let metadata = file.metadata().at(Operation::Open, path)?;
        let mode = metadata.permissions().mode() & 0o7777;
        let file = match policy {
            _ if mode & 0o222 == 0 => file,
            MapPolicy::Copy if HAS_SEALS => sealed_copy(file, path)?,
            MapPolicy::Copy | MapPolicy::ReadOnly => {
                let path = path.to_path_buf();
                return Err(StorageError::NotReadOnly { path, mode });
            }
        };
        // SAFETY: no write bit for anyone: published, hence unchanging (see the module header); or
        // a copy in memory that is sealed, of which the kernel refuses every change.
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
        let len = file.metadata().at(Operation::Len, path)?.len();
        // 64-bit targets only: a u64 is a usize.
        let all = match NonZeroUsize::new(len as usize) {
            None => Bytes::new(),
            Some(len) => {
                // SAFETY: the caller promises that the file stays as it is while it is mapped, and
                // the mapping lives in the Bytes made of it here.
                let map = unsafe { Mapping::new(&file, len) };
                Bytes::from_owner(map.at(Operation::Map, path)?)
            }
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

/// A whole file, mapped for reading; unmapped when it is dropped.
struct Mapping {
    at: NonNull<c_void>,
    len: NonZeroUsize,
}

// SAFETY: the memory is read-only and belongs to no thread.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// # Safety
    /// The file is `len` bytes long and stays as it is for as long as this lives.
    unsafe fn new(file: &File, len: NonZeroUsize) -> nix::Result<Self> {
        use nix::sys::mman::{MapFlags, ProtFlags, mmap};
        let (access, kind) = (ProtFlags::PROT_READ, MapFlags::MAP_SHARED);
        // SAFETY: a new mapping at an address of the kernel's choice takes no memory of ours away.
        let at = unsafe { mmap(None, len, access, kind, file, 0) }?;
        Ok(Self { at, len })
    }
}

impl AsRef<[u8]> for Mapping {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `len` bytes are mapped there while `self` lives, and whoever made it promises
        // that they do not change.
        unsafe { std::slice::from_raw_parts(self.at.as_ptr().cast(), self.len.get()) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: made with this address and length, and every borrow of it has ended.
        let unmapped = unsafe { nix::sys::mman::munmap(self.at, self.len.get()) };
        debug_assert_eq!(unmapped, Ok(()));
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

/// Whether memory can be sealed here.
const HAS_SEALS: bool = cfg!(target_os = "linux");

/// How much is copied at a time.
#[cfg(target_os = "linux")]
const PIECE: usize = 1 << 20;

/// A copy of the file, in memory that nobody can write to (memfd_create(2), fcntl(2)).
#[cfg(target_os = "linux")]
fn sealed_copy(from: File, path: &Path) -> Result<File, StorageError> {
    use crate::{FileStorage, Storage};
    use nix::fcntl::{FcntlArg, SealFlag, fcntl};
    use nix::sys::memfd::{MFdFlags, memfd_create};

    let from = FileStorage::from_file(from, path);
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let memory = File::from(memfd_create(c"coldframe", flags).at(Operation::Map, path)?);
    let to = FileStorage::from_file(memory.try_clone().at(Operation::Map, path)?, path);
    let len = from.len()?.get();
    to.set_len(ByteLen::new(len))?;
    let mut piece = vec![0; PIECE.min(len as usize)];
    let mut at = 0;
    while at < len {
        let room = &mut piece[..(PIECE as u64).min(len - at) as usize];
        from.read_at(FileOffset::new(at), room)?;
        // What is zero stays a hole, and takes no memory.
        if room.iter().any(|byte| *byte != 0) {
            to.write_at(FileOffset::new(at), room)?;
        }
        at += room.len() as u64;
    }
    let seals = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW;
    fcntl(
        &memory,
        FcntlArg::F_ADD_SEALS(seals | SealFlag::F_SEAL_SEAL),
    )
    .at(Operation::Map, path)?;
    Ok(memory)
}

#[cfg(not(target_os = "linux"))]
fn sealed_copy(file: File, _path: &Path) -> Result<File, StorageError> {
    Ok(file)
}
