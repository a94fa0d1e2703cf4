//! What can go wrong in this crate.

use std::io;
use std::time::Duration;

use coldframe_units::{ByteLen, PageSize, RamOffset};

use crate::BlockIndex;

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
    /// The kernel's userfaultfd: not to be had, or not with all that is needed.
    #[cfg(target_os = "linux")]
    #[error("page faults cannot be served")]
    Uffd {
        /// Why.
        #[source]
        source: coldframe_uffd::UffdError,
    },
    /// The file of a template cannot be made, sealed, or opened for reading.
    #[error("no file for a template of memory")]
    Template {
        /// The host's answer.
        #[source]
        source: io::Error,
    },
    /// A thread of the service could not be started.
    #[error("no thread can be started to serve page faults")]
    Spawn {
        /// The host's answer.
        #[source]
        source: io::Error,
    },
    /// There is nothing to wait with.
    #[error("events cannot be waited for")]
    Wait {
        /// The host's answer.
        #[source]
        source: io::Error,
    },
    /// A thread still sleeps in a fault: it cannot be paused.
    #[error(
        "thread {thread} has waited for block {block} of memory for {} ms", waited.as_millis()
    )]
    StillWaiting {
        /// What it waits for; of several, what has been waited for longest.
        block: BlockIndex,
        /// For how long.
        waited: Duration,
        /// Which thread, by the host's number (gettid(2)).
        thread: u32,
    },
    /// The source is still needed.
    #[error("{remaining} blocks of memory are not there yet, and {failed} have failed")]
    NotComplete {
        /// Blocks that are in the source only.
        remaining: u64,
        /// Blocks that could not be had.
        failed: u64,
    },
}
