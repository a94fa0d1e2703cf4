//! Accepting clients. Invariants: an error of one client never ends the loop, and one that lasts
//! never makes it spin; clients beyond the limit are closed at once.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::connections::Connections;
use super::socket::Socket;
use super::unix::{self, SocketFile};
use super::{Shared, connection};
use crate::addr::is_local;
use crate::{ListenAddr, NbdError};

/// How long to leave clients waiting where files or threads have run out.
const BACK_OFF: Duration = Duration::from_millis(50);

/// How often to look for a port that is free at all addresses of a name.
const PORT_TRIES: u32 = 16;

/// Listening sockets.
pub(super) enum Listener {
    Unix {
        listener: UnixListener,
        _file: SocketFile,
    },
    /// One for each address, all of one port.
    Tcp {
        listeners: Vec<TcpListener>,
        addr: ListenAddr,
    },
}

impl Listener {
    pub(super) fn bind(addr: &ListenAddr, loopback_only: bool) -> Result<Self, NbdError> {
        let failed = |source| NbdError::Listen {
            addr: addr.to_string(),
            source,
        };
        if let ListenAddr::Unix(path) = addr {
            let (listener, _file) = unix::bind(path)?;
            listener.set_nonblocking(true).map_err(failed)?;
            return Ok(Self::Unix { listener, _file });
        }
        let found = addr.socket_addrs().map_err(failed)?;
        if loopback_only && let Some(far) = found.iter().find(|addr| !is_local(addr)) {
            let addr = format!("tcp:{far}");
            return Err(NbdError::NotLoopback { addr });
        }
        let listeners = bind_all(&found).map_err(failed)?;
        for listener in &listeners {
            listener.set_nonblocking(true).map_err(failed)?;
        }
        let first = listeners.first().ok_or(io::ErrorKind::AddrNotAvailable);
        let bound = first.map_err(|kind| failed(kind.into()))?.local_addr();
        let bound = bound.map_err(failed)?;
        let addr = match addr {
            ListenAddr::TcpName { host, .. } => ListenAddr::TcpName {
                host: host.clone(),
                port: bound.port(),
            },
            _ => bound.into(),
        };
        Ok(Self::Tcp { listeners, addr })
    }

    /// The address that the system chose, where it chose one.
    pub(super) fn addr(&self) -> Option<&ListenAddr> {
        match self {
            Self::Unix { .. } => None,
            Self::Tcp { addr, .. } => Some(addr),
        }
    }

    /// The next client; `WouldBlock` if nobody waits.
    fn accept(&self) -> io::Result<Socket> {
        match self {
            Self::Unix { listener, .. } => Ok(Socket::Unix(listener.accept()?.0)),
            Self::Tcp { listeners, .. } => {
                for listener in listeners {
                    match listener.accept() {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        accepted => return Ok(Socket::Tcp(accepted?.0)),
                    }
                }
                Err(io::ErrorKind::WouldBlock.into())
            }
        }
    }

    fn fds(&self) -> Vec<BorrowedFd<'_>> {
        match self {
            Self::Unix { listener, .. } => vec![listener.as_fd()],
            Self::Tcp { listeners, .. } => listeners.iter().map(AsFd::as_fd).collect(),
        }
    }
}

/// Binds all addresses of a name, which have one port, to one port. An address that this host does
/// not have (`::1` where IPv6 is off) is left out, unless it is the only one.
fn bind_all(found: &[SocketAddr]) -> io::Result<Vec<TcpListener>> {
    let mut tries = 0;
    loop {
        let mut listeners: Vec<TcpListener> = Vec::new();
        let mut refused = None;
        for addr in found {
            let mut addr = *addr;
            if let Some(first) = listeners.first() {
                addr.set_port(first.local_addr()?.port());
            }
            match TcpListener::bind(addr) {
                Ok(listener) => listeners.push(listener),
                Err(error) => {
                    let is_absent = is_absent(&error);
                    refused = Some(error);
                    if !is_absent {
                        listeners.clear();
                        break;
                    }
                }
            }
        }
        let Some(error) = refused.filter(|_| listeners.is_empty()) else {
            return Ok(listeners);
        };
        // A port that was free at one address may be taken at another one.
        let is_any = found.iter().all(|addr| addr.port() == 0);
        tries += 1;
        if !is_any || error.kind() != io::ErrorKind::AddrInUse || tries == PORT_TRIES {
            return Err(error);
        }
    }
}

/// Whether an address is none of this host.
fn is_absent(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw);
    matches!(code, Some(Errno::EADDRNOTAVAIL | Errno::EAFNOSUPPORT))
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
                let fds = listener.fds().into_iter().chain([woken.as_fd()]);
                let mut fds: Vec<_> = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
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
