//! What can go wrong with a snapshot; one variant for each thing that was being done.

use std::path::PathBuf;

use coldframe_envelope::{DecodeError, EncodeError};
use coldframe_hv::StateError;

use coldframe_mem::MemError;
use coldframe_storage::StorageError;
use coldframe_units::{RamLayoutError, RootHash, SnapshotId};

type Cause = dyn std::error::Error + Send + Sync + 'static;

/// Why a snapshot could not be made, opened or restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// A file or directory could not be read, written or published.
    #[error("storage failed")]
    Storage(#[source] StorageError),
    /// A file does not hold what it should.
    #[error("{} is refused", path.display())]
    Decode {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: DecodeError,
    },
    /// What was to be written breaks a rule or a limit of its format.
    #[error("the {file} cannot be written")]
    Encode {
        /// Which file.
        file: &'static str,
        /// Why.
        #[source]
        source: EncodeError,
    },
    /// Guest memory could not be captured or restored.
    #[error("guest memory failed")]
    Memory(#[source] MemError),
    /// The VMM's adapter could not read the machine's state.
    #[error("the machine's state could not be saved")]
    SaveMachine(#[source] Box<Cause>),
    /// The VMM's adapter could not say which pages are dirty.
    #[error("the dirty pages could not be harvested")]
    HarvestDirty(#[source] Box<Cause>),
    /// The machine's state makes no sense.
    #[error("the machine's state is no machine")]
    State(#[source] StateError),
    /// The guest's memory regions make no layout.
    #[error("the guest's memory regions make no layout")]
    Layout(#[source] RamLayoutError),
    /// The dirty bitmap and the guest's memory have different sizes.
    #[error("the dirty bitmap covers {bitmap} bytes, guest memory has {ram}")]
    BitmapSize {
        /// Bytes that the bitmap covers.
        bitmap: u64,
        /// Bytes of guest memory.
        ram: u64,
    },
    /// A snapshot's parent is nowhere to be found.
    #[error("parent {id} of {} is not beside it nor in a search path", child.display())]
    MissingParent {
        /// The snapshot whose parent is missing.
        child: PathBuf,
        /// The parent's id.
        id: SnapshotId,
    },
    /// A snapshot's parent was not found, and something could not be read that it may be.
    #[error("parent {id} of {} was not found, and {} cannot be read: it may be the parent",
        child.display(), path.display())]
    ParentUnreadable {
        /// The snapshot whose parent is missing.
        child: PathBuf,
        /// The parent's id.
        id: SnapshotId,
        /// What could not be read.
        path: PathBuf,
        /// Why; `None` if it can be read again.
        #[source]
        source: Option<Box<SnapshotError>>,
    },
    /// A snapshot of the right id is not the one that the child was made against.
    #[error("{} has root {found}, its child was made against {expected}", path.display())]
    ParentRoot {
        /// The would-be parent.
        path: PathBuf,
        /// The root that the child names.
        expected: RootHash,
        /// The root that it has.
        found: RootHash,
    },
    /// A snapshot cannot have this name: see [`is_reserved`](crate::is_reserved).
    #[error("{} has a name that is reserved in a directory of snapshots", path.display())]
    ReservedName {
        /// The path.
        path: PathBuf,
    },
    /// A file is not the one that the manifest names.
    #[error("{} has root {found}, the manifest names {expected}", path.display())]
    FileRoot {
        /// The file.
        path: PathBuf,
        /// The root that the manifest names.
        expected: RootHash,
        /// The root that it has.
        found: RootHash,
    },
    /// A file has another length than the manifest says.
    #[error("{} has {found} bytes, the manifest says {expected}", path.display())]
    FileLength {
        /// The file.
        path: PathBuf,
        /// The length that the manifest names.
        expected: u64,
        /// The length that it has.
        found: u64,
    },
    /// A file that is read whole is longer than is sensible.
    #[error("{} has {len} bytes, the limit is {limit}", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The length that it has.
        len: u64,
        /// The most that is allowed.
        limit: u64,
    },
    /// Two things that belong together disagree: manifest and memory file, parent and child.
    #[error("{} has another {what} than what it belongs to", path.display())]
    Disagree {
        /// The file or snapshot.
        path: PathBuf,
        /// About what.
        what: &'static str,
    },
    /// The chain of parents is longer than is sensible, or goes round.
    #[error("the chain of parents of {} is longer than {limit}", path.display())]
    ChainTooLong {
        /// The youngest snapshot.
        path: PathBuf,
        /// The most that is allowed.
        limit: usize,
    },
    /// The snapshot holds memory only.
    #[error("{} holds no machine state", path.display())]
    NoMachine {
        /// The snapshot.
        path: PathBuf,
    },
    /// A diff was asked for against a snapshot that is not the machine's last.
    #[error("{} is not the snapshot that dirty pages are counted from", path.display())]
    Baseline {
        /// The snapshot that was named as parent.
        path: PathBuf,
        /// The snapshot that dirty pages are counted from; `None` before the first.
        baseline: Option<SnapshotId>,
    },
    /// A diff was asked for while a capture that is newer than its parent is in flight: the pages
    /// of that one would be missing from it.
    #[error("{} is not the newest capture: {} is in flight; take the diff on that one, or wait \
        until it is published", path.display(), newer.display())]
    InFlight {
        /// The snapshot that was named as parent.
        path: PathBuf,
        /// Where the newest capture in flight will be.
        newer: PathBuf,
    },
    /// A capture cannot be published before its parent.
    #[error("the parent {} is not published yet: publish it first", path.display())]
    ParentUnpublished {
        /// Where the parent will be.
        path: PathBuf,
    },
    /// A capture cannot be published: its parent never will be.
    #[error("the parent of this capture, or the capture itself, failed to be published: {}",
        path.display())]
    ParentFailed {
        /// Where the one that failed was to be.
        path: PathBuf,
    },
    /// The parent of a snapshot that is being made was deleted.
    #[error("parent {id} is not at {} any more", path.display())]
    ParentGone {
        /// Where it was.
        path: PathBuf,
        /// Its id.
        id: SnapshotId,
    },
    /// The parent is in another directory, in which no note of the child could be left.
    #[error("cannot note in {} that a child is made elsewhere", dir.display())]
    NoteChild {
        /// The parent's directory.
        dir: PathBuf,
        /// Why.
        #[source]
        source: Box<SnapshotError>,
    },
    /// The parent of a snapshot that is to be made is being deleted.
    #[error("the parent {} is being deleted by another process", path.display())]
    ParentBusy {
        /// The parent.
        path: PathBuf,
    },
    /// The state of a device does not fit a state file.
    #[error("the state of device {kind}.{instance} cannot be kept")]
    Device {
        /// Its kind.
        kind: String,
        /// Which one of its kind.
        instance: u32,
        /// Why.
        #[source]
        source: EncodeError,
    },
    /// Pages were discarded that the RAM does not have.
    #[error("no such pages")]
    DirtyPages(#[source] coldframe_dirty::DirtyError),
    /// A snapshot was named as ancestor that is not one.
    #[error("{id} is not an ancestor of {}", path.display())]
    NotInChain {
        /// The youngest snapshot of the chain.
        path: PathBuf,
        /// The id that was asked for.
        id: SnapshotId,
    },
    /// No random bytes for an id.
    #[error("the system gives no random bytes for an id")]
    Random(#[source] std::io::Error),
}

impl SnapshotError {
    /// Whether bytes on disk are damaged, or belong to something else: not I/O, not a version.
    #[must_use]
    pub fn is_corrupt(&self) -> bool {
        match self {
            Self::Decode { source, .. } => !source.is_unsupported_version(),
            Self::Memory(memory) => memory.is_corrupt() || memory.is_wrong_parent(),
            Self::ParentUnreadable { source, .. } => {
                source.as_ref().is_some_and(|source| source.is_corrupt())
            }
            Self::ParentRoot { .. }
            | Self::FileRoot { .. }
            | Self::FileLength { .. }
            | Self::Disagree { .. }
            | Self::ChainTooLong { .. }
            | Self::State(_) => true,
            _ => false,
        }
    }

    /// Whether a file is sound but newer than this reader.
    #[must_use]
    pub fn is_unsupported_version(&self) -> bool {
        match self {
            Self::Decode { source, .. } => source.is_unsupported_version(),
            Self::Memory(memory) => memory.is_unsupported_version(),
            Self::ParentUnreadable { source, .. } => source
                .as_ref()
                .is_some_and(|source| source.is_unsupported_version()),
            _ => false,
        }
    }

    /// Whether files are sound but no memory can be made of them: a dump of broken pages or of
    /// another length, files of different machines.
    #[must_use]
    pub const fn is_misfit(&self) -> bool {
        matches!(
            self,
            Self::Memory(
                MemError::Build { .. }
                    | MemError::DumpLength { .. }
                    | MemError::HoleInPage { .. }
                    | MemError::UntrustedHoles { .. }
                    | MemError::OtherMachine { .. }
                    | MemError::WrongKind { .. }
            )
        )
    }
}
