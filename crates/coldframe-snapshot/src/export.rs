//! Guest memory for other programs.

use coldframe_storage::Storage;

use crate::{Chain, SnapshotError};

pub use coldframe_mem::Holes;

/// Writes the memory of the youngest snapshot to `file`, which must be empty: the regions back to
/// back, each block checked as it is read. `progress` is told of bytes of RAM that are done.
///
/// # Errors
/// [`SnapshotError::Memory`] and those of [`Chain::memory`].
pub fn raw(
    chain: &Chain,
    file: &dyn Storage,
    holes: Holes,
    progress: &mut dyn FnMut(u64),
) -> Result<(), SnapshotError> {
    coldframe_mem::export_raw(&chain.memory()?, file, holes, progress)
        .map_err(SnapshotError::Memory)
}
