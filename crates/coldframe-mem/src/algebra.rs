//! The algebra of memory files: what is the sum of files, and what lies between two memories.
//!
//! - [`crate::Layers::apply`]: the memory after one more Diff.
//! - [`flatten`]: a chain as one Full file; it restores to the same bytes.
//! - [`merge`]: neighbouring Diffs as one, against the parent of the first; associative, and the
//!   same as applying them one after the other.
//! - [`diff`]: what turns one memory into another; applied to the first it gives the second.
//!
//! Invariants: the page size of what is written is the smallest of what is read, so that no page
//! has to be put together; unless waived, a source block is checked against its hash before its
//! bytes are used, so damage is never given a new hash; memory is bounded, but for the tables. The
//! hash of a block that is taken whole from one file is taken over.

use std::time::Instant;

use coldframe_envelope::Producer;
use coldframe_storage::Storage;

use crate::capture::Captured;
use crate::{MemError, MemRoot, Verify};

mod diff;
mod fold;

pub use diff::diff;
pub use fold::{flatten, merge};

/// Finishes a file that was made of others.
fn finish(
    what: &str,
    started: Instant,
    captured: Captured,
    storage: &dyn Storage,
) -> Result<MemRoot, MemError> {
    let made = captured.finish(storage)?;
    tracing::info!(
        pages = made.stats.data_pages,
        zero_pages = made.stats.zero_pages,
        extents = made.stats.extents,
        duration_us = started.elapsed().as_micros() as u64,
        "{what}"
    );
    Ok(made)
}

/// What is told about the file that is written.
#[derive(Clone, Copy, Debug)]
pub struct Rewrite {
    /// Who writes it.
    pub producer: Producer,
    /// Whether the blocks that are read are checked first. If not, damage may get a new hash.
    pub verify: Verify,
}
