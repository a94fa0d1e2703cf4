//! Unix sockets by path. Invariants: nobody but the owner can connect, at any moment; a path is
//! taken only from a server that is dead, and only one of several that try at once takes it;
//! nothing is removed that this process did not make, or find dead.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::socket::{self, AddressFamily, Backlog, SockFlag, SockType, UnixAddr};

use crate::NbdError;

/// How long to wait for another server that is starting or stopping at the same path.
const LOCK_WAIT: Duration = Duration::from_secs(5);
/// How long a file of root's may be in the way before it is taken for one of a killed process: it
/// is given away right after it was made.
const ROOT_WAIT: Duration = Duration::from_millis(500);
const ROOT: u32 = 0;

/// A socket's file, removed when dropped.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    device_and_inode: (u64, u64),
}

/// Listens at `path` with mode 0600. A socket that a dead server left is replaced; one that a live
/// server listens on is not. The server's own sockets are made so, and any beside them may be.
///
/// # Errors
/// [`NbdError::SocketInUse`], [`NbdError::NotASocket`], [`NbdError::SocketPath`],
/// [`NbdError::Listen`].
pub fn bind(path: &Path) -> Result<(UnixListener, SocketFile), NbdError> {
    let wrong_path = || NbdError::SocketPath { path: path.into() };
    let failed = |source: io::Error| NbdError::Listen {
        addr: format!("unix:{}", path.display()),
        source,
    };
    let addr = UnixAddr::new(path).map_err(|_| wrong_path())?;
    let _lock = lock_path(path).ok_or_else(wrong_path)?.map_err(failed)?;
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(NbdError::NotASocket { path: path.into() });
        }
        Ok(_) if is_live(&addr).map_err(failed)? => {
            return Err(NbdError::SocketInUse { path: path.into() });
        }
        Ok(_) => fs::remove_file(path).map_err(failed)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    listen(path, &addr).map_err(failed)
}

fn listen(path: &Path, addr: &UnixAddr) -> io::Result<(UnixListener, SocketFile)> {
    let fd = new_socket()?;
    socket::bind(fd.as_raw_fd(), addr)?;
    // Until `listen`, nobody can connect: the mode is there in time.
    let made = fs::symlink_metadata(path)?;
    let file = SocketFile {
        path: path.into(),
        device_and_inode: (made.dev(), made.ino()),
    };
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    socket::listen(&fd, Backlog::MAXCONN)?;
    Ok((UnixListener::from(fd), file))
}

fn new_socket() -> io::Result<std::os::fd::OwnedFd> {
    let none = SockFlag::empty();
    let fd = socket::socket(AddressFamily::Unix, SockType::Stream, none, None)?;
    fcntl(&fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    Ok(fd)
}

/// Whether anybody listens, which a socket tells when one connects to it.
fn is_live(addr: &UnixAddr) -> io::Result<bool> {
    let fd = new_socket()?;
    // A live server with a full queue must not make us wait.
    fcntl(&fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    match socket::connect(fd.as_raw_fd(), addr) {
        Err(Errno::ECONNREFUSED | Errno::ENOENT) => Ok(false),
        _ => Ok(true),
    }
}

/// Keeps others of our kind away from a path while it is looked at and changed.
///
/// In a directory that is its owner's alone that is a lock of the directory (flock(2)). Another one
/// anybody may lock who may read it, and so keep servers from starting: there it is a lock of a
/// file beside the socket, which only its owner can open, and which goes with the lock. One that
/// root makes belongs to the directory's owner, who must get past it if its maker is killed.
enum PathLock {
    Directory { _directory: File },
    Beside { file: File, path: PathBuf },
}

impl Drop for PathLock {
    fn drop(&mut self) {
        if let Self::Beside { file, path } = self
            && is_at(file, path)
            && let Err(error) = fs::remove_file(&*path)
        {
            tracing::debug!(%error, path = %path.display(), "cannot remove a lock");
        }
    }
}

fn lock_path(path: &Path) -> Option<io::Result<PathLock>> {
    let name = path.file_name()?;
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    let mut beside = OsString::from(".");
    beside.push(name);
    beside.push(".lock");
    Some(lock_in(parent, &parent.join(beside)))
}

fn lock_in(parent: &Path, beside: &Path) -> io::Result<PathLock> {
    let deadline = Instant::now() + LOCK_WAIT;
    let found = fs::metadata(parent)?;
    let us = nix::unistd::geteuid().as_raw();
    // One that may be entered and written to, and not read, cannot be locked.
    if found.uid() == us
        && found.mode() & 0o077 == 0
        && let Ok(directory) = File::open(parent)
    {
        wait_for(&directory, deadline)?;
        let _directory = directory;
        return Ok(PathLock::Directory { _directory });
    }
    let deadline_of_root = Instant::now() + ROOT_WAIT;
    loop {
        let file = match open_lock(beside, &found) {
            Err(error) if found.uid() == us && is_left_by_root(&error, beside) => {
                match Instant::now() >= deadline_of_root {
                    true => remove_if_there(beside)?,
                    false => thread::sleep(Duration::from_millis(5)),
                }
                continue;
            }
            Ok(None) => continue,
            Ok(Some(file)) => file,
            Err(error) => return Err(error),
        };
        let made = file.metadata()?;
        if !made.is_file() || ![us, found.uid()].contains(&made.uid()) {
            let why = format!("{} is not this user's", beside.display());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        wait_for(&file, deadline)?;
        // Whoever had the lock before took the file away with it.
        if is_at(&file, beside) {
            let path = beside.to_path_buf();
            return Ok(PathLock::Beside { file, path });
        }
    }
}

/// Opens the file of a lock in `directory`, or makes it. Only what was made is given away: the
/// directory's owner could have put a link to any file of root's there. `None` if it was there, and
/// went away with the process that had it.
fn open_lock(beside: &Path, directory: &fs::Metadata) -> io::Result<Option<File>> {
    let open = |is_new| {
        let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(is_new)
            .mode(0o600)
            .custom_flags(flags.bits())
            .open(beside)
    };
    match open(true) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match open(false) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            opened => opened.map(Some),
        },
        made => {
            let made = made?;
            if made.metadata()?.uid() == ROOT
                && directory.uid() != ROOT
                && let Err(error) = fchown(&made, Some(directory.uid()), Some(directory.gid()))
            {
                tracing::debug!(%error, path = %beside.display(), "a lock stays root's");
            }
            Ok(Some(made))
        }
    }
}

/// Whether a lock cannot be opened since it is root's: of one that was killed, or that gives it
/// away right now.
fn is_left_by_root(error: &io::Error, beside: &Path) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
        && fs::symlink_metadata(beside).is_ok_and(|found| found.is_file() && found.uid() == ROOT)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Whether a path still names this file.
fn is_at(file: &File, path: &Path) -> bool {
    let ours = file.metadata().map(|found| (found.dev(), found.ino()));
    let there = fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()));
    matches!((ours, there), (Ok(ours), Ok(there)) if ours == there)
}

fn wait_for(file: &File, deadline: Instant) -> io::Result<()> {
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            // A signal that the program around handles must not end the wait.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                let why = "another process keeps the lock of its path";
                return Err(io::Error::new(io::ErrorKind::TimedOut, why));
            }
            Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(5)),
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Without the lock the file stays: whoever wants the path finds it dead.
        let Some(Ok(_lock)) = lock_path(&self.path) else {
            return;
        };
        let found = fs::symlink_metadata(&self.path);
        if found.is_ok_and(|found| (found.dev(), found.ino()) == self.device_and_inode)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::debug!(%error, path = %self.path.display(), "cannot remove the socket");
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::os::unix::fs::chown;

    use coldframe_testkit::{require, scratch};

    use super::*;

    #[test]
    fn a_directory_that_went_away_is_an_error() {
        let dir = scratch::dir();
        let found = fs::metadata(dir.path()).unwrap();
        let beside = dir.path().join("gone/.s.lock");
        let error = open_lock(&beside, &found).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_lock_that_root_makes_belongs_to_the_owner_of_its_directory() {
        const USER: u32 = 65534;
        let dir = scratch::dir();
        let beside = dir.path().join(".s.lock");
        if nix::unistd::geteuid().as_raw() != ROOT
            || chown(dir.path(), Some(USER), Some(USER)).is_err()
        {
            return require::skipped("root", "only root makes files that others cannot open");
        }
        let owner = || fs::metadata(&beside).unwrap().uid();
        let lock = lock_in(dir.path(), &beside).unwrap();
        assert_eq!(owner(), USER);
        drop(lock);
        assert!(!beside.exists());
        // One that its owner left is taken, a link to a file of root's is not given away.
        File::create(&beside).unwrap();
        chown(&beside, Some(USER), Some(USER)).unwrap();
        drop(lock_in(dir.path(), &beside).unwrap());
        let secret = scratch::dir();
        let secret = secret.path().join("secret");
        fs::write(&secret, "root's").unwrap();
        if fs::hard_link(&secret, &beside).is_ok() {
            drop(lock_in(dir.path(), &beside).unwrap());
            assert_eq!(fs::metadata(&secret).unwrap().uid(), ROOT);
        }
    }
}
