//! What can go wrong in this crate.

use coldframe_units::{ByteLen, PageSize, RamOffset};

/// An operation that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FaultError {
    /// Guest memory without a region.
    #[error("guest memory has no region")]
    NoRegions,
    /// A region that is not whole pages, does not follow the one before it in RAM offset space, or
    /// shares host addresses with another.
    #[error(
        "the region of {len} bytes at {ram} of RAM, at host address {host:#x}, is not whole pages \
         of {page} right after the one before it, or overlaps another"
    )]
    Geometry {
        /// Its first host address.
        host: u64,
        /// Where it begins in RAM offset space.
        ram: RamOffset,
        /// Its length.
        len: ByteLen,
        /// The size of a page.
        page: PageSize,
    },
}
