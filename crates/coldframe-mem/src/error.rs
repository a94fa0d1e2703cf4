//! The one error of this crate, with a variant for each thing that was being done.

use std::io;
use std::path::PathBuf;

use coldframe_dirty::DirtyError;
use coldframe_envelope::DecodeError;
use coldframe_memfile::BuildError;
use coldframe_storage::StorageError;
use coldframe_units::{ByteLen, FileOffset, GuestAddr, PageSize, RamLayoutError};

use crate::HoleDoubt;

/// Why guest memory could not be captured, restored or rewritten.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemError {
    /// The regions make no RAM layout.
    #[error("the guest's regions make no RAM layout")]
    Layout {
        /// What is wrong with them.
        source: RamLayoutError,
    },
    /// A region does not begin or end on a page boundary of the host.
    #[error("the region at {addr} is not made of whole pages of the host ({host_page})")]
    HostAlignment {
        /// Where the region is in the guest.
        addr: GuestAddr,
        /// The page size of the host.
        host_page: PageSize,
    },
    /// Part of a region is not mapped in this process.
    #[error("guest memory is not mapped at host address {addr:#x}")]
    NotMapped {
        /// The first address that is not.
        addr: u64,
    },
    /// The dirty pages are those of a RAM of another length.
    #[error("the dirty pages are of a RAM of {dirty} bytes, guest memory has {ram}")]
    DirtyRam {
        /// The RAM that the dirty pages belong to.
        dirty: ByteLen,
        /// The guest's RAM.
        ram: ByteLen,
    },
    /// The dirty pages cannot be cut into pages of the file.
    #[error("the dirty pages cannot be cut into pages of {page_size}")]
    Rechunk {
        /// The page size of the file.
        page_size: PageSize,
        /// Why.
        source: DirtyError,
    },
    /// The kernel did not say which memory was touched.
    #[error("cannot find out which guest memory was touched")]
    Residency {
        /// The host's reason.
        source: io::Error,
    },
    /// A memory file could not be opened or read.
    #[error("cannot read a memory file")]
    ReadSource {
        /// Why.
        source: StorageError,
    },
    /// A page of guest memory cannot be read: it is protected, poisoned, or there is none.
    #[error("guest memory at {addr} cannot be read")]
    Unreadable {
        /// The first page that cannot be read.
        addr: GuestAddr,
        /// The host's reason.
        source: io::Error,
    },
    /// Guest memory is filled by a userfaultfd, so pages that are not there yet are not zero.
    #[error(
        "guest memory at {addr} is registered with a userfaultfd: pages that are not there yet are \
         unknown; say how they are filled (RamRegion::fill)"
    )]
    Unfilled {
        /// The first page that is not there and is not known.
        addr: GuestAddr,
    },
    /// The memory to restore into is not plugged in where the snapshot has bytes.
    #[error("the snapshot has bytes at {addr}, where the memory to restore into is not plugged in")]
    NotPlugged {
        /// The first such byte.
        addr: GuestAddr,
    },
    /// What a region says of itself makes no sense.
    #[error("the absent parts of the region at {addr} are out of order or not of whole pages")]
    Absent {
        /// Where the region is in the guest.
        addr: GuestAddr,
    },
    /// A raw dump could not be read.
    #[error("cannot read the dump")]
    ReadDump {
        /// Why.
        source: StorageError,
    },
    /// A raw dump has another length than the guest's RAM.
    #[error("{} has {found} bytes, guest memory has {expected}", path.display())]
    DumpLength {
        /// The dump.
        path: PathBuf,
        /// The guest's RAM.
        expected: ByteLen,
        /// The length of the dump.
        found: ByteLen,
    },
    /// A sparse dump says that only a part of a page is clean.
    #[error("a hole of {} ends or begins inside a page, at {offset}", path.display())]
    HoleInPage {
        /// The dump.
        path: PathBuf,
        /// Where.
        offset: FileOffset,
    },
    /// It cannot be known which pages of a sparse dump were written.
    #[error(
        "cannot tell what changed from the holes of {}: {doubt}, pages are {page_size}, and the \
         page at {offset} may be zero or unchanged; import it without a parent if it is a full \
         dump, or say whether its zero pages are zero, every allocated page being a change \
         (--assume-dense), or unchanged (--zeros-are-clean)",
        path.display()
    )]
    UntrustedHoles {
        /// The dump.
        path: PathBuf,
        /// Why.
        doubt: HoleDoubt,
        /// The page size of the snapshot.
        page_size: PageSize,
        /// The first page in doubt.
        offset: FileOffset,
    },
    /// The file that was to be written is not empty.
    #[error("{} holds {len} bytes already", path.display())]
    NotEmpty {
        /// The file.
        path: PathBuf,
        /// Its length.
        len: ByteLen,
    },
    /// Pages could not be written to the file.
    #[error("cannot copy pages to the file")]
    WritePages {
        /// Why.
        source: StorageError,
    },
    /// What was written could not be read back for hashing.
    #[error("cannot read pages back to hash them")]
    ReadBack {
        /// Why.
        source: StorageError,
    },
    /// The tables or the header could not be written.
    #[error("cannot write the tables of the file")]
    WriteTables {
        /// Why.
        source: StorageError,
    },
    /// The pages make no memory file.
    #[error("the pages make no memory file")]
    Build {
        /// Why.
        source: BuildError,
    },
    /// A memory file is refused.
    #[error("{} is refused", path.display())]
    Decode {
        /// The file.
        path: PathBuf,
        /// Why.
        source: DecodeError,
    },
    /// A chain needs at least one file.
    #[error("a chain of no files has no memory")]
    EmptyChain,
    /// A file of the wrong kind for its place: a chain is one Full file, then Diffs.
    #[error("{} is a {found} file where a {expected} file belongs", path.display())]
    WrongKind {
        /// The file.
        path: PathBuf,
        /// What is needed there.
        expected: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// A file has another RAM layout or architecture than the one that it is to be combined with.
    #[error("{} is of another machine: the {what} differs", path.display())]
    OtherMachine {
        /// The file.
        path: PathBuf,
        /// What differs.
        what: &'static str,
    },
    /// The memory to restore into has another layout than the files.
    #[error(
        "guest memory of {found} bytes is laid out otherwise than the files ({expected} bytes)"
    )]
    TargetLayout {
        /// RAM in the files.
        expected: ByteLen,
        /// RAM that was given.
        found: ByteLen,
    },
    /// A block does not have the bytes that its hash was made of.
    #[error("block {block} of {} does not match its hash (data at {offset})", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The block's number, counted in 64 KiB of RAM.
        block: u64,
        /// Where the block's data begins in the file.
        offset: FileOffset,
    },
    /// Memory could not be mapped.
    #[error("cannot map {len} bytes of guest memory")]
    Map {
        /// How many bytes.
        len: ByteLen,
        /// The host's reason.
        source: io::Error,
    },
}

impl MemError {
    /// Whether the disk, or the user's quota on it, is full.
    #[must_use]
    pub fn is_out_of_space(&self) -> bool {
        match self {
            Self::WritePages { source } | Self::WriteTables { source } => source.is_out_of_space(),
            _ => false,
        }
    }

    /// Whether a file is damaged.
    #[must_use]
    pub const fn is_corrupt(&self) -> bool {
        match self {
            Self::Damaged { .. } => true,
            Self::Decode { source, .. } => source.is_corrupt(),
            _ => false,
        }
    }

    /// Whether a Diff was made against another file than the one below it.
    #[must_use]
    pub const fn is_wrong_parent(&self) -> bool {
        matches!(self, Self::Decode { source, .. } if source.is_wrong_parent())
    }

    /// Whether a file is of a version that this release does not read.
    #[must_use]
    pub const fn is_unsupported_version(&self) -> bool {
        matches!(self, Self::Decode { source, .. } if source.is_unsupported_version())
    }
}

impl From<BuildError> for MemError {
    fn from(source: BuildError) -> Self {
        Self::Build { source }
    }
}
