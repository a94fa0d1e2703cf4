//! The temporary names that this process has not published yet.
//!
//! A drop removes them, but a process that ends by a signal drops nothing. Who handles signals
//! calls [`discard_living`] before it lets the process end. A signal concerns the process as a
//! whole, so this is the one thing of the crate that does too. A directory that could not be
//! removed when it was dropped, as for want of a descriptor, stays entered: it is removed then, if
//! a process that fails calls it as well.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::temporary;

static LIVING: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn living() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    LIVING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A temporary name while it is meant to go if the process ends.
#[derive(Debug)]
pub(crate) struct Live(PathBuf);

impl Live {
    /// Enters it.
    pub fn new(path: &Path) -> Self {
        living().insert(path.to_path_buf());
        Self(path.to_path_buf())
    }

    /// Enters it and makes what has the name, in one step: [`discard_living`] comes before it, and
    /// nothing is made any more, or after it, and finds what was made.
    pub fn making<T>(path: &Path, make: impl FnOnce() -> T) -> (Self, T) {
        let mut living = living();
        living.insert(path.to_path_buf());
        let made = make();
        drop(living);
        (Self(path.to_path_buf()), made)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        living().remove(&self.0);
    }
}

/// Removes every temporary file and directory that this process has not published yet; how many.
///
/// For a process that is about to end by a signal: a thread that still writes to one of them gets
/// an error when publishing it, and a thread that begins a new one waits for ever. So end the
/// process next.
pub fn discard_living() -> usize {
    let mut living = living();
    let mut count = 0;
    for path in std::mem::take(&mut *living) {
        let is_dir = match std::fs::symlink_metadata(&path) {
            Ok(metadata) => metadata.is_dir(),
            Err(_) => continue,
        };
        // A thread may still make files in the directory while it is removed: once more.
        let removed = (0..8).any(|_| temporary::remove(&path, is_dir).is_ok());
        count += usize::from(removed);
        if !removed {
            tracing::warn!(path = %path.display(), "temporary left behind");
        }
    }
    std::mem::forget(living);
    count
}
