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

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::Path;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{FileStat, fstatat};

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
    let owner = match owner_of(made, parent, path)? {
        Some(owner) if owner.uid() != ROOT => owner,
        _ => return Ok(()),
    };
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

/// The directory that has what was made, by an open descriptor: its name may lead to another one by
/// now. `None` if it is not there under its name.
fn owner_of(made: &File, parent: &Path, path: &Path) -> io::Result<Option<fs::Metadata>> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let directory = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits())
        .open(parent);
    let directory = match directory {
        // It may be written to, and not read: so even for root over NFS.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(None),
        directory => directory?,
    };
    let name = path.file_name().unwrap_or_default();
    let there = match fstatat(&directory, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Err(Errno::ENOENT) => None,
        there => Some(there?),
    };
    let made = made.metadata()?;
    let is_it = |there: &FileStat| {
        #[allow(
            clippy::unnecessary_cast,
            reason = "their widths differ between systems"
        )]
        let found = (there.st_dev as u64, there.st_ino as u64);
        found == (made.dev(), made.ino())
    };
    if there.is_some_and(|there| is_it(&there)) {
        return directory.metadata().map(Some);
    }
    tracing::warn!(path = %path.display(), "stays root's: its directory is another now");
    Ok(None)
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::os::unix::fs::{chown, symlink};

    use coldframe_testkit::{require, scratch};

    use super::*;

    const ONE: u32 = 65533;
    const OTHER: u32 = 65534;

    /// A directory of one user, and one of another.
    fn places() -> Option<tempfile::TempDir> {
        let home = scratch::dir();
        for (name, user) in [("one", ONE), ("other", OTHER)] {
            let dir = home.path().join(name);
            fs::create_dir(&dir).unwrap();
            if chown(dir, Some(user), Some(user)).is_err() {
                require::skipped("root", "only root gives files away");
                return None;
            }
        }
        Some(home)
    }

    #[test]
    fn what_was_made_is_given_to_the_owner_of_the_directory_that_has_it() {
        let Some(home) = places() else { return };
        let (one, other) = (home.path().join("one"), home.path().join("other"));
        let path = one.join("made");
        let made = File::create(&path).unwrap();
        hand_over(&made, &path).unwrap();
        assert_eq!(made.metadata().unwrap().uid(), ONE);
        // Another file of root's in a directory that is put in the place of its own.
        let made = File::create(one.join("next")).unwrap();
        fs::write(other.join("next"), "root's").unwrap();
        fs::rename(&one, home.path().join("aside")).unwrap();
        for _ in 0..2 {
            symlink(&other, &one).unwrap();
            hand_over(&made, &one.join("next")).unwrap();
            assert_eq!(made.metadata().unwrap().uid(), ROOT);
            let there = fs::metadata(other.join("next"));
            assert!(there.is_err() || there.is_ok_and(|there| there.uid() == ROOT));
            fs::remove_file(&one).unwrap();
            let _absent = fs::remove_file(other.join("next"));
        }
    }
}
