//! What the builders refuse: the caller's misuse, found before a table is written. Reading has
//! [`DecodeError`](coldframe_envelope::DecodeError).

use coldframe_units::ChunkId;

/// Something that cannot be a pack or an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The same chunk was added twice.
    #[error("chunk {id} was added twice")]
    DuplicateChunk {
        /// Which.
        id: ChunkId,
    },
    /// The lengths do not go with the compression.
    #[error("chunk {id} of {raw_len} bytes cannot be stored in {stored_len}")]
    ChunkLen {
        /// Which chunk.
        id: ChunkId,
        /// Its length in bytes.
        raw_len: u32,
        /// Its length as stored, in bytes.
        stored_len: u32,
    },
    /// A row begins before the end of what was pushed.
    #[error("block {block} was pushed after the index had reached block {next}")]
    OutOfOrder {
        /// The first block of the row.
        block: u64,
        /// The block after the last that was pushed.
        next: u64,
    },
    /// A row ends past the end of the image.
    #[error("blocks up to {end} were pushed, the image has {blocks}")]
    PastEnd {
        /// The block after the row's last.
        end: u64,
        /// Blocks in the image.
        blocks: u64,
    },
    /// A block is left out that no parent or base image has.
    #[error("block {block} is in no parent and was left out")]
    Missing {
        /// The first such block.
        block: u64,
    },
    /// A run of blocks without blocks.
    #[error("a run of no blocks was pushed at block {block}")]
    Empty {
        /// Where.
        block: u64,
    },
    /// The parts of a block are not each of its pages once, or are longer than what they are of.
    #[error("the parts of block {block} do not hold: {field}")]
    Parts {
        /// Which block.
        block: u64,
        /// The field that does not hold.
        field: &'static str,
    },
    /// The base image is longer than the image that is made of it.
    #[error("the base image of {base} bytes is longer than the image of {size}")]
    BaseTooLong {
        /// The base image's length in bytes.
        base: u64,
        /// The image's length in bytes.
        size: u64,
    },
    /// More of something than a reader would accept.
    #[error("{what} is {found}, the limit is {limit}")]
    LimitExceeded {
        /// What was counted.
        what: &'static str,
        /// The most that is allowed.
        limit: u64,
        /// What was asked for.
        found: u64,
    },
}

pub(crate) fn check_limit(what: &'static str, found: u64, limit: u64) -> Result<(), BuildError> {
    if found > limit {
        return Err(BuildError::LimitExceeded { what, limit, found });
    }
    Ok(())
}
