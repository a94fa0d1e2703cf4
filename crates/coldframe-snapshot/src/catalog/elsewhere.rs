//! Children in other directories, which the notes of [`crate::children`] name.
//!
//! A directory that is not there, or has nothing of ours, may be of a file system that is not
//! mounted: that is no answer.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use coldframe_manifest::ChildNote;
use coldframe_storage::{IoContext, Operation};
use coldframe_units::SnapshotId;

use super::{CATALOG, CatalogError, is_child, is_there, list, noted, unreadable};
use crate::children::NOTES;
use crate::{SnapshotError, files};

/// The other directories that have, or had, children of snapshots, by the parents' ids.
pub(super) type Dirs = BTreeMap<SnapshotId, BTreeSet<PathBuf>>;

/// All notes in `dir`.
///
/// # Errors
/// [`SnapshotError::Storage`], [`SnapshotError::Decode`] for a note that cannot be read: it may be
/// of any parent.
pub(super) fn dirs_in(dir: &Path) -> Result<Dirs, SnapshotError> {
    let mut all = Dirs::new();
    for path in paths(dir)? {
        let bytes = match files::read_small(&path) {
            // Forgotten since it was listed.
            Err(SnapshotError::Storage(error)) if error.is_not_found() && is_gone(&path) => {
                continue;
            }
            bytes => bytes?,
        };
        let (note, _) =
            ChildNote::decode(&bytes).map_err(|source| SnapshotError::Decode { path, source })?;
        let child_dir = PathBuf::from(OsString::from_vec(note.dir));
        all.entry(note.parent).or_default().insert(child_dir);
    }
    Ok(all)
}

/// Removes the notes of `parent`: all, or those of one directory.
///
/// # Errors
/// [`SnapshotError::Storage`], [`SnapshotError::Decode`].
pub(super) fn forget(
    dir: &Path,
    parent: SnapshotId,
    child_dir: Option<&Path>,
) -> Result<(), SnapshotError> {
    let prefix = format!("{parent}-");
    for path in paths(dir)? {
        let name = path.file_name().unwrap_or_default();
        if !name.as_bytes().starts_with(prefix.as_bytes()) {
            continue;
        }
        if let Some(child_dir) = child_dir {
            let bytes = files::read_small(&path)?;
            let (note, _) = ChildNote::decode(&bytes).map_err(|source| SnapshotError::Decode {
                path: path.clone(),
                source,
            })?;
            if OsStr::from_bytes(&note.dir) != child_dir.as_os_str() {
                continue;
            }
        }
        coldframe_storage::retract(&path).map_err(SnapshotError::Storage)?;
    }
    Ok(())
}

/// The notes in `dir`, without what is being written.
fn paths(dir: &Path) -> Result<Vec<PathBuf>, SnapshotError> {
    let notes = dir.join(NOTES);
    let list = || -> io::Result<Vec<PathBuf>> {
        fs::read_dir(&notes)?
            .map(|entry| Ok(entry?.path()))
            .collect()
    };
    match list() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        listed => {
            let paths = listed.at(Operation::Open, &notes);
            let paths = paths.map_err(SnapshotError::Storage)?.into_iter();
            let name = |path: &Path| path.file_name().unwrap_or_default().to_owned();
            Ok(paths
                .filter(|path| !coldframe_storage::is_temporary(&name(path)))
                .collect())
        }
    }
}

fn is_gone(path: &Path) -> bool {
    let found = fs::symlink_metadata(path);
    found.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// The children of `parent` in another directory; `None` if nothing says that this is still the
/// directory that was noted.
///
/// # Errors
/// [`CatalogError::List`], [`CatalogError::Unreadable`]: something there may be one.
pub(super) fn children_in(
    dir: &Path,
    parent: SnapshotId,
) -> Result<Option<Vec<PathBuf>>, CatalogError> {
    let catalog = dir.join(CATALOG);
    let listing = match list(dir, &noted(&catalog)?) {
        Ok(listing) => listing,
        Err(CatalogError::List { source, .. }) if is_not_found(&source) => return Ok(None),
        Err(error) => return Err(error),
    };
    let has_snapshots = !listing.snapshots.is_empty() || !listing.damaged.is_empty();
    if !has_snapshots && !is_there(&catalog)? {
        return Ok(None);
    }
    let found = listing.snapshots.iter();
    let found = found.filter(|snapshot| is_child(snapshot, parent));
    let found: Vec<_> = found.map(|child| child.path().to_path_buf()).collect();
    match listing.damaged.first() {
        Some(entry) if found.is_empty() => Err(unreadable(entry)),
        _ => Ok(Some(found)),
    }
}

fn is_not_found(error: &SnapshotError) -> bool {
    matches!(error, SnapshotError::Storage(storage) if storage.is_not_found())
}
