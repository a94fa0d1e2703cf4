//! Why a journal cannot be replayed.

use std::path::PathBuf;

use coldframe_journal::{End, EntryError, JournalError};
use coldframe_units::{FileOffset, SnapshotId};

/// Why a journal cannot be written, or replayed from a snapshot.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordingError {
    /// The journal could not be written.
    #[error("cannot write the journal")]
    Write(#[source] JournalError),
    /// The host has no randomness to give.
    #[error("cannot make an id for the recording")]
    NewId(#[source] std::io::Error),
    /// The journal could not be read.
    #[error("cannot read the journal {}", path.display())]
    Read {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        source: JournalError,
    },
    /// The journal is damaged, or not for this reader.
    #[error("the journal {} is refused at {}: {end}", path.display(), end.offset())]
    Refused {
        /// Its path.
        path: PathBuf,
        /// What was found, and where.
        end: End,
    },
    /// All entries are there, but what closes the journal is damaged.
    #[error("the journal {} is refused at {offset}: its seal is damaged", path.display())]
    Seal {
        /// Its path.
        path: PathBuf,
        /// Where the seal begins.
        offset: FileOffset,
    },
    /// An entry is no value of its type.
    #[error("an entry of the journal cannot be read")]
    Entry(#[source] EntryError),
    /// The first entry does not say which recording this is.
    #[error("the journal does not begin as a recording does")]
    NoBeginning,
    /// The snapshot was taken of a guest that was not recorded.
    #[error("snapshot {snapshot} is not of a recorded guest")]
    NotRecorded {
        /// The snapshot.
        snapshot: SnapshotId,
    },
    /// The snapshot belongs to another journal.
    #[error("snapshot {snapshot} is of another recording than the journal")]
    OtherRecording {
        /// The snapshot.
        snapshot: SnapshotId,
    },
    /// The whole journal has no mark of the snapshot.
    #[error("the journal has no mark of snapshot {snapshot}")]
    NoSnapshot {
        /// The snapshot.
        snapshot: SnapshotId,
    },
    /// The journal has no such mark of the guest after the snapshot.
    #[error("the journal has no mark {mark} after snapshot {snapshot}{}", among(*.known))]
    NoMark {
        /// The mark asked for.
        mark: u32,
        /// The snapshot.
        snapshot: SnapshotId,
        /// The first and the last mark that it has there.
        known: Option<(u32, u32)>,
    },
}

/// Which marks there are.
fn among(known: Option<(u32, u32)>) -> String {
    match known {
        Some((first, last)) => format!(": its marks there go from {first} to {last}"),
        None => ": it has none there".to_owned(),
    }
}

impl RecordingError {
    /// Whether the journal itself was read, and it, or its belonging to the snapshot, is at fault.
    #[must_use]
    pub const fn is_wanting(&self) -> bool {
        !matches!(self, Self::Write(_) | Self::NewId(_) | Self::Read { .. })
    }
}
