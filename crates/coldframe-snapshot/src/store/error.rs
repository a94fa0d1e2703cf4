//! What can go wrong between snapshots and a store; errors name the snapshot, and what is lost.

use std::path::PathBuf;

use coldframe_chunks::{StoreError, TagName};
use coldframe_storage::StorageError;
use coldframe_units::{ChunkId, RootHash, SnapshotId};

use crate::SnapshotError;

/// Why snapshots could not be pushed or pulled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// A snapshot on this side cannot be read, or is not what it should be.
    #[error("a snapshot on this side failed")]
    Snapshot(#[source] SnapshotError),
    /// The store as such failed.
    #[error("the store failed")]
    Store(#[source] StoreError),
    /// A file or directory on this side could not be read, written or published.
    #[error("storage failed")]
    Storage(#[source] StorageError),
    /// A block's chunk cannot be had.
    #[error("block {block} of the memory of snapshot {snapshot} cannot be read from the store")]
    Block {
        /// The snapshot.
        snapshot: SnapshotId,
        /// The block, counted in 64 KiB of RAM.
        block: u64,
        /// Which chunk, and why.
        #[source]
        source: Box<StoreError>,
    },
    /// A chunk has sound bytes, but not those of the block whose table names it.
    #[error("chunk {chunk} does not fit block {block} of the memory of snapshot {snapshot}")]
    Misfit {
        /// The snapshot.
        snapshot: SnapshotId,
        /// The block.
        block: u64,
        /// The chunk.
        chunk: ChunkId,
    },
    /// A file of a snapshot cannot be had.
    #[error("the {what} of snapshot {snapshot} cannot be read from the store")]
    File {
        /// The snapshot.
        snapshot: SnapshotId,
        /// Which file.
        what: &'static str,
        /// Why.
        #[source]
        source: Box<StoreError>,
    },
    /// The manifest of a root cannot be had.
    #[error("the manifest with root {root} cannot be read from the store")]
    Manifest {
        /// Its root.
        root: RootHash,
        /// Why.
        #[source]
        source: Box<StoreError>,
    },
    /// A file in the store is not the one that its manifest describes.
    #[error("the {what} of snapshot {snapshot} is not as its manifest says")]
    Disagree {
        /// The snapshot.
        snapshot: SnapshotId,
        /// Which file, or part of it.
        what: &'static str,
    },
    /// A block on this side is not what its hash says: it is not sent.
    #[error("block {block} of {} is damaged: it should be chunk {expected}", path.display())]
    DamagedBlock {
        /// The memory file.
        path: PathBuf,
        /// The block.
        block: u64,
        /// Its chunk.
        expected: ChunkId,
    },
    /// The index of a disk is not in the store, where a snapshot's disks must be.
    #[error("disk {disk} of snapshot {snapshot} is not in the store")]
    MissingDisk {
        /// The snapshot.
        snapshot: SnapshotId,
        /// The disk's name.
        disk: String,
        /// Its index.
        #[source]
        source: Box<StoreError>,
    },
    /// A chain of parents in the store is too long.
    #[error("the chain of parents of the manifest with root {root} is longer than {limit}")]
    ChainTooLong {
        /// Where it begins.
        root: RootHash,
        /// The most snapshots.
        limit: usize,
    },
    /// The tag points to a snapshot that the one to be pushed is not built on.
    #[error("tag {name} points to {root}, which is no ancestor of this snapshot")]
    TagTaken {
        /// The tag.
        name: TagName,
        /// What it points to.
        root: RootHash,
    },
    /// The tag points to a disk.
    #[error("tag {name} points to a disk, not to a snapshot")]
    NotASnapshot {
        /// The tag.
        name: TagName,
    },
    /// No tag has this name, and no tagged snapshot this id.
    #[error("the store has no tag {name}, and no snapshot of such an id under any tag")]
    Unknown {
        /// What was asked for.
        name: String,
    },
}

impl TransferError {
    /// Something is damaged, missing, or not what it belongs to: no fault of the place or the host.
    #[must_use]
    pub fn is_wanting(&self) -> bool {
        match self {
            Self::Snapshot(error) => {
                error.is_corrupt()
                    || error.is_unsupported_version()
                    || matches!(error, SnapshotError::MissingParent { .. })
            }
            Self::Store(source) => source.is_wanting(),
            Self::Block { source, .. }
            | Self::File { source, .. }
            | Self::Manifest { source, .. }
            | Self::MissingDisk { source, .. } => source.is_wanting(),
            Self::Misfit { .. }
            | Self::Disagree { .. }
            | Self::DamagedBlock { .. }
            | Self::ChainTooLong { .. } => true,
            Self::Storage(_)
            | Self::TagTaken { .. }
            | Self::NotASnapshot { .. }
            | Self::Unknown { .. } => false,
        }
    }
}

pub(crate) fn store(source: StoreError) -> TransferError {
    TransferError::Store(source)
}

pub(crate) fn storage(source: StorageError) -> TransferError {
    TransferError::Storage(source)
}
