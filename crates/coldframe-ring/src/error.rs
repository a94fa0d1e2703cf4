//! The error of the ring: which operation failed, and the numbers that say what to do.
//!
//! I/O that failed, damage, an unsupported version and misuse are told apart by variant; a torn
//! tail is no error at all, see [`crate::Recovery`].

use std::sync::Arc;

use coldframe_envelope::DecodeError;
use coldframe_storage::StorageError;
use coldframe_units::{ByteLen, FileOffset};

use crate::{Owner, Sequence};

/// Why an operation on a ring failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RingError {
    /// The region is not aligned, too small, or past what a file can be.
    #[error(
        "a region of {size} bytes at {offset} is not possible: \
         it begins at a multiple of 4096, its size is one of 16, at least 8240"
    )]
    RegionShape {
        /// Where it would begin.
        offset: FileOffset,
        /// Its size.
        size: ByteLen,
    },
    /// The log was made for a larger region, or the file is shorter than the log.
    #[error("the log needs {need} bytes from {offset} on, {have} are there")]
    RegionSize {
        /// Where the region begins.
        offset: FileOffset,
        /// The size of the log.
        need: ByteLen,
        /// What there is.
        have: ByteLen,
    },
    /// The file is too short to hold a log: it is empty, or something else.
    #[error("the file has {have} bytes and is no log, which has at least {min}")]
    TooShort {
        /// Bytes in the file.
        have: ByteLen,
        /// Bytes of the smallest log.
        min: ByteLen,
    },
    /// There is a log already where one was to be created.
    #[error("there is a log already at {offset}")]
    Exists {
        /// Where.
        offset: FileOffset,
    },
    /// Someone else has the log open.
    #[error("the log is in use{}", owner.as_ref().map(|o| format!(" by {o}")).unwrap_or_default())]
    Locked {
        /// Who, if it is known.
        owner: Option<Owner>,
    },
    /// The lock could not be asked for.
    #[error("cannot lock the log")]
    Lock {
        /// The host's reason.
        source: std::io::Error,
    },
    /// Neither control block can be read.
    #[error("cannot read the control block of the log at {offset}")]
    Control {
        /// Where the region begins.
        offset: FileOffset,
        /// Why.
        source: DecodeError,
    },
    /// A record that was durable is damaged.
    #[error("record {sequence} at {offset} is damaged{}", proof(*witness))]
    Corrupt {
        /// Where it begins in the file.
        offset: FileOffset,
        /// Its sequence.
        sequence: Sequence,
        /// A later record that shows that it was durable once.
        witness: Option<Sequence>,
    },
    /// Reading failed.
    #[error("cannot read the log")]
    Read {
        /// What failed.
        source: StorageError,
    },
    /// A record that was read a moment before is not there any more: the host lost it after a
    /// failed write, and shows what the disk has. Opened again, the log ends before it.
    #[error("record {sequence} at {offset} is gone from the host's cache and not on the disk")]
    Gone {
        /// Where it began in the file.
        offset: FileOffset,
        /// Its sequence.
        sequence: Sequence,
    },
    /// Preparing or repairing the log failed; nothing that was in it before is lost.
    #[error("cannot prepare the log")]
    Prepare {
        /// What failed.
        source: StorageError,
    },
    /// A write or a sync failed, now or earlier: nothing is acknowledged any more until the log
    /// is opened again.
    #[error("the log failed and must be opened again")]
    Failed {
        /// What failed first.
        source: Arc<StorageError>,
    },
    /// There is no room; a checkpoint makes some.
    #[error(
        "the log is full: {need} bytes needed, {free} free; \
         a checkpoint up to record {checkpoint_to} frees enough"
    )]
    Full {
        /// Bytes that the record takes.
        need: ByteLen,
        /// Bytes that are free.
        free: ByteLen,
        /// Bytes that must be freed.
        release: ByteLen,
        /// The first record up to which a checkpoint frees enough.
        checkpoint_to: Sequence,
    },
    /// No checkpoint makes room for this.
    #[error("{len} bytes of payload do not fit into the log, the limit is {max}")]
    TooLong {
        /// What was to be appended, in bytes of payload.
        len: ByteLen,
        /// The longest payload of one record.
        max: ByteLen,
    },
    /// The sequence is not of a record that is in the log.
    #[error("record {asked} is not in the log, which has {first} to {last}")]
    UnknownSequence {
        /// What was asked for.
        asked: Sequence,
        /// The first that can be asked for.
        first: Sequence,
        /// The last.
        last: Sequence,
    },
    /// There is no such place in the log: it is one of another log.
    #[error("the log has no {len} bytes at its position {position}")]
    UnknownPlace {
        /// Bytes from where the log once began.
        position: u64,
        /// What was to be read.
        len: ByteLen,
    },
    /// A record was checkpointed, and its space used again, while it was being read.
    #[error("record {sequence} was checkpointed while it was being read")]
    Passed {
        /// Its sequence.
        sequence: Sequence,
    },
    /// The log has come to the end of a counter: make a new one.
    #[error("{what} of the log is used up")]
    Exhausted {
        /// Which counter.
        what: &'static str,
    },
    /// A ring that wraps must grow by what lies before its seam, or be checkpointed first.
    #[error("the log cannot grow to {asked} bytes, the least is {min}")]
    GrowTooLittle {
        /// The size asked for.
        asked: ByteLen,
        /// The smallest size that is possible now.
        min: ByteLen,
    },
    /// The log is not any more what the plan was made for.
    #[error("the log changed since the plan was made")]
    PlanOutdated,
    /// The damage is such that no sound record can be kept behind it.
    #[error("the damage at {offset} cannot be repaired in place")]
    NotRepairable {
        /// Where.
        offset: FileOffset,
    },
}

fn proof(witness: Option<Sequence>) -> String {
    witness.map_or_else(String::new, |witness| {
        format!(" (record {witness} behind it is sound)")
    })
}

impl RingError {
    /// Damage: a record or the control block is not what was written.
    #[must_use]
    pub const fn is_corrupt(&self) -> bool {
        match self {
            Self::Corrupt { .. } => true,
            Self::Control { source, .. } => source.is_corrupt(),
            _ => false,
        }
    }

    /// The log is of a version that this release does not know.
    #[must_use]
    pub const fn is_unsupported_version(&self) -> bool {
        matches!(self, Self::Control { source, .. } if source.is_unsupported_version())
    }

    /// There is no log in this place.
    #[must_use]
    pub const fn is_foreign(&self) -> bool {
        match self {
            Self::TooShort { .. } => true,
            Self::Control { source, .. } => source.is_foreign(),
            _ => false,
        }
    }

    /// The log is full; a checkpoint helps.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        matches!(self, Self::Full { .. })
    }

    /// A checkpoint gave up what was to be read.
    #[must_use]
    pub const fn is_passed(&self) -> bool {
        matches!(self, Self::Passed { .. })
    }

    /// Someone else has the log open.
    #[must_use]
    pub const fn is_locked(&self) -> bool {
        matches!(self, Self::Locked { .. })
    }
}
