//! What can be asked wrongly. Every error leaves the bitmap or set as it was.

use coldframe_units::{ByteLen, PageIndex, PageSize, RamOffset};

/// A request that does not fit the RAM that is tracked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DirtyError {
    /// There is no RAM to track.
    #[error("a RAM of 0 bytes has no pages to track")]
    EmptyRam,
    /// The RAM has more pages than are tracked.
    #[error("a RAM of {pages} pages is more than the {max} that can be tracked")]
    TooManyPages {
        /// How many pages it has.
        pages: u64,
        /// How many it may have.
        max: u64,
    },
    /// The RAM is longer than what the bitmap was made for.
    #[error("a RAM of {ram} bytes is over the capacity of the bitmap, {capacity} bytes")]
    OverCapacity {
        /// How long it is.
        ram: ByteLen,
        /// How long it may be.
        capacity: ByteLen,
    },
    /// The allocator has no room for the bits.
    #[error("no memory for a bitmap of {bytes} bytes")]
    Allocate {
        /// How many bytes were asked for.
        bytes: u64,
    },
    /// A range of bytes ends outside the RAM.
    #[error("{len} bytes at RAM offset {offset} are not all inside the RAM of {ram} bytes")]
    OutsideRam {
        /// Where the range begins.
        offset: RamOffset,
        /// How long it is.
        len: ByteLen,
        /// How long the RAM is.
        ram: ByteLen,
    },
    /// A page lies outside the RAM.
    #[error("page {page} is outside the RAM of {pages} pages")]
    PageOutsideRam {
        /// The page; the last one, of several.
        page: PageIndex,
        /// How many pages the RAM has.
        pages: u64,
    },
    /// Two sets of pages belong to RAMs of different lengths.
    #[error("pages of a RAM of {theirs} bytes do not fit one of {ours} bytes")]
    OtherRam {
        /// The RAM of the set that was to grow.
        ours: ByteLen,
        /// The RAM of the set that was given.
        theirs: ByteLen,
    },
    /// Blocks cannot step down to pages that are not smaller.
    #[error("pages of {page_size} are not smaller than a block of {block_size}")]
    PageNotBelowBlock {
        /// The page size of the bitmap.
        page_size: PageSize,
        /// The size of a block.
        block_size: PageSize,
    },
}
