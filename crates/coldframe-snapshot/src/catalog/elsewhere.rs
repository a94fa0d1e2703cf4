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

use super::{CATALOG, CatalogError, history, is_child, is_there, list, unreadable};
use crate::files::NOTES;
use crate::{SnapshotError, files};

/// The other directories that have, or had, children of snapshots, by the parents' ids.
pub(super) type Dirs = BTreeMap<SnapshotId, BTreeSet<PathBuf>>;

/// The notes of a directory.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// What they say.
    pub dirs: Dirs,
    /// Those that cannot be read, by the id of the parent in their names.
    pub unread: BTreeMap<SnapshotId, PathBuf>,
}

/// All notes in `dir`.
///
/// # Errors
/// [`SnapshotError::Storage`], [`SnapshotError::Decode`] for a note that cannot be read and whose
/// name is no note's: it may be of any parent.
pub(super) fn notes_in(dir: &Path) -> Result<Notes, SnapshotError> {
    let mut all = Notes::default();
    for path in paths(dir)? {
        let note = files::read_small(&path).and_then(|bytes| {
            let path = path.clone();
            ChildNote::decode(&bytes).map_err(|source| SnapshotError::Decode { path, source })
        });
        match (note, parent_in_name(&path)) {
            (Ok((note, _)), _) => {
                let child_dir = PathBuf::from(OsString::from_vec(note.dir));
                all.dirs.entry(note.parent).or_default().insert(child_dir);
            }
            // Forgotten since it was listed.
            (Err(SnapshotError::Storage(error)), _) if error.is_not_found() && is_gone(&path) => {}
            (Err(error), Some(parent)) => {
                tracing::warn!(note = %path.display(), %error, "note of a child not read");
                all.unread.insert(parent, path);
            }
            (Err(error), None) => return Err(error),
        }
    }
    Ok(all)
}

/// The id in the name of a note.
fn parent_in_name(note: &Path) -> Option<SnapshotId> {
    let name = note.file_name()?.to_str()?;
    name.split_once('-')?.0.parse().ok()
}

/// Removes the notes of `parent`: all, or those of one directory.
///
/// # Errors
/// [`SnapshotError::Storage`].
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
            // One that is damaged is not known to be of this directory.
            let Ok((note, _)) = ChildNote::decode(&bytes) else {
                continue;
            };
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
    let listing = match list(dir, &history(&catalog)?) {
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
