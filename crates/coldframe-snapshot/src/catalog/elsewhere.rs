//! Children in other directories: their parent's catalog knows where to look.
//!
//! The note is a lease without end, whose holder names the directory; bytes that are not plain in
//! its path are written as `%` and two hexadecimal digits. It says where to look, no more: whether
//! the child is still there is asked when it matters. A directory that is not there, or has nothing
//! of ours, may be of a file system that is not mounted: that is no answer.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use coldframe_units::SnapshotId;

use super::{CATALOG, Catalog, CatalogError, is_child, is_there, list, noted, unreadable};
use crate::SnapshotError;

const HOLDER: &str = "children in ";

/// How long a catalog that another process is changing is waited for.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(20);

/// Notes in the catalog of `parent_dir` that a child of `parent` will be in `child_dir`. Where that
/// catalog cannot be written nothing can be deleted by it either: that is told in the log only.
///
/// # Errors
/// [`CatalogError::Journal`] if another process keeps the catalog to itself.
pub(crate) fn note_child(
    parent_dir: &Path,
    parent: SnapshotId,
    child_dir: &Path,
) -> Result<(), CatalogError> {
    let holder = holder_of(child_dir);
    let mut tries = 0;
    loop {
        let noted = Catalog::open(parent_dir).and_then(|mut catalog| {
            let item = catalog.item(parent)?;
            if item.leases.get(&holder) == Some(&u64::MAX) {
                return Ok(());
            }
            catalog.lease(parent, &holder, u64::MAX)
        });
        match noted {
            Ok(()) => return Ok(()),
            Err(CatalogError::Journal { source, .. }) if source.is_locked() && tries < TRIES => {
                tries += 1;
                sleep(PAUSE);
            }
            Err(error @ CatalogError::Journal { .. }) if is_locked(&error) => return Err(error),
            Err(error) => {
                tracing::warn!(dir = %parent_dir.display(), %error, "child not noted");
                return Ok(());
            }
        }
    }
}

fn is_locked(error: &CatalogError) -> bool {
    matches!(error, CatalogError::Journal { source, .. } if source.is_locked())
}

pub(super) fn holder_of(dir: &Path) -> String {
    let mut holder = HOLDER.to_owned();
    for byte in dir.as_os_str().as_bytes() {
        match byte {
            b'%' | 0..=0x1f | 0x7f.. => holder.push_str(&format!("%{byte:02x}")),
            plain => holder.push(char::from(*plain)),
        }
    }
    holder
}

/// The directory that a holder names; `None` if it is a lease of another kind.
pub(super) fn directory_of(holder: &str) -> Option<PathBuf> {
    let mut bytes = Vec::new();
    let mut text = holder.strip_prefix(HOLDER)?.bytes();
    while let Some(byte) = text.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [text.next()?, text.next()?];
        let digits = std::str::from_utf8(&digits).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
    }
    Some(PathBuf::from(OsString::from_vec(bytes)))
}

/// The children of `parent` in another directory; `None` if nothing says that this is still the
/// directory that was noted.
///
/// # Errors
/// [`CatalogError::List`], [`CatalogError::Unreadable`]: something there may be one.
pub(super) fn children_in(
    dir: &Path,
    parent: SnapshotId,
) -> Result<Option<Vec<String>>, CatalogError> {
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
    let found: Vec<_> = found
        .map(|child| child.path().display().to_string())
        .collect();
    match listing.damaged.first() {
        Some(entry) if found.is_empty() => Err(unreadable(entry)),
        _ => Ok(Some(found)),
    }
}

fn is_not_found(error: &SnapshotError) -> bool {
    matches!(error, SnapshotError::Storage(storage) if storage.is_not_found())
}
