//! Whose new files and directories are: those that root makes in a directory of somebody else
//! belong to that one.
//!
//! Who runs one command as root in another user's store, or beside their snapshots, must not shut
//! them out of it: what is private to root there could never be read, written or collected again.
//! Every creation of this crate goes through here, under a temporary name where there is one, so
//! that nothing of root's is seen under a final name.
//!
//! Where it cannot be done, as without `CAP_CHOWN` in a container or over NFS that does not trust
//! root (chown(2), `EPERM`), it is left: the file system, and not this process, says whose it is.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::Path;

use nix::dir::Dir;

/// The user whose private files nobody else may open.
const ROOT: u32 = 0;

/// Gives a file that this process has just made, and has open, to the owner of its directory. Only
/// what was made is given away: a link that was there could lead to any file of root's.
pub(crate) fn hand_over(made: &File, path: &Path) -> io::Result<()> {
    let metadata = made.metadata()?;
    if metadata.uid() != ROOT {
        return Ok(());
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let owner = fs::metadata(parent)?;
    if owner.uid() == ROOT {
        return Ok(());
    }
    // A directory is opened by its name after it was made: the owner of the one above could have
    // put another of root's there. One that is empty is no loss, whichever it is.
    if metadata.is_dir() && !is_empty(made)? {
        return Ok(());
    }
    match fchown(made, Some(owner.uid()), Some(owner.gid())) {
        Err(error) if is_not_possible(&error) => {
            tracing::warn!(
                path = %path.display(), owner = owner.uid(), %error,
                "stays root's, in a directory of another user"
            );
            Ok(())
        }
        given => given,
    }
}

fn is_empty(directory: &File) -> io::Result<bool> {
    let mut entries = Dir::from_fd(OwnedFd::from(directory.try_clone()?))?;
    for entry in entries.iter() {
        if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether this process may not give files away, the file system knows no owners, or the owner has
/// no number in this user namespace (chown(2), user_namespaces(7)).
fn is_not_possible(error: &io::Error) -> bool {
    const NOT: [i32; 6] = [
        libc::EPERM,
        libc::EACCES,
        libc::EINVAL,
        libc::ENOTSUP,
        libc::EOPNOTSUPP,
        libc::ENOSYS,
    ];
    error
        .raw_os_error()
        .is_some_and(|number| NOT.contains(&number))
}
