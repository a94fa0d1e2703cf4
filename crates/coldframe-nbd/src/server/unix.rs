//! Unix sockets by path. Invariants: nobody but the owner can connect, at any moment; a path is
//! taken only from a server that is dead, and only one of several that try at once takes it;
//! nothing is removed that this process did not make, or find dead.

use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::socket::{self, AddressFamily, Backlog, SockFlag, SockType, UnixAddr};

use crate::NbdError;

/// How long to wait for another server that is starting or stopping in the same directory.
const LOCK_WAIT: Duration = Duration::from_secs(5);

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
    let _lock = lock_parent(path).ok_or_else(wrong_path)?.map_err(failed)?;
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

/// Keeps others of our kind out of the directory while a path in it is looked at and changed.
fn lock_parent(path: &Path) -> Option<io::Result<File>> {
    path.file_name()?;
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    Some(lock_dir(parent.unwrap_or(Path::new("."))))
}

fn lock_dir(dir: &Path) -> io::Result<File> {
    let dir = File::open(dir)?;
    let deadline = Instant::now() + LOCK_WAIT;
    loop {
        match dir.try_lock() {
            Ok(()) => return Ok(dir),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                let why = "another process keeps its directory locked";
                return Err(io::Error::new(io::ErrorKind::TimedOut, why));
            }
            Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(5)),
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Without the lock the file stays: whoever wants the path finds it dead.
        let Some(Ok(_lock)) = lock_parent(&self.path) else {
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
