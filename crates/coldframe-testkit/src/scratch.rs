//! Directories for files that need not outlive a test, in memory where the host has that: a sync
//! costs nothing there.

use std::path::Path;

use tempfile::TempDir;

/// Linux's file system in memory (shm_overview(7)).
const MEMORY: &str = "/dev/shm";

/// A new directory, removed when dropped.
///
/// # Panics
/// If none can be made.
#[must_use]
pub fn dir() -> TempDir {
    let in_memory = || tempfile::tempdir_in(MEMORY).ok();
    let made = Path::new(MEMORY).is_dir().then(in_memory).flatten();
    made.unwrap_or_else(|| tempfile::tempdir().expect("a directory can be made"))
}
