//! An open dump, and what its holes say.
//!
//! In a sparse diff dump a hole means "as in the parent" and an allocated zero page means "zero":
//! the holes are data. A file system that knows no holes, one that allocates more than a page at a
//! time, and a copy without holes all turn clean pages into allocated zero pages, and nothing in
//! the file tells. A file may be fine in one place and coarse in another (tmpfs with huge pages for
//! as long as the host has some, a dense copy with a page punched out of it), so each zero page is
//! judged by what is around it: it is believed only if the holes of the file are as fine as its
//! pages, and there is one in the aligned [`COARSE_BYTES`] that it is part of. Nor is it believed
//! at the very start, where qemu-img writes zeros to learn how a new file is to be written.
//!
//! What cannot be told at all: a copier that makes holes of zeros (GNU cp does for a sparse file,
//! rsync -S, `qemu-img convert`) turns pages that were written as zero into clean ones.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use coldframe_storage::{
    FileStorage, IoContext, Operation, Storage, StorageError, refuse_unmeasured,
};
use coldframe_units::{ByteLen, FileOffset, PageSize};

use crate::{MemError, sys};

/// How far the holes of a sparse diff dump are trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DiffHoles {
    /// A zero page of the dump is believed if the file shows holes as fine as its pages, and one
    /// close to that page: in the same aligned 64 KiB, or the same 2 MiB where the whole file was
    /// visibly written page by page. A dump without any hole is refused.
    #[default]
    Proven,
    /// Every allocated page is part of the diff, whatever the file shows: its author says so.
    Assumed,
    /// Zero pages are as in the parent, allocated or not: the author says that no page became
    /// zero, and that zeros are what a copy was filled up with.
    ZerosClean,
}

/// What is allocated as a whole in so many bytes, aligned, may have been so by the file system or
/// by a copier: 64 KiB, or two pages if those are larger.
const COARSE_BYTES: u64 = 64 << 10;

/// The largest page that a host allocates at a time, where it does not do so for the whole file: a
/// huge page of tmpfs.
const HUGE_BYTES: u64 = 2 << 20;

/// The unit in which zero pages are judged: no zero page in an aligned unit without a hole is
/// believed.
///
/// A file whose holes and parts are small, many, and begin and end anywhere was written page by
/// page: what else may be in it are huge pages. Chance puts one edge of 16 at a multiple of 64 KiB.
fn judged_in(parts: &[Range<u64>], len: u64, page: u64) -> u64 {
    const EDGES_MIN: u64 = 16;
    const PAGES_MEAN_MAX: u64 = 64;
    let coarse = COARSE_BYTES.max(page * 2);
    let (mut edges, mut fine, mut data) = (0, 0, 0);
    for part in parts {
        data += part.end - part.start;
        for edge in [part.start, part.end] {
            if edge != 0 && edge != len {
                edges += 1;
                fine += u64::from(!edge.is_multiple_of(coarse));
            }
        }
    }
    let are_small = data <= parts.len() as u64 * PAGES_MEAN_MAX * page;
    if edges >= EDGES_MIN && fine * 4 >= edges * 3 && are_small {
        HUGE_BYTES.max(coarse)
    } else {
        coarse
    }
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
    /// The first page is zero: QEMU writes zeros there into each file that it makes.
    FirstPage,
    /// A zero page is in so many bytes, aligned, that are allocated as a whole.
    Stretch {
        /// Bytes, a power of two.
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
            Self::FirstPage => write!(
                f,
                "its first page is zero, as qemu-img makes it in each new file"
            ),
            Self::Stretch { unit } => {
                write!(
                    f,
                    "a zero page is in {unit} aligned bytes without a hole, as after filling up \
                     by a file system or a copier"
                )
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
    /// [`MemError::ReadDump`], with [`StorageError::NotRegular`] for what is neither, and
    /// [`StorageError::NoLength`] for a file of /proc and the like.
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
        refuse_unmeasured(&file, path).map_err(read)?;
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
        let judged_in = judged_in(&parts, self.len.get(), page);
        Ok(Parts {
            parts,
            doubt,
            judged_in,
        })
    }
}

/// Where a dump has data.
pub(super) struct Parts {
    pub parts: Vec<Range<u64>>,
    pub doubt: Option<HoleDoubt>,
    /// No zero page in so many aligned bytes without a hole is believed.
    pub judged_in: u64,
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
