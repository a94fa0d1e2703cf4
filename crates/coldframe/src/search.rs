//! Opening snapshots for verbs, with the failure that fits.

use std::path::{Path, PathBuf};

use coldframe_snapshot::{Chain, Snapshot, SnapshotError};

use crate::exit::Failure;

/// Opens a snapshot directory.
pub fn open(path: &Path) -> Result<Snapshot, Failure> {
    Snapshot::open(path).map_err(|error| failure(format!("cannot open {}", path.display()), &error))
}

/// Opens a snapshot with all its parents; they are looked for beside it and in `search`.
pub fn open_chain(path: &Path, search: &[PathBuf]) -> Result<Chain, Failure> {
    Chain::of(open(path)?, search)
        .map_err(|error| failure(format!("cannot open {}", path.display()), &error))
}

/// What is wrong with the files themselves is exit 1, everything else exit 3.
pub fn failure(what: impl std::fmt::Display, error: &SnapshotError) -> Failure {
    let is_wanting = error.is_corrupt()
        || error.is_unsupported_version()
        || error.is_misfit()
        || matches!(error, SnapshotError::MissingParent { .. });
    if is_wanting {
        Failure::wanting(what, error)
    } else {
        Failure::environment(what, error)
    }
}
