//! Unix and TCP streams as one. Invariant: a call that was interrupted is made again.

use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, setsockopt, sockopt};

use super::peers::Peer;

/// The event of a peer that ended its side, where there is one of its own.
#[cfg(any(target_os = "linux", target_os = "android"))]
const LEAVING: PollFlags = PollFlags::from_bits_retain(nix::libc::POLLRDHUP);
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const LEAVING: PollFlags = PollFlags::empty();

/// A connected stream.
pub(super) enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Socket {
    /// Who connected.
    pub(super) fn peer(&self) -> Peer {
        match self {
            Self::Unix(stream) => process_behind(stream).map_or(Peer::Unknown, Peer::Process),
            Self::Tcp(stream) => {
                let address = stream.peer_addr();
                address.map_or(Peer::Unknown, |address| Peer::Address(address.ip()))
            }
        }
    }

    /// Readies a stream that was just accepted.
    pub(super) fn prepare(&self) -> io::Result<()> {
        match self {
            Self::Unix(stream) => stream.set_nonblocking(false),
            Self::Tcp(stream) => {
                stream.set_nonblocking(false)?;
                // A reply must not wait for the next one.
                stream.set_nodelay(true)?;
                // An idle client that lost its power is noticed at last.
                Ok(setsockopt(stream, sockopt::KeepAlive, &true)?)
            }
        }
    }

    pub(super) fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        retry(|| match self {
            Self::Unix(stream) => (&mut &*stream).read(buf),
            Self::Tcp(stream) => (&mut &*stream).read(buf),
        })
    }

    pub(super) fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        retry(|| match self {
            Self::Unix(stream) => (&mut &*stream).write_vectored(parts),
            Self::Tcp(stream) => (&mut &*stream).write_vectored(parts),
        })
    }

    /// Whether a read would not wait.
    pub(super) fn is_readable(&self) -> bool {
        self.shows(PollFlags::POLLIN)
    }

    /// Whether the peer sends nothing more: it has left, or ended its side.
    pub(super) fn is_leaving(&self) -> bool {
        self.shows(LEAVING)
    }

    /// Whether nothing that is written can arrive any more.
    pub(super) fn is_gone(&self) -> bool {
        self.shows(PollFlags::empty())
    }

    /// Whether one of these events is there, or an error or the end of both directions, which are
    /// always told.
    fn shows(&self, events: PollFlags) -> bool {
        let fd = match self {
            Self::Unix(stream) => stream.as_fd(),
            Self::Tcp(stream) => stream.as_fd(),
        };
        let mut fds = [PollFd::new(fd, events)];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|count| count > 0)
    }

    /// Bounds how long a read waits.
    pub(super) fn set_read_timeout(&self, timeout: Duration) -> io::Result<()> {
        let timeout = Some(timeout.max(Duration::from_millis(1)));
        match self {
            Self::Unix(stream) => stream.set_read_timeout(timeout),
            Self::Tcp(stream) => stream.set_read_timeout(timeout),
        }
    }

    /// Bounds how long a write waits.
    pub(super) fn set_write_timeout(&self, timeout: Duration) -> io::Result<()> {
        let timeout = Some(timeout.max(Duration::from_millis(1)));
        match self {
            Self::Unix(stream) => stream.set_write_timeout(timeout),
            Self::Tcp(stream) => stream.set_write_timeout(timeout),
        }
    }

    /// Ends one or both directions; harmless where they have ended.
    pub(super) fn shutdown(&self, how: Shutdown) {
        let ended = match self {
            Self::Unix(stream) => stream.shutdown(how),
            Self::Tcp(stream) => stream.shutdown(how),
        };
        if let Err(error) = ended {
            tracing::trace!(%error, "the client was gone already");
        }
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn process_behind(stream: &UnixStream) -> Option<i32> {
    let peer = getsockopt(stream, sockopt::PeerCredentials).ok()?;
    Some(peer.pid())
}

#[cfg(target_os = "macos")]
fn process_behind(stream: &UnixStream) -> Option<i32> {
    getsockopt(stream, sockopt::LocalPeerPid).ok()
}

fn retry(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
