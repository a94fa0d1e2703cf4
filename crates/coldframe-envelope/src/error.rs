//! The errors of all format crates: what is wrong, and where in the file; what cannot be written.

use coldframe_units::RootHash;

use crate::{Codec, SectionKind, Version};

/// Why bytes were refused, and at which offset of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} at offset {offset:#x}")]
pub struct DecodeError {
    /// What is wrong.
    pub kind: DecodeErrorKind,
    /// The byte of the file where it was seen.
    pub offset: u64,
}

/// What is wrong with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeErrorKind {
    /// The file ends before what it announces.
    #[error("file is truncated: {need} bytes are needed, {have} are there")]
    Truncated {
        /// Bytes that should be there.
        need: u64,
        /// Bytes that are there.
        have: u64,
    },
    /// The file goes on behind its announced end.
    #[error("file is longer than it says: {expected} bytes announced, {found} found")]
    TrailingBytes {
        /// The length that the header announces.
        expected: u64,
        /// The length that the file has.
        found: u64,
    },
    /// The file does not begin as coldframe files do.
    #[error("not a coldframe file: the magic bytes are missing")]
    BadMagic,
    /// A coldframe file, but of another format.
    #[error("file is of format {found}, {expected} was expected")]
    WrongFormat {
        /// The format that the file names.
        found: SectionKind,
        /// The format that the reader understands.
        expected: SectionKind,
    },
    /// A version of the format that this reader does not know.
    #[error("format version {found} is not supported (this reader knows {min} to {max})")]
    Unsupported {
        /// The version of the file.
        found: Version,
        /// The oldest that is read.
        min: Version,
        /// The newest that is known; later minor versions are read too.
        max: Version,
    },
    /// The bodies are in a codec, or a release of it, that this reader does not have.
    #[error("bodies are in codec {found}, this reader has {expected}")]
    UnsupportedCodec {
        /// What the file names.
        found: Codec,
        /// What the reader has.
        expected: Codec,
    },
    /// The header does not match its own checksum.
    #[error("header checksum does not match")]
    HeaderChecksum,
    /// A body does not match its BLAKE3 hash.
    #[error("hash does not match the bytes")]
    BodyHash,
    /// A count or a length is over what the reader allows.
    #[error("{what} is {found}, the limit is {limit}")]
    LimitExceeded {
        /// What was counted.
        what: &'static str,
        /// The most that is allowed.
        limit: u64,
        /// What the file asks for.
        found: u64,
    },
    /// Bytes that must be zero are not.
    #[error("reserved or padding bytes are not zero")]
    ReservedNotZero,
    /// A field has a value that makes no sense.
    #[error("{field} is not valid")]
    Invalid {
        /// The field's name in the spec.
        field: &'static str,
    },
    /// A section that must be understood is not known to this reader.
    #[error("section {kind}.{instance} must be understood and is unknown to this reader")]
    UnknownSection {
        /// Its kind.
        kind: SectionKind,
        /// Its instance.
        instance: u32,
    },
    /// A section is of a version that this reader does not know.
    #[error("section {kind}.{instance} is of version {found}, this reader knows up to {max}")]
    UnsupportedSection {
        /// Its kind.
        kind: SectionKind,
        /// Its instance.
        instance: u32,
        /// Its version.
        found: u16,
        /// The newest version that is known.
        max: u16,
    },
    /// A section that must be there is not.
    #[error("section {kind}.{instance} is missing")]
    MissingSection {
        /// Its kind.
        kind: SectionKind,
        /// Its instance.
        instance: u32,
    },
    /// The same kind and instance stand twice in the table.
    #[error("section {kind}.{instance} stands twice")]
    DuplicateSection {
        /// Its kind.
        kind: SectionKind,
        /// Its instance.
        instance: u32,
    },
    /// A body's hash held, but its codec refuses it.
    #[error("section {kind}.{instance} does not decode")]
    Codec {
        /// Its kind.
        kind: SectionKind,
        /// Its instance.
        instance: u32,
    },
    /// The file belongs to another parent than the one at hand.
    #[error("file was made against parent {expected}, the one given is {found}")]
    WrongParent {
        /// The root that the file names.
        expected: RootHash,
        /// The root of the parent at hand.
        found: RootHash,
    },
}

impl DecodeError {
    /// An error of this kind at this offset.
    #[must_use]
    pub const fn new(kind: DecodeErrorKind, offset: u64) -> Self {
        Self { kind, offset }
    }

    /// The file is sound as far as can be told, but newer or of another codec than this reader.
    #[must_use]
    pub const fn is_unsupported_version(&self) -> bool {
        matches!(
            self.kind,
            DecodeErrorKind::Unsupported { .. }
                | DecodeErrorKind::UnsupportedCodec { .. }
                | DecodeErrorKind::UnsupportedSection { .. }
                | DecodeErrorKind::UnknownSection { .. }
        )
    }

    /// The file is something else: not ours, or ours of another format.
    #[must_use]
    pub const fn is_foreign(&self) -> bool {
        matches!(
            self.kind,
            DecodeErrorKind::BadMagic | DecodeErrorKind::WrongFormat { .. }
        )
    }

    /// The file is whole and readable, but belongs to another parent.
    #[must_use]
    pub const fn is_wrong_parent(&self) -> bool {
        matches!(self.kind, DecodeErrorKind::WrongParent { .. })
    }

    /// The bytes are damaged: neither foreign, nor unsupported, nor of another parent.
    #[must_use]
    pub const fn is_corrupt(&self) -> bool {
        !self.is_unsupported_version() && !self.is_foreign() && !self.is_wrong_parent()
    }
}

/// Something that cannot be encoded: the caller's misuse, found before a byte is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The producer text is not 1 to 48 printable ASCII bytes.
    #[error("the producer text must be 1 to 48 printable ASCII bytes, it has {len}")]
    Producer {
        /// Bytes that it has.
        len: usize,
    },
    /// More of something than the format's limits let a reader accept.
    #[error("{what} is {found}, the limit is {limit}")]
    LimitExceeded {
        /// What was counted.
        what: &'static str,
        /// The most that is allowed.
        limit: u64,
        /// What was asked for.
        found: u64,
    },
    /// A value breaks a rule that every reader of the format holds it to.
    #[error("{field} is not valid")]
    Invalid {
        /// The field's name in the spec.
        field: &'static str,
    },
    /// The same kind and instance was added twice.
    #[error("section {kind}.{instance} was added twice")]
    DuplicateSection {
        /// Its kind.
        kind: SectionKind,
        /// Its instance.
        instance: u32,
    },
}
