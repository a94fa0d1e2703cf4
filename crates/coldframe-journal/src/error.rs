//! Why a journal could not be used.
//!
//! What a reader finds at the end of a journal is not an error but an [`End`]: callers tell torn,
//! corrupt and unsupported apart there.

use coldframe_envelope::EncodeError;
use coldframe_storage::StorageError;
use coldframe_units::FileOffset;
use coldframe_walframe::journal::{Schema, TypeId};

use super::End;

/// Why an operation on a journal failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The storage failed.
    #[error("the journal's storage failed")]
    Storage {
        /// How.
        #[source]
        source: StorageError,
    },
    /// The file is no journal.
    #[error("{path} is no journal: the magic bytes are missing")]
    Foreign {
        /// Its name.
        path: String,
    },
    /// The journal cannot be continued because of what stands at its end.
    #[error("the journal cannot be continued: {end}")]
    Refused {
        /// What was found.
        end: End,
    },
    /// A record that was read a moment before is not there any more: the host lost it after a
    /// failed write, and shows what the disk has. Opened again, the journal ends before it.
    #[error("the record at {offset} is gone from the host's cache and not on the disk")]
    Gone {
        /// Where it began.
        offset: FileOffset,
    },
    /// The journal belongs to another program.
    #[error("the journal has entries of {found}, and {expected} was to continue it")]
    OtherSchema {
        /// Whose entries it has.
        found: Schema,
        /// Whose were expected.
        expected: Schema,
    },
    /// Another process writes to it.
    #[error("the journal {path} has a writer already")]
    Locked {
        /// Its name.
        path: String,
    },
    /// The host could not say whether another process writes to it.
    #[error("cannot lock the journal {path}")]
    Lock {
        /// Its name.
        path: String,
        /// The host's reason.
        #[source]
        source: std::io::Error,
    },
    /// A sync failed before: what was written since the one before it may be lost. Open it again.
    #[error("the journal is closed to writers since a write or a sync failed at {durable}")]
    Poisoned {
        /// Up to where it is durable.
        durable: FileOffset,
    },
    /// An entry is longer than a record may be.
    #[error("an entry of {len} bytes is too long, the limit is {max}")]
    TooLong {
        /// Bytes that it has.
        len: u64,
        /// Bytes that it may have.
        max: u64,
    },
    /// An entry could not be turned into bytes.
    #[error("an entry of type {type_id} could not be serialized")]
    Serialize {
        /// Its type.
        type_id: TypeId,
    },
    /// The host gave no random bytes.
    #[error("no random bytes for a new part")]
    Random {
        /// The host's reason.
        #[source]
        source: getrandom::Error,
    },
    /// An entry could not be printed.
    #[error("an entry could not be printed")]
    Print {
        /// The host's reason.
        #[source]
        source: std::io::Error,
    },
    /// The name of this program is not one that a part can carry.
    #[error("the producer of the journal is not valid")]
    Producer {
        /// Why.
        #[source]
        source: EncodeError,
    },
}

impl JournalError {
    /// Whether another writer has the journal.
    #[must_use]
    pub const fn is_locked(&self) -> bool {
        matches!(self, Self::Locked { .. })
    }

    /// Whether the journal is damaged.
    #[must_use]
    pub const fn is_corrupt(&self) -> bool {
        matches!(
            self,
            Self::Refused {
                end: End::Corrupt { .. }
            }
        )
    }

    /// Whether the journal is newer than this reader.
    #[must_use]
    pub const fn is_unsupported(&self) -> bool {
        matches!(
            self,
            Self::Refused {
                end: End::Unsupported { .. }
            } | Self::OtherSchema { .. }
        )
    }
}

impl From<StorageError> for JournalError {
    // Not an `io::Error`: the storage's own says which operation failed, and where.
    fn from(source: StorageError) -> Self {
        Self::Storage { source }
    }
}

/// Why an entry could not be taken as a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EntryError {
    /// It is of another type.
    #[error("the entry at {offset} is of type {found}, {expected} was asked for")]
    OtherType {
        /// Where it stands.
        offset: FileOffset,
        /// Its type.
        found: TypeId,
        /// The type asked for.
        expected: TypeId,
    },
    /// Its checksum held, but its bytes are no value of the type.
    #[error("the entry at {offset} is no sound value of type {type_id}")]
    Malformed {
        /// Where it stands.
        offset: FileOffset,
        /// The type asked for.
        type_id: TypeId,
    },
}
