//! The one error of this crate: what was asked for, and what stood in the way.
//!
//! Callers branch on variants and predicates, never on text.

use std::sync::Arc;

use coldframe_chunkfile::{BuildError, Compression};
use coldframe_envelope::{DecodeError, EncodeError, SectionKind};
use coldframe_storage::StorageError;
use coldframe_units::{ChunkId, FileOffset, RootHash};

use crate::{FileId, Key, LogNote, StoreUrlError, TagName};

/// Why a chunk's stored bytes are not the chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChunkDamage {
    /// The pack ends before them.
    #[error("the pack ends before it")]
    Cut,
    /// They do not decompress to as many bytes as the chunk has.
    #[error("it does not decompress to its length")]
    Decompress,
    /// They are the bytes of something else.
    #[error("its bytes are those of {found}")]
    Hash {
        /// The id that they have.
        found: ChunkId,
    },
}

/// Why a store could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// No pack of the store has the chunk.
    #[error("chunk {id} is not in the store")]
    MissingChunk {
        /// Which.
        id: ChunkId,
    },
    /// No pack of the store that can be used has the chunk, and one cannot be used.
    #[error("chunk {id} is not in the store, or was in pack {pack}, whose table is damaged")]
    LostChunk {
        /// Which.
        id: ChunkId,
        /// The pack.
        pack: FileId,
        /// What is wrong with it.
        source: Arc<StoreError>,
    },
    /// A pack has the chunk, but not its bytes; another copy of it heals the store.
    #[error("chunk {id} at {offset} of pack {pack} is damaged: {damage}")]
    DamagedChunk {
        /// Which.
        id: ChunkId,
        /// The pack that it is in.
        pack: FileId,
        /// Where its stored bytes begin.
        offset: FileOffset,
        /// What is wrong with them.
        damage: ChunkDamage,
    },
    /// A verification found the only copy of the chunk damaged, and put that down in the ledger.
    #[error("chunk {id} of pack {pack} was found damaged by an earlier verification")]
    KnownDamage {
        /// Which.
        id: ChunkId,
        /// The pack that it is in.
        pack: FileId,
    },
    /// The chunk is stored in a way that this build leaves out.
    #[error("chunk {id} is compressed with {compression:?}, which this build leaves out")]
    Unsupported {
        /// Which.
        id: ChunkId,
        /// How it is stored.
        compression: Compression,
    },
    /// The bytes given for a chunk have another id.
    #[error("the bytes given for chunk {id} are those of {found}")]
    WrongBytes {
        /// What they were said to be.
        id: ChunkId,
        /// What they are.
        found: ChunkId,
    },
    /// A chunk is empty, or longer than a pack takes.
    #[error("a chunk of {len} bytes was given, it may have 1 to {max}")]
    ChunkLen {
        /// Its length in bytes.
        len: usize,
        /// The most.
        max: usize,
    },
    /// No pack that can be read has the chunk, but one that cannot be read may have it.
    #[error("chunk {id} is in no readable pack, and pack {pack} cannot be read")]
    Unlocated {
        /// Which.
        id: ChunkId,
        /// A pack whose table cannot be read.
        pack: FileId,
        /// Why it cannot be read.
        source: Arc<StoreError>,
    },
    /// A file is listed, but the place answers that it does not exist when it is read.
    #[error("{key} is listed, but not found when it is read")]
    ListedNotFound {
        /// The file.
        key: Key,
    },
    /// A file that the ledger names does not exist, and nobody has deleted it by the rules.
    #[error("{key} is recorded in the ledger, but does not exist")]
    LostFile {
        /// The file.
        key: Key,
    },
    /// No file of the store has this root.
    #[error("the file with root {root} is not in the store")]
    MissingRoot {
        /// Which.
        root: RootHash,
    },
    /// The file of this root is damaged.
    #[error("the file with root {root} is damaged")]
    DamagedRoot {
        /// Which.
        root: RootHash,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// The table of a pack is damaged: its chunks cannot be found, other packs are read.
    #[error("pack {pack} is damaged")]
    DamagedPack {
        /// Which.
        pack: FileId,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// The bytes under this root have another root.
    #[error("the file with root {root} holds the bytes of root {found}")]
    WrongRoot {
        /// What was asked for.
        root: RootHash,
        /// What is there.
        found: RootHash,
    },
    /// Bytes that were to be kept are no sound file.
    #[error("the bytes to keep are not a sound file")]
    BadFile {
        /// What is wrong with them.
        source: DecodeError,
    },
    /// Nothing that the store knows can follow the references of such a file.
    #[error("the file with root {root} is of format {format}, whose references are not known")]
    UnknownFormat {
        /// The file.
        root: RootHash,
        /// Its format.
        format: SectionKind,
    },
    /// A chain of parents is longer than allowed, or leads back to itself.
    #[error("the index with root {root} has more than {limit} ancestors")]
    ChainTooLong {
        /// Where the chain begins.
        root: RootHash,
        /// The most ancestors.
        limit: usize,
    },
    /// The origin of an index is not of the length that the index says.
    #[error("the index with root {root} says that its parent has {expected} bytes, not {found}")]
    WrongParentSize {
        /// The child.
        root: RootHash,
        /// What it says.
        expected: u64,
        /// What the parent has.
        found: u64,
    },
    /// A block's chunk is not as long as the block.
    #[error("block {block} has {expected} bytes, its chunk {id} has {found}")]
    WrongChunkLen {
        /// The chunk.
        id: ChunkId,
        /// The block.
        block: u64,
        /// Bytes in the block.
        expected: u64,
        /// Bytes in the chunk.
        found: u64,
    },
    /// Pages of a block are lost: the image says so.
    #[error("pages of block {block} are lost until they are written again")]
    LostPages {
        /// The block.
        block: u64,
    },
    /// A block past the end of the image was asked for.
    #[error("block {block} is past the end of an image of {count} blocks")]
    PastEnd {
        /// The block.
        block: u64,
        /// Blocks in the image.
        count: u64,
    },
    /// There is no tag of this name.
    #[error("there is no tag {name}")]
    MissingTag {
        /// The name.
        name: TagName,
    },
    /// The tag is not what it was thought to be: someone changed it meanwhile.
    #[error("tag {name} was changed by someone else")]
    TagMoved {
        /// The name.
        name: TagName,
    },
    /// The file system ignores case, and so takes the tag's file for that of another.
    #[error("tag {name} cannot be told from {other} here: the file system ignores case")]
    TagFolded {
        /// The name.
        name: TagName,
        /// The file of the tag that is there.
        other: String,
    },
    /// The tag names a write-ahead log that may hold changes of its disk: to change or remove the
    /// tag would lose them.
    #[error("disk {name} has changes that only its log holds: {log}")]
    UnfoldedLog {
        /// The tag.
        name: TagName,
        /// The log.
        log: Box<LogNote>,
    },
    /// The tag's file is damaged.
    #[error("tag {name} is damaged")]
    DamagedTag {
        /// The name.
        name: TagName,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// The text that should say where a store is does not.
    #[error("this is no place for a store")]
    BadUrl {
        /// Why.
        source: StoreUrlError,
    },
    /// A variable of the environment has a value that cannot be used.
    #[error("{variable} is {value:?}, expected {expected}")]
    BadSetting {
        /// The variable.
        variable: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
    /// There is no store here.
    #[error("there is no chunk store at {place}")]
    NoStore {
        /// Where it was looked for.
        place: String,
    },
    /// The store's own file is of another version, or damaged.
    #[error("the store at {place} cannot be used")]
    BadStore {
        /// Where it is.
        place: String,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// The record of what is to be deleted is damaged.
    #[error("the ledger of the store is damaged")]
    DamagedLedger {
        /// What is wrong with it.
        source: DecodeError,
    },
    /// The place refuses each change of the ledger, though its content stays the same.
    #[error("the ledger of the store cannot be replaced: {tries} compare-and-swaps were refused")]
    LedgerStuck {
        /// How often it was tried.
        tries: u32,
    },
    /// The lease under which chunks were found is gone: what they are for must be pushed again.
    #[error("the lease of this push has run out")]
    LeaseLost,
    /// Someone else is collecting garbage.
    #[error("garbage is being collected already")]
    Busy,
    /// Someone else has taken over the right to collect, which was not renewed for too long.
    #[error("the right to collect garbage has run out")]
    ExclusiveLost,
    /// An earlier error of this push lost chunks that it had taken: they must be pushed again.
    #[error("an earlier write of this push failed")]
    PushFailed,
    /// Something cannot be written as a file of ours.
    #[error("a table cannot be written")]
    Build {
        /// Why.
        source: BuildError,
    },
    /// Something cannot be written as a file of ours.
    #[error("a file cannot be written")]
    Encode {
        /// Why.
        source: EncodeError,
    },
    /// The place where the store is failed.
    #[error("the store's place failed")]
    Storage {
        /// What was being done, and why it failed.
        source: StorageError,
    },
}

impl StoreError {
    /// The chunk, file or tag is not there.
    #[must_use]
    pub const fn is_missing(&self) -> bool {
        matches!(
            self,
            Self::MissingChunk { .. }
                | Self::LostChunk { .. }
                | Self::LostFile { .. }
                | Self::MissingRoot { .. }
                | Self::MissingTag { .. }
        )
    }

    /// Something is there, but damaged.
    #[must_use]
    pub const fn is_corrupt(&self) -> bool {
        match self {
            Self::DamagedChunk { .. }
            | Self::KnownDamage { .. }
            | Self::WrongRoot { .. }
            | Self::LostPages { .. } => true,
            Self::DamagedRoot { source, .. }
            | Self::DamagedPack { source, .. }
            | Self::DamagedTag { source, .. }
            | Self::DamagedLedger { source } => source.is_corrupt(),
            _ => false,
        }
    }

    /// What is stored is at fault, not the place: missing, damaged, foreign, or newer than this
    /// reader.
    #[must_use]
    pub const fn is_wanting(&self) -> bool {
        let is_refused = matches!(
            self,
            Self::DamagedRoot { .. }
                | Self::DamagedPack { .. }
                | Self::DamagedTag { .. }
                | Self::DamagedLedger { .. }
                | Self::BadStore { .. }
        );
        is_refused || self.is_missing() || self.is_corrupt()
    }

    /// A tag cannot be changed because a log may have changes of its disk.
    #[must_use]
    pub const fn is_unfolded_log(&self) -> bool {
        matches!(self, Self::UnfoldedLog { .. })
    }

    /// What was to be removed is gone, but may be back after a power cut.
    #[must_use]
    pub const fn is_removed(&self) -> bool {
        matches!(self, Self::Storage { source } if source.is_removed())
    }

    /// The disk, or a quota on it, is full; nothing that was there is lost.
    #[must_use]
    pub fn is_out_of_space(&self) -> bool {
        matches!(self, Self::Storage { source } if source.is_out_of_space())
    }
}

/// "Structure needs cleaning": the file system found itself damaged (errno(3), Linux).
const EUCLEAN: i32 = 117;
/// "Input/output error" (errno(3)).
const EIO: i32 = 5;
/// "Bad message": a checksum of the file system does not hold (errno(3), Linux).
const EBADMSG: i32 = 74;

/// Whether the medium under a file failed, as against the way to it: what cannot be read now is not
/// expected to be read later.
pub(crate) fn is_medium_error(error: &StoreError) -> bool {
    let StoreError::Storage { source } = error else {
        return false;
    };
    let StorageError::Read { source, .. } = source else {
        return false;
    };
    matches!(source.raw_os_error(), Some(EIO | EUCLEAN | EBADMSG))
}

/// A text that is no tag name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a tag name has 1 to 128 of the characters A-Z a-z 0-9 . _ @ + = : - and begins with no dot"
)]
pub struct TagNameError;

pub(crate) fn url(source: StoreUrlError) -> StoreError {
    StoreError::BadUrl { source }
}

pub(crate) fn storage(source: StorageError) -> StoreError {
    StoreError::Storage { source }
}

pub(crate) fn build(source: BuildError) -> StoreError {
    StoreError::Build { source }
}

pub(crate) fn encode(source: EncodeError) -> StoreError {
    StoreError::Encode { source }
}
