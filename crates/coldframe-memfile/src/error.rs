//! What the builder refuses: the caller's misuse, found before a table is written. Reading has
//! [`DecodeError`](coldframe_envelope::DecodeError).

use coldframe_units::{ByteLen, PageIndex, PageSize, RamLayoutError, RamOffset};

/// Something that cannot be a guest-memory file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The page size is over that of the format.
    #[error("page size {page_size} is over {max}, the largest of the format")]
    PageSize {
        /// What was asked for.
        page_size: PageSize,
        /// The largest.
        max: PageSize,
    },
    /// The regions are not made of whole pages.
    #[error("the RAM layout does not fit the file")]
    Layout {
        /// What is wrong with it.
        #[source]
        source: RamLayoutError,
    },
    /// A run begins before the end of what was pushed.
    #[error("a run at page {start} was pushed after the file had reached page {next}")]
    OutOfOrder {
        /// Where the run begins.
        start: PageIndex,
        /// The page after the last that was pushed.
        next: PageIndex,
    },
    /// A run ends past the end of RAM.
    #[error("a run up to page {end} was pushed, RAM has {pages} pages")]
    PastEnd {
        /// The page after the run's last.
        end: PageIndex,
        /// Pages in RAM.
        pages: u64,
    },
    /// A Full file would leave pages out.
    #[error("a full file must hold every page, page {page} is missing")]
    Missing {
        /// The first that is left out.
        page: PageIndex,
    },
    /// There are not as many hashes as blocks to hash.
    #[error("{expected} blocks need a hash, {found} hashes were given")]
    HashCount {
        /// Blocks that need one.
        expected: u64,
        /// Hashes given; at most one more than expected is counted.
        found: u64,
    },
    /// The bytes to hash are not as many as the block holds.
    #[error("the block holds {expected} bytes of data, {found} were given")]
    DataLen {
        /// Bytes of data in the block.
        expected: ByteLen,
        /// Bytes given.
        found: ByteLen,
    },
    /// Absent parts are out of order, touch, are empty, are not of whole pages of 4 KiB, or end
    /// past the end of RAM.
    #[error("the absent part at {start} of {len} has no place in the file")]
    Absent {
        /// Where it begins in RAM.
        start: RamOffset,
        /// How long it is.
        len: ByteLen,
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
