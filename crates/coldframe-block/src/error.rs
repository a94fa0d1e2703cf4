//! The one error of this crate: which part of a device failed, and what that means for the caller.
//!
//! Callers branch on variants and predicates, never on text.

use std::fmt;
use std::path::PathBuf;

use coldframe_chunkfile::{BaseId, BuildError};
use coldframe_chunks::{LogNote, StoreError, TagName};
use coldframe_envelope::DecodeError;
use coldframe_ring::{RingError, Sequence};
use coldframe_storage::StorageError;
use coldframe_units::{ByteLen, FileOffset, RootHash};

use crate::foreign::ImageFormat;
use crate::logs::LogFound;

/// A log that a disk's tag names, and what was found where it should be.
#[derive(Debug)]
pub struct NotedLog {
    /// The log.
    pub note: LogNote,
    /// Where it was looked for.
    pub path: PathBuf,
    /// What is there.
    pub found: LogFound,
}

impl fmt::Display for NotedLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.note, self.found)?;
        match self.path == self.note.path() {
            true => Ok(()),
            false => write!(f, ", looked for at {}", self.path.display()),
        }
    }
}

/// Why a device, a disk or an image could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlockError {
    /// The range reaches past the end; nothing was read or written.
    #[error("{len} bytes at {offset} reach past the end of a disk of {size} bytes")]
    PastEnd {
        /// Where the range begins, in bytes.
        offset: u64,
        /// How long it is.
        len: u64,
        /// The size of the disk.
        size: u64,
    },
    /// A block cannot be read; others can.
    #[error("cannot read block {block} of the disk")]
    Read {
        /// Its number, from 0: 64 KiB each.
        block: u64,
        /// What is missing or damaged.
        source: StoreError,
    },
    /// A block of the base image cannot be read.
    #[error("cannot read the base image")]
    BaseRead {
        /// What failed.
        source: StorageError,
    },
    /// The disk is built on a base image, which was not given.
    #[error("the disk is built on base image {id}, which was not given")]
    BaseMissing {
        /// Its identity.
        id: BaseId,
    },
    /// The base image is not, or not any more, the one that the disk is built on.
    #[error("{} has changed, or is not the image that the disk is built on", path.display())]
    BaseChanged {
        /// The file.
        path: PathBuf,
    },
    /// The store cannot take or give what the operation needs; nothing that was written is lost.
    #[error("the store failed")]
    Store {
        /// What failed.
        source: StoreError,
    },
    /// The log failed: nothing is taken or acknowledged until the device is opened again.
    #[error("the log of the device failed")]
    Log {
        /// What failed.
        source: RingError,
    },
    /// The log does not hold any more what was written to it; other pages can be read.
    #[error("a page that was written is damaged in the log, at {offset}")]
    LogDamaged {
        /// Where in the log's file.
        offset: FileOffset,
    },
    /// The host cannot read a stretch of the log that may have changes of the disk.
    #[error("{len} bytes of the log at {offset} cannot be read")]
    LogUnreadable {
        /// Where in the log's file.
        offset: FileOffset,
        /// How many bytes.
        len: ByteLen,
        /// What the host says.
        source: std::io::Error,
    },
    /// The log is full, and what is in it could not be brought into the store.
    #[error("the log of the device is full")]
    LogFull,
    /// The log is too small for a device.
    #[error("a log of {have} bytes is too small for a device, which needs {need}")]
    LogTooSmall {
        /// Bytes that its ring has.
        have: u64,
        /// The least.
        need: u64,
    },
    /// A record of the log is not one of ours.
    #[error("record {sequence} of the device's log cannot be read")]
    Record {
        /// Which.
        sequence: Sequence,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// The log holds writes of another device.
    #[error("the log holds writes to {found}, not to {head}")]
    LogOfAnother {
        /// The device that was opened.
        head: TagName,
        /// The one that the log is of.
        found: String,
    },
    /// The log holds writes on top of another state than the one that the tag points to.
    #[error("the log is based on index {log}, but tag {head} now points to {root}")]
    Diverged {
        /// The tag.
        head: TagName,
        /// What it points to.
        root: RootHash,
        /// What the log is on top of.
        log: RootHash,
    },
    /// The log holds writes of a disk that had the name earlier.
    #[error("the log holds writes to an earlier disk of the name {head}")]
    LogOfAnotherLife {
        /// The name.
        head: TagName,
    },
    /// The log belongs to another store: one that names it too is a copy, or was copied; one that
    /// is not there was moved, or is on a volume that is not mounted.
    #[error(
        "the log {} belongs to disk {head} of the store at {}, {}", log.display(), store.display(),
        if *is_there { "too" } else { "which is not there now" }
    )]
    LogOfOtherStore {
        /// The disk.
        head: TagName,
        /// The log.
        log: PathBuf,
        /// The other store.
        store: PathBuf,
        /// Whether there is a store at that path.
        is_there: bool,
    },
    /// A file that was named as the log of a disk is something else.
    #[error("{} is not a log of disk {head}", path.display())]
    NotItsLog {
        /// The disk.
        head: TagName,
        /// The file.
        path: PathBuf,
    },
    /// The disk's tag names a log whose changes would be left out, or lost.
    #[error("disk {head} has changes in another log: {log}")]
    LogElsewhere {
        /// The disk.
        head: TagName,
        /// The log, and what is there.
        log: Box<NotedLog>,
    },
    /// No index that the log is based on is in the store any more.
    #[error("the log is based on index {root}, which is not in the store")]
    BaseLost {
        /// The last that it names.
        root: RootHash,
    },
    /// A log without any record of a disk.
    #[error("the log is of no disk")]
    EmptyLog,
    /// The log's file cannot be made or opened.
    #[error("cannot prepare the log's file")]
    LogFile {
        /// What failed.
        source: StorageError,
    },
    /// There is no such tag.
    #[error("there is no disk {name}")]
    MissingDisk {
        /// Its name.
        name: TagName,
    },
    /// The tag points to something else.
    #[error("{name} is no disk")]
    NotADisk {
        /// Its name.
        name: TagName,
    },
    /// Someone else moved the tag that this device moves.
    #[error("{name} was changed by someone else: two devices write to it")]
    HeadMoved {
        /// Its name.
        name: TagName,
    },
    /// There is a tag of this name already.
    #[error("{name} exists")]
    Exists {
        /// Its name.
        name: TagName,
    },
    /// A disk is made smaller only when that is asked for by name.
    #[error("the disk has {size} bytes, {asked} would cut off its end")]
    Shrink {
        /// Its size in bytes.
        size: u64,
        /// What was asked for.
        asked: u64,
    },
    /// The size is over the limit of an image.
    #[error("a disk of {asked} bytes is over the limit of {max}")]
    TooLarge {
        /// What was asked for.
        asked: u64,
        /// The most.
        max: u64,
    },
    /// An index cannot be written.
    #[error("the index of the disk cannot be written")]
    Index {
        /// Why.
        source: BuildError,
    },
    /// What the path names has no bytes at offsets.
    #[error("{} is not a regular file or block device", path.display())]
    NotAnImage {
        /// The path.
        path: PathBuf,
    },
    /// The image is of a format that holds a disk, and is not the disk.
    #[error("{} is in {format} format, not a raw image", path.display())]
    NotRaw {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: ImageFormat,
    },
    /// An image to import cannot be read.
    #[error("cannot read the image")]
    Import {
        /// What failed.
        source: StorageError,
    },
    /// A file to export to cannot be written.
    #[error("cannot write the image")]
    Export {
        /// What failed.
        source: StorageError,
    },
    /// Bringing changes into the store ended because the device is being dropped; they stay in the
    /// log.
    #[error("stopped: changes stay in the log")]
    Stopped,
    /// The thread that brings changes into the store could not be started.
    #[error("cannot start the device's thread")]
    Spawn {
        /// What the system said.
        source: std::io::Error,
    },
}

impl BlockError {
    /// There is no room: past the end, the log or the store is full.
    #[must_use]
    pub fn is_out_of_space(&self) -> bool {
        match self {
            Self::PastEnd { .. } | Self::LogFull => true,
            Self::Store { source } | Self::Read { source, .. } => source.is_out_of_space(),
            Self::Export { source } => source.is_out_of_space(),
            _ => false,
        }
    }

    /// A block of the image cannot be read: now, or for good.
    pub(crate) const fn is_unreadable_below(&self) -> bool {
        matches!(
            self,
            Self::Read { .. } | Self::BaseRead { .. } | Self::BaseChanged { .. }
        )
    }

    /// The log is sound, and not on top of the disk as it is.
    pub(crate) const fn is_of_another(&self) -> bool {
        matches!(
            self,
            Self::Diverged { .. } | Self::LogOfAnother { .. } | Self::LogOfAnotherLife { .. }
        )
    }

    /// What is in the log's file can be no device's log, or not this one's: another file is needed
    /// to go on, which leaves out what this one has.
    #[must_use]
    pub const fn is_unusable_log(&self) -> bool {
        match self {
            Self::Log { source } => {
                source.is_corrupt()
                    || source.is_foreign()
                    || matches!(
                        source,
                        RingError::RegionSize { .. } | RingError::Read { .. }
                    )
            }
            Self::LogDamaged { .. }
            | Self::LogUnreadable { .. }
            | Self::LogTooSmall { .. }
            | Self::Record { .. } => true,
            _ => self.is_of_another(),
        }
    }

    /// The host cannot read the log, or a part of it that matters.
    #[must_use]
    pub fn is_unreadable_log(&self) -> bool {
        match self {
            Self::Log { source } => matches!(source, RingError::Read { .. }),
            Self::LogUnreadable { .. } => true,
            Self::LogElsewhere { log, .. } => match &log.found {
                LogFound::Unreadable(error) => error.is_unreadable_log(),
                _ => false,
            },
            _ => false,
        }
    }

    /// What was to be read from the log is in the store meanwhile: read again.
    pub(crate) const fn is_passed(&self) -> bool {
        matches!(self, Self::Log { source } if source.is_passed())
    }

    /// Something that is stored is damaged or missing.
    #[must_use]
    pub const fn is_corrupt(&self) -> bool {
        match self {
            Self::Read { source, .. } | Self::Store { source } => {
                source.is_corrupt() || source.is_missing()
            }
            Self::Record { source, .. } => source.is_corrupt(),
            Self::Log { source } => source.is_corrupt(),
            Self::BaseChanged { .. } | Self::LogDamaged { .. } => true,
            _ => false,
        }
    }

    /// A log has what the disk's tag does not have, or is not of the disk; nothing is damaged.
    #[must_use]
    pub const fn is_log_trouble(&self) -> bool {
        match self {
            Self::Diverged { .. }
            | Self::LogOfAnother { .. }
            | Self::LogOfAnotherLife { .. }
            | Self::LogOfOtherStore { .. }
            | Self::NotItsLog { .. }
            | Self::LogElsewhere { .. }
            | Self::BaseLost { .. }
            | Self::EmptyLog => true,
            Self::Store { source } => source.is_unfolded_log(),
            _ => false,
        }
    }

    /// The caller asked for what cannot be.
    #[must_use]
    pub const fn is_misuse(&self) -> bool {
        matches!(
            self,
            Self::PastEnd { .. }
                | Self::Shrink { .. }
                | Self::TooLarge { .. }
                | Self::MissingDisk { .. }
                | Self::NotADisk { .. }
                | Self::NotRaw { .. }
                | Self::NotAnImage { .. }
                | Self::Exists { .. }
                | Self::LogTooSmall { .. }
                | Self::BaseRead {
                    source: StorageError::NoLength { .. }
                }
                | Self::Log {
                    source: RingError::RegionShape { .. }
                }
        )
    }
}

impl From<StoreError> for BlockError {
    fn from(source: StoreError) -> Self {
        store(source)
    }
}

pub(crate) fn store(source: StoreError) -> BlockError {
    BlockError::Store { source }
}

pub(crate) fn log(source: RingError) -> BlockError {
    BlockError::Log { source }
}

pub(crate) fn index(source: BuildError) -> BlockError {
    BlockError::Index { source }
}
