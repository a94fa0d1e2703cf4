//! Opening snapshots for verbs, with the failure that fits.

use std::path::{Path, PathBuf};

use coldframe_snapshot::{Chain, Snapshot, SnapshotError, is_reserved, snapshots_in};
use coldframe_storage::{StorageError, is_temporary};

use crate::exit::{Failure, line};
use crate::output::producer;

/// Opens a snapshot directory; a pipe, a socket or a device is wrong usage.
pub fn open(path: &Path) -> Result<Snapshot, Failure> {
    // What cannot be looked at is an error of opening it.
    let is_odd = |metadata: std::fs::Metadata| !metadata.is_dir() && !metadata.is_file();
    if std::fs::metadata(path).is_ok_and(is_odd) {
        let path = path.display();
        return Err(Failure::Usage(format!(
            "{path} is not a snapshot directory"
        )));
    }
    Snapshot::open(path).map_err(|error| failure(format!("cannot open {}", path.display()), &error))
}

/// Opens a snapshot with all its parents; they are looked for beside it and in `search`.
pub fn open_chain(path: &Path, search: &[PathBuf]) -> Result<Chain, Failure> {
    exist(search)?;
    Chain::of(open(path)?, search)
        .map_err(|error| failure(format!("cannot open {}", path.display()), &error))
}

/// The same to make something of it. Parents in another directory get a note of where the child is:
/// one that was moved there is known to nobody else, and `rm` would delete them.
pub fn use_chain(path: &Path, search: &[PathBuf]) -> Result<Chain, Failure> {
    let chain = open_chain(path, search)?;
    if let Err(error) = chain.note_elsewhere(producer()) {
        eprintln!("coldframe: {}", line("note", &error));
    }
    Ok(chain)
}

/// Refuses directories to search that are none: a misspelt one would find nothing, silently. What
/// cannot be looked at is an error only if a parent is not found elsewhere.
pub fn exist(search: &[PathBuf]) -> Result<(), Failure> {
    for path in search {
        let what = || format!("cannot search {} (--search)", path.display());
        match std::fs::metadata(path) {
            Ok(metadata) if !metadata.is_dir() => {
                return Err(Failure::Usage(format!("{}: no directory", what())));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Failure::environment(what(), &error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Refuses an output that would take the place of the catalog of a directory of snapshots, or would
/// be taken for a leftover.
pub fn check_output(path: &Path) -> Result<(), Failure> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    let name = path.file_name().unwrap_or_default();
    let is_among_snapshots = || match snapshots_in(dir.unwrap_or(Path::new("."))) {
        Ok(listing) => {
            !listing.snapshots.is_empty()
                || !listing.damaged.is_empty()
                || !listing.links.is_empty()
        }
        // It cannot be told.
        Err(_) => true,
    };
    if is_reserved(name) && (is_temporary(name) || is_among_snapshots()) {
        let path = path.to_path_buf();
        let error = SnapshotError::ReservedName { path };
        return Err(failure("not written", &error));
    }
    Ok(())
}

/// A name that cannot be is exit 2, what is wrong with the files themselves exit 1, everything else
/// exit 3.
pub fn failure(what: impl std::fmt::Display, error: &SnapshotError) -> Failure {
    if matches!(error, SnapshotError::ReservedName { .. }) {
        Failure::Usage(line(what, error))
    } else if is_wanting(error) {
        Failure::wanting(what, error)
    } else {
        Failure::environment(what, error)
    }
}

/// Whether something is wrong with the files themselves.
pub fn is_wanting(error: &SnapshotError) -> bool {
    error.is_corrupt()
        || error.is_unsupported_version()
        || error.is_misfit()
        || matches!(
            error,
            SnapshotError::MissingParent { .. }
                | SnapshotError::Storage(StorageError::NotRegular { .. })
        )
}
