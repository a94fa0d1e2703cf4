//! An open dump, and what its holes say.
//!
//! In a sparse diff dump a hole means "as in the parent" and an allocated zero page means "zero":
//! the holes are data. A file system that knows no holes, one that allocates more than a page at a
//! time, and a copy without holes all turn clean pages into allocated zero pages, and nothing in
//! the file tells. So a zero page of a diff is believed only if the file shows that its holes are
//! as fine as its pages.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use coldframe_storage::{FileStorage, IoContext, Operation, Storage, StorageError};
use coldframe_units::{ByteLen, FileOffset, PageSize};

use crate::{MemError, sys};

/// How far the holes of a sparse diff dump are trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DiffHoles {
    /// A zero page of the dump is believed if the file shows holes as fine as its pages; a dump
    /// without any hole is refused.
    #[default]
    Proven,
    /// Every allocated page is part of the diff, whatever the file shows: its author says so.
    Assumed,
}

/// Why the holes of a dump cannot be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HoleDoubt {
    /// There is no hole: it is a full dump, it was copied without its holes, or its file system
    /// reports none.
    NoHole,
    /// The host does not say where holes are.
    NotReported,
    /// All holes begin and end at a multiple of this many bytes.
    Coarse {
        /// Bytes, a power of two.
        unit: u64,
    },
    /// The file system allocates so many bytes at a time (`st_blksize`).
    Blocks {
        /// Bytes.
        unit: u64,
    },
}

impl fmt::Display for HoleDoubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHole => write!(
                f,
                "it has no hole (a full dump, a copy that lost its holes, or a file system that \
                 reports none)"
            ),
            Self::NotReported => write!(f, "the host does not say where its holes are"),
            Self::Coarse { unit } => {
                write!(
                    f,
                    "all its holes begin and end at multiples of {unit} bytes"
                )
            }
            Self::Blocks { unit } => {
                write!(f, "its file system allocates {unit} bytes at a time")
            }
        }
    }
}

/// A raw dump: a regular file, or a block device.
#[derive(Debug)]
pub struct Dump {
    storage: FileStorage,
    len: ByteLen,
    /// What the file system allocates at a time, as far as it says.
    block_bytes: u64,
}

impl Dump {
    /// Opens the dump at `path`. A block device has its real size.
    ///
    /// # Errors
    /// [`MemError::ReadDump`], with [`StorageError::NotRegular`] for what is neither.
    pub fn open(path: &Path) -> Result<Self, MemError> {
        let read = |source| MemError::ReadDump { source };
        // O_NONBLOCK: opening a FIFO must not wait for its writer (open(2)).
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_CLOEXEC | libc::O_NONBLOCK)
            .open(path)
            .at(Operation::Open, path)
            .map_err(read)?;
        let (len, block_bytes) = measure(&file, path).map_err(read)?;
        Ok(Self {
            storage: FileStorage::from_file(file, path),
            len,
            block_bytes,
        })
    }

    /// Its length when it was opened.
    #[must_use]
    pub const fn len(&self) -> ByteLen {
        self.len
    }

    /// Whether it has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == ByteLen::ZERO
    }

    /// What errors call it.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.storage.path()
    }

    /// Fills `buf` from `offset` on.
    ///
    /// # Errors
    /// [`MemError::ReadDump`].
    pub fn read_at(&self, offset: FileOffset, buf: &mut [u8]) -> Result<(), MemError> {
        let read = self.storage.read_at(offset, buf);
        read.map_err(|source| MemError::ReadDump { source })
    }

    /// The allocated parts, ascending and apart, and why they may be larger than what was written.
    pub(super) fn parts(&self, page_size: PageSize) -> Result<Parts, MemError> {
        let mut parts: Vec<Range<u64>> = Vec::new();
        let all = 0..self.len.get();
        // The cursor that this moves is used by nobody.
        let is_reported = sys::data_parts(&self.storage, &all, |part| parts.push(part));
        let is_reported = is_reported.map_err(|source| MemError::Residency { source })?;
        let unit = unit(&parts, all.end);
        let page = page_size.bytes();
        let doubt = if !is_reported {
            Some(HoleDoubt::NotReported)
        } else if parts == [all] {
            Some(HoleDoubt::NoHole)
        } else if unit > page {
            Some(HoleDoubt::Coarse { unit })
        } else if self.block_bytes > page {
            let unit = self.block_bytes;
            Some(HoleDoubt::Blocks { unit })
        } else {
            None
        };
        Ok(Parts { parts, doubt })
    }
}

/// Where a dump has data.
pub(super) struct Parts {
    pub parts: Vec<Range<u64>>,
    pub doubt: Option<HoleDoubt>,
}

impl HoleDoubt {
    /// Whether it says that no hole is known at all.
    pub(super) const fn is_of_all(self) -> bool {
        matches!(self, Self::NoHole | Self::NotReported)
    }
}

/// The largest power of two at whose multiples all holes begin and end, within the file; 0 if
/// there is nothing to tell it from.
fn unit(parts: &[Range<u64>], len: u64) -> u64 {
    let edges = parts.iter().flat_map(|part| [part.start, part.end]);
    let bits = edges
        .filter(|edge| *edge != len)
        .fold(0, |bits, edge| bits | edge);
    match bits {
        0 => 0,
        bits => 1 << bits.trailing_zeros(),
    }
}

fn measure(file: &File, path: &Path) -> Result<(ByteLen, u64), StorageError> {
    let metadata = file.metadata().at(Operation::Open, path)?;
    let kind = metadata.file_type();
    if kind.is_file() {
        return Ok((ByteLen::new(metadata.len()), metadata.blksize()));
    }
    if kind.is_block_device() {
        // The kernel shows no length of a device but the end of its bytes (lseek(2)).
        let len = nix::unistd::lseek(file, 0, nix::unistd::Whence::SeekEnd);
        let len = len.at(Operation::Len, path)?.unsigned_abs();
        return Ok((ByteLen::new(len), 0));
    }
    Err(StorageError::NotRegular {
        path: path.to_path_buf(),
    })
}
