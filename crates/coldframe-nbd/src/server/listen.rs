//! Accepting clients. Invariants: an error of one client never ends the loop, and one that lasts
//! never makes it spin; clients beyond the limit are closed at once.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::connections::Connections;
use super::socket::Socket;
use super::unix::{self, SocketFile};
use super::{Shared, connection};
use crate::{ListenAddr, NbdError};

/// How long to leave clients waiting where files or threads have run out.
const BACK_OFF: Duration = Duration::from_millis(50);

/// A listening socket.
pub(super) enum Listener {
    Unix {
        listener: UnixListener,
        _file: SocketFile,
    },
    Tcp(TcpListener),
}

impl Listener {
    pub(super) fn bind(addr: &ListenAddr) -> Result<Self, NbdError> {
        let failed = |source| NbdError::Listen {
            addr: addr.to_string(),
            source,
        };
        match addr {
            ListenAddr::Unix(path) => {
                let (listener, _file) = unix::bind(path)?;
                listener.set_nonblocking(true).map_err(failed)?;
                Ok(Self::Unix { listener, _file })
            }
            ListenAddr::Tcp(addr) => {
                let listener = TcpListener::bind(addr).map_err(failed)?;
                listener.set_nonblocking(true).map_err(failed)?;
                Ok(Self::Tcp(listener))
            }
        }
    }

    /// The address that the system chose, where it chose one.
    pub(super) fn addr(&self) -> io::Result<Option<ListenAddr>> {
        match self {
            Self::Unix { .. } => Ok(None),
            Self::Tcp(listener) => Ok(Some(listener.local_addr()?.into())),
        }
    }

    fn accept(&self) -> io::Result<Socket> {
        match self {
            Self::Unix { listener, .. } => Ok(Socket::Unix(listener.accept()?.0)),
            Self::Tcp(listener) => Ok(Socket::Tcp(listener.accept()?.0)),
        }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix { listener, .. } => listener.as_fd(),
            Self::Tcp(listener) => listener.as_fd(),
        }
    }
}

/// Accepts until the server is stopping; `woken` becomes readable then.
pub(super) fn accept_all(
    listener: &Listener,
    woken: &UnixStream,
    shared: &Arc<Shared>,
    connections: &Arc<Connections>,
) {
    while !shared.is_stopping.load(Ordering::SeqCst) {
        match listener.accept() {
            Ok(socket) => admit(socket, shared, connections),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let (client, stop) = (listener.fd(), woken.as_fd());
                let mut fds = [client, stop].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
                if let Err(error) = poll(&mut fds, PollTimeout::NONE) {
                    tracing::debug!(%error, "waiting for clients was interrupted");
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a client");
                thread::sleep(BACK_OFF);
            }
        }
    }
}

fn admit(socket: Socket, shared: &Arc<Shared>, connections: &Arc<Connections>) {
    if let Err(error) = socket.prepare() {
        tracing::debug!(%error, "a client was gone at once");
        return;
    }
    let socket = Arc::new(socket);
    let Some(admission) = connections.admit(&socket, shared.limits.connections_max) else {
        tracing::warn!("too many clients: one was turned away");
        return;
    };
    let shared = Arc::clone(shared);
    let thread = thread::Builder::new().name("nbd-client".into());
    let spawned = thread.spawn(move || {
        connection::serve(socket, shared);
        drop(admission);
    });
    if let Err(error) = spawned {
        tracing::warn!(%error, "no thread for a client");
        thread::sleep(BACK_OFF);
    }
}
