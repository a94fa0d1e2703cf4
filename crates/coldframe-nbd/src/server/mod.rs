//! The server: sockets and threads around [`crate::proto`].
//!
//! Invariants: one thread that accepts and one that watches; one thread per connection, more only
//! while its export is slow; no lock is held while an export works; a reply is sent once; a
//! stopped server has no thread left, and has flushed after the last write.

mod budget;
mod buffer;
mod channel;
mod complaints;
mod connection;
mod connections;
mod handshake;
mod input;
mod listen;
mod long;
mod outgoing;
mod pace;
mod peers;
mod perform;
mod socket;
#[cfg(feature = "tls")]
mod tls;
mod unix;
mod watch;

use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{io, net, thread};

use crate::exports::Exports;
use crate::proto::TlsPolicy;
use crate::{Export, Limits, ListenAddr, NbdError};
use budget::Budget;
use complaints::Complaints;
use connections::Connections;
use listen::Listener;
use peers::Peers;
#[cfg(feature = "tls")]
pub use tls::TlsConfig;
pub use unix::{SocketFile, bind as bind_unix};
use watch::Watch;

/// What to serve, and how; [`NbdServer::listen`] starts it.
pub struct NbdServer {
    exports: Exports,
    limits: Limits,
    tls: Tls,
    is_loopback_only: bool,
}

/// TLS as it was asked for.
struct Tls {
    policy: TlsPolicy,
    #[cfg(feature = "tls")]
    config: Option<TlsConfig>,
}

/// What all connections share.
struct Shared {
    exports: Exports,
    limits: Limits,
    tls: Tls,
    budget: Arc<Budget>,
    peers: Peers,
    extra_workers: AtomicUsize,
    watch: Arc<Watch>,
    complaints: Complaints,
    is_stopping: AtomicBool,
}

impl NbdServer {
    /// Serves one export, without a name: what clients get that name none.
    #[must_use]
    pub fn new(export: impl Export + 'static) -> Self {
        let mut exports = Exports::default();
        exports
            .add(String::new(), Arc::new(export))
            .expect("the empty name is free and short");
        Self::with(exports)
    }

    /// Serves an export under a name; it is also the default one.
    ///
    /// # Errors
    /// [`NbdError::ExportName`].
    pub fn named(name: impl Into<String>, export: impl Export + 'static) -> Result<Self, NbdError> {
        Self::with(Exports::default()).export(name, export)
    }

    fn with(exports: Exports) -> Self {
        Self {
            exports,
            limits: Limits::default(),
            tls: Tls {
                policy: TlsPolicy::Absent,
                #[cfg(feature = "tls")]
                config: None,
            },
            is_loopback_only: false,
        }
    }

    /// Serves one more export.
    ///
    /// # Errors
    /// [`NbdError::ExportName`].
    pub fn export(
        mut self,
        name: impl Into<String>,
        export: impl Export + 'static,
    ) -> Result<Self, NbdError> {
        self.exports.add(name.into(), Arc::new(export))?;
        Ok(self)
    }

    /// Bounds clients otherwise than [`Limits::default`].
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Offers TLS to clients, or insists on it.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, config: TlsConfig, policy: TlsPolicy) -> Self {
        self.tls.policy = policy;
        self.tls.config = Some(config);
        self
    }

    /// Refuses to listen on TCP where other hosts could connect: NBD itself has no authentication,
    /// and any client that connects may read and write.
    #[must_use]
    pub fn loopback_only(mut self) -> Self {
        self.is_loopback_only = true;
        self
    }

    /// Serves at `addr` until the handle is stopped or dropped.
    ///
    /// A Unix socket gets mode 0600. One that a dead server left is replaced; one that a live
    /// server listens on is not. The path is locked (flock) for that moment, so that of
    /// several servers that start at once one wins.
    ///
    /// # Errors
    /// [`NbdError::SocketInUse`], [`NbdError::NotASocket`], [`NbdError::SocketPath`],
    /// [`NbdError::NotLoopback`], [`NbdError::Listen`], [`NbdError::Spawn`].
    pub fn listen(self, addr: impl Into<ListenAddr>) -> Result<NbdHandle, NbdError> {
        let addr = addr.into();
        let failed = |source| NbdError::Listen {
            addr: addr.to_string(),
            source,
        };
        let listener = Listener::bind(&addr, self.is_loopback_only)?;
        let (wake, woken) = UnixStream::pair().map_err(failed)?;
        let addr = listener.addr().cloned().unwrap_or(addr);
        let shared = Arc::new(Shared {
            exports: self.exports,
            limits: self.limits,
            tls: self.tls,
            budget: Arc::new(Budget::new(self.limits.in_flight_bytes_max)),
            peers: Peers::new(self.limits.in_flight_bytes_max),
            extra_workers: AtomicUsize::new(0),
            watch: Arc::default(),
            complaints: Complaints::default(),
            is_stopping: AtomicBool::new(false),
        });
        let watching = (shared.watch.start()).map_err(|source| NbdError::Spawn { source })?;
        let connections = Arc::new(Connections::default());
        let accepting = {
            let (shared, connections) = (Arc::clone(&shared), Arc::clone(&connections));
            thread::Builder::new()
                .name("nbd-accept".into())
                .spawn(move || listen::accept_all(&listener, &woken, &shared, &connections))
        };
        let running = match accepting {
            Ok(accepting) => Some(Running {
                wake,
                accepting,
                watching,
            }),
            Err(source) => {
                shared.watch.stop();
                return Err(NbdError::Spawn { source });
            }
        };
        Ok(NbdHandle {
            addr,
            shared,
            connections,
            running,
        })
    }
}

/// A running server. Dropping it stops it as [`NbdHandle::stop`] does, but tells no errors.
pub struct NbdHandle {
    addr: ListenAddr,
    shared: Arc<Shared>,
    connections: Arc<Connections>,
    running: Option<Running>,
}

/// The threads of a server beside those of its clients.
struct Running {
    /// The accepting thread ends once this is closed.
    wake: UnixStream,
    accepting: JoinHandle<()>,
    watching: JoinHandle<()>,
}

impl NbdHandle {
    /// Where it listens; a port is the one that was taken.
    #[must_use]
    pub fn addr(&self) -> &ListenAddr {
        &self.addr
    }

    /// The NBD URI of an export, with TLS where it is required; the empty name is the default one.
    #[must_use]
    pub fn uri(&self, export: &str) -> String {
        match self.shared.tls.policy {
            TlsPolicy::Required => self.addr.tls_uri(export),
            _ => self.addr.uri(export),
        }
    }

    /// Clients connected now.
    #[must_use]
    pub fn connection_count(&self) -> usize {
        self.connections.len()
    }

    /// Takes no more requests, finishes those in flight, closes all connections, removes the
    /// socket, flushes every export.
    ///
    /// Waits for clients [`Limits::stop_grace`], and for exports [`Limits::stop_timeout`]. A
    /// request that caches ends at once, one that trims or zeroes after the grace; a call of an
    /// export that hangs cannot be ended, and is an error: its thread goes on, and has the export.
    ///
    /// # Errors
    /// [`NbdError::RequestHangs`], [`NbdError::FlushHangs`], [`NbdError::FinalFlush`].
    pub fn stop(mut self) -> Result<(), NbdError> {
        self.stop_all()
    }

    fn stop_all(&mut self) -> Result<(), NbdError> {
        let Some(running) = self.running.take() else {
            return Ok(());
        };
        self.shared.is_stopping.store(true, Ordering::SeqCst);
        drop(running.wake);
        if running.accepting.join().is_err() {
            tracing::error!("the accepting thread panicked");
        }
        // Readers see the end of their input now, and writers may still reply.
        self.connections.shutdown(net::Shutdown::Read);
        let grace = self.shared.limits.stop_grace;
        let after = self.shared.limits.stop_timeout;
        let mut finished = Ok(());
        if !self.connections.wait_until_none(grace) {
            self.connections.shutdown(net::Shutdown::Both);
            if !self.connections.wait_until_none(after) {
                let connections = self.connections.len();
                finished = Err(NbdError::RequestHangs { connections, after });
            }
        }
        self.shared.watch.stop();
        if running.watching.join().is_err() {
            tracing::error!("the watching thread panicked");
        }
        finished.and(flush(&self.shared, after))
    }
}

/// Flushes all exports, on a thread of its own: one that hangs is not waited for any longer.
fn flush(shared: &Arc<Shared>, timeout: Duration) -> Result<(), NbdError> {
    let (sender, flushed) = mpsc::sync_channel(1);
    let flushing = {
        let shared = Arc::clone(shared);
        let thread = thread::Builder::new().name("nbd-flush".into());
        thread.spawn(move || {
            let result = shared.exports.flush();
            drop(shared);
            // Nobody may be waiting any more.
            let _ = sender.send(result);
        })
    };
    let Ok(flushing) = flushing else {
        return shared.exports.flush();
    };
    let Ok(result) = flushed.recv_timeout(timeout) else {
        return Err(NbdError::FlushHangs { after: timeout });
    };
    if flushing.join().is_err() {
        tracing::error!("the flushing thread panicked");
    }
    result
}

impl Drop for NbdHandle {
    fn drop(&mut self) {
        if let Err(error) = self.stop_all() {
            let source = std::error::Error::source(&error).map(ToString::to_string);
            tracing::error!(%error, source, "the server stopped, but not all is durable");
        }
    }
}

/// Locks; a panic elsewhere leaves nothing half done under our locks.
fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The error of a client that was too slow.
fn timed_out() -> io::Error {
    io::ErrorKind::TimedOut.into()
}
