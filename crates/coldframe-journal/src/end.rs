//! Why a reader stopped: four answers that are never confused, and one that is good.

use std::fmt;

use coldframe_envelope::DecodeErrorKind;
use coldframe_units::{ByteLen, FileOffset};
use coldframe_walframe::journal::{Schema, TypeId};

/// Why a reader stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// All there is was read.
    Clean {
        /// Behind the last record.
        offset: FileOffset,
        /// Whether the last writer closed it.
        sealed: bool,
    },
    /// The last record is not whole, as a power cut leaves it; what was durable is before it.
    Torn {
        /// Where it begins.
        offset: FileOffset,
        /// Bytes from there to the end, or to where a joined part begins.
        dropped: ByteLen,
        /// Where a part begins that was joined behind it; [`super::JournalReader::resume`] goes on
        /// there.
        joined: Option<FileOffset>,
    },
    /// Damage to bytes that were durable once.
    Corrupt {
        /// Where the damaged record or part begins.
        offset: FileOffset,
        /// What is wrong with it.
        kind: DecodeErrorKind,
    },
    /// The host cannot read what is there, or what would tell whether it was durable; only of a
    /// reader that goes on then ([`super::JournalReader::read_around`]).
    Unreadable {
        /// Where the record or part begins that it hides.
        offset: FileOffset,
    },
    /// Sound as far as can be told, but not for this reader.
    Unsupported {
        /// Where it begins.
        offset: FileOffset,
        /// What is not known.
        what: Unsupported,
    },
}

/// What a reader does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unsupported {
    /// The file: it is no journal.
    Foreign,
    /// An entry that must be understood.
    Type(TypeId),
    /// The entries of another program.
    Schema(Schema),
    /// The framing, or the codec of the payloads.
    Part(DecodeErrorKind),
}

impl End {
    /// Where the reader stopped.
    #[must_use]
    pub const fn offset(&self) -> FileOffset {
        match self {
            Self::Clean { offset, .. }
            | Self::Torn { offset, .. }
            | Self::Corrupt { offset, .. }
            | Self::Unreadable { offset }
            | Self::Unsupported { offset, .. } => *offset,
        }
    }

    /// Whether all there is was read.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        matches!(self, Self::Clean { .. })
    }

    /// Whether only a tail is missing that was never durable.
    #[must_use]
    pub const fn is_torn(&self) -> bool {
        matches!(self, Self::Torn { .. })
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clean { offset, .. } => write!(f, "it ends at {offset}"),
            Self::Torn {
                offset, dropped, ..
            } => write!(f, "it is torn at {offset}, {dropped} bytes are dropped"),
            Self::Unreadable { offset } => write!(f, "the host cannot read it at {offset}"),
            Self::Corrupt { offset, kind } => write!(f, "it is damaged at {offset}: {kind}"),
            Self::Unsupported { offset, what } => match what {
                Unsupported::Foreign => f.write_str("the file is no journal"),
                Unsupported::Type(id) => write!(f, "entry type {id} at {offset} is not known"),
                Unsupported::Schema(name) => write!(f, "entries of {name} at {offset}"),
                Unsupported::Part(kind) => write!(f, "part at {offset}: {kind}"),
            },
        }
    }
}
