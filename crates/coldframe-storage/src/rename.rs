//! Renaming that never takes the place of anything.
//!
//! Three ways, each where the one before is not to be had:
//!
//! 1. `RENAME_NOREPLACE` (renameat2(2)): the kernel refuses in the same step. NFS, 9p and older
//!    FUSE file systems do not know the flag, nor do other systems than Linux.
//! 2. For files, link(2) and unlink(2): link never replaces. vfat, exFAT, SMB and many FUSE file
//!    systems have no hard links. For directories, rename(2): it replaces nothing but an empty
//!    directory, which loses no data.
//! 3. For files where there are no links either: a look and a rename(2), both under a lock.
//!
//! Why the third is enough: the lock is flock(2) on a marker file beside the name, the same for all
//! who publish that name, so two processes of ours never are between look and rename together, and
//! the kernel drops the lock of one that died. A program that is not ours could make the name in
//! that instant, and lose what it made; without links or the flag there is no call that prevents
//! it. Making the final name itself with `O_EXCL` first would, but would show an empty file under
//! it, for good after a power cut. The marker is a temporary name, removed under its lock; that of
//! a dead process is swept like any other.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use crate::directory::Parent;
use crate::living::Live;
use crate::lock::lock;
use crate::owner::hand_over;
use crate::temporary;
use crate::{IoContext, Operation, StorageError};

#[cfg(test)]
mod tests;

/// Renames a file within its directory, unless `to` is taken, and makes that durable.
///
/// # Errors
/// [`StorageError::BadName`]; [`StorageError::Exists`]; [`StorageError::Open`] if the directory
/// cannot be opened, [`StorageError::Rename`]: the file has its old name;
/// [`StorageError::NotDurable`]: it has the new one, perhaps not after a power cut.
pub fn rename_new(from: &Path, to: &Path) -> Result<(), StorageError> {
    let (to, parent) = temporary::split_dest(to)?;
    let parent = Parent::open(parent)?;
    let (from, _) = temporary::split(from)?;
    new_file(&from, &to).at(Operation::Rename, &to)?;
    parent.sync_beside(&to).at(Operation::MakeDurable, &to)
}

/// Renames a file onto whatever has the name `to`; a power cut may undo that: for caches.
///
/// # Errors
/// [`StorageError::Rename`].
pub fn replace_in_cache(from: &Path, to: &Path) -> Result<(), StorageError> {
    fs::rename(from, to).at(Operation::Rename, to)
}

/// Renames a file, unless `to` is taken.
pub(crate) fn new_file(from: &Path, to: &Path) -> io::Result<()> {
    match no_replace(from, to) {
        Err(error) if is_unsupported(&error) => {}
        result => return result,
    }
    match file_by_link(from, to) {
        Err(error) if has_no_links(&error) => file_under_lock(from, to),
        result => result,
    }
}

/// Renames a directory that has something in it, unless `to` is taken.
pub(crate) fn new_directory(from: &Path, to: &Path) -> io::Result<()> {
    match no_replace(from, to) {
        Err(error) if is_unsupported(&error) => directory_by_rename(from, to),
        result => result,
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn no_replace(from: &Path, to: &Path) -> io::Result<()> {
    use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
    Ok(renameat2(
        AT_FDCWD,
        from,
        AT_FDCWD,
        to,
        RenameFlags::RENAME_NOREPLACE,
    )?)
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn no_replace(_from: &Path, _to: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Whether the kernel or the file system does not know the flag (rename(2), `EINVAL`).
fn is_unsupported(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, Unsupported};
    matches!(error.kind(), InvalidInput | Unsupported)
}

/// Whether the file system has no hard links, or none of this file: link(2) says `EPERM`, and some
/// file systems say otherwise.
fn has_no_links(error: &io::Error) -> bool {
    const NONE: [i32; 7] = [
        libc::EPERM,
        libc::ENOTSUP,
        libc::EOPNOTSUPP,
        libc::ENOSYS,
        libc::EMLINK,
        libc::EXDEV,
        libc::EINVAL,
    ];
    error
        .raw_os_error()
        .is_some_and(|number| NONE.contains(&number))
}

/// link(2) never replaces; a crash in between leaves the temporary name as a second one.
fn file_by_link(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        // A request that NFS sent twice fails for its own success (link(2), "BUGS").
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && is_same(from, to) => {}
        linked => linked?,
    }
    fs::remove_file(from)
}

fn is_same(one: &Path, other: &Path) -> bool {
    let found = fs::symlink_metadata(one)
        .ok()
        .zip(fs::symlink_metadata(other).ok());
    found.is_some_and(|(one, other)| (one.dev(), one.ino()) == (other.dev(), other.ino()))
}

fn open_marker(marker: &Path) -> io::Result<File> {
    let open = |is_new| {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(is_new)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .open(marker)
    };
    for _ in 0..MARKER_TRIES {
        match open(true) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => {
                let made = made?;
                hand_over(&made, marker)?;
                return Ok(made);
            }
        }
        match open(false) {
            // Its owner was ready a moment ago.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened,
        }
    }
    Err(not_settled())
}

/// How often a marker is made or found, and gone before it can be used: by others who are quick,
/// unless the place contradicts itself.
const MARKER_TRIES: usize = 1024;

fn not_settled() -> io::Error {
    io::Error::other("the marker of the rename exists and is not found, again and again")
}

fn locked_marker(marker: &Path) -> io::Result<File> {
    for _ in 0..MARKER_TRIES {
        let file = open_marker(marker)?;
        lock(&file)?;
        // Its last owner removed it, so that another marker has the name: that one counts.
        if temporary::is_still_at(&file, marker)? {
            return Ok(file);
        }
    }
    Err(not_settled())
}

/// The last way of the module's page.
fn file_under_lock(from: &Path, to: &Path) -> io::Result<()> {
    let marker = temporary::marker(to);
    let _live = Live::new(&marker);
    let _locked = locked_marker(&marker)?;
    let renamed = match fs::symlink_metadata(to) {
        Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs::rename(from, to),
        Err(error) => Err(error),
    };
    if let Err(error) = fs::remove_file(&marker) {
        tracing::warn!(path = %marker.display(), %error, "marker left behind");
    }
    renamed
}

/// A directory takes the place of nothing but an empty directory (rename(2)), which loses no data.
fn directory_by_rename(from: &Path, to: &Path) -> io::Result<()> {
    use io::ErrorKind::{AlreadyExists, DirectoryNotEmpty, NotADirectory};
    fs::rename(from, to).map_err(|error| match error.kind() {
        DirectoryNotEmpty | NotADirectory => AlreadyExists.into(),
        _ => error,
    })
}
