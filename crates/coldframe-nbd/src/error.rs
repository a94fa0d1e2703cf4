//! What can go wrong: with the server ([`NbdError`]), and with one request ([`ExportError`]).

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::proto::Errno;

/// Why a server could not start, or not stop cleanly.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NbdError {
    /// A live server listens on the socket: it is left alone.
    #[error("a live server listens on {}", path.display())]
    SocketInUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something that is no socket lies at the path: it is left alone.
    #[error("{} exists and is not a socket", path.display())]
    NotASocket {
        /// What was asked for.
        path: PathBuf,
    },
    /// The path is too long for a socket, or has no directory.
    #[error("{} cannot name a socket", path.display())]
    SocketPath {
        /// What was asked for.
        path: PathBuf,
    },
    /// Listening failed.
    #[error("cannot listen on {addr}")]
    Listen {
        /// Where.
        addr: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The server's thread could not be started.
    #[error("cannot start the server's thread")]
    Spawn {
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Other hosts would reach a server that serves this one only; see
    /// [`crate::NbdServer::loopback_only`].
    #[error("{addr} is not a loopback address")]
    NotLoopback {
        /// What was asked for, or what its name was resolved to.
        addr: String,
    },
    /// An address is not `unix:PATH` or `tcp:HOST:PORT`.
    #[error("{text:?} is not an address: unix:PATH or tcp:HOST:PORT (IPv6 as tcp:[ADDR]:PORT)")]
    Address {
        /// What was given.
        text: String,
    },
    /// Two exports have one name, or the name has more than 4096 bytes or a NUL.
    #[error("{name:?} cannot name another export")]
    ExportName {
        /// What was given.
        name: String,
    },
    /// The flush at the end of an export failed: what was not flushed before may be lost.
    #[error("cannot flush export {name:?} at the end")]
    FinalFlush {
        /// The export.
        name: String,
        /// What the export said.
        #[source]
        source: ExportError,
    },
    /// Exports did not return from requests within [`crate::Limits::stop_timeout`]. Their threads
    /// go on; what else there was is flushed.
    #[error(
        "{connections} connections have a request in flight that has not returned in {after:?}"
    )]
    RequestHangs {
        /// How many clients wait.
        connections: usize,
        /// How long it was waited.
        after: Duration,
    },
    /// The flush at the end did not return within [`crate::Limits::stop_timeout`]: what was not
    /// flushed before may be lost.
    #[error("the final flush has not returned in {after:?}")]
    FlushHangs {
        /// How long it was waited.
        after: Duration,
    },
    /// A key or certificate cannot be used.
    #[cfg(feature = "tls")]
    #[error("cannot set up TLS from {}", path.display())]
    TlsFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// A certificate is not accepted, or its key does not belong to it.
    #[cfg(feature = "tls")]
    #[error("cannot set up TLS with {}", path.display())]
    Tls {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: rustls::Error,
    },
}

/// Why an export could not do what it was asked to. The client is told all of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ExportError {
    errno: Errno,
    message: String,
}

impl ExportError {
    /// An error of this kind, with a sentence for readers of the client's log.
    #[must_use]
    pub fn new(errno: Errno, message: impl Into<String>) -> Self {
        Self {
            errno,
            message: message.into(),
        }
    }

    /// What the reply says.
    #[must_use]
    pub fn errno(&self) -> Errno {
        self.errno
    }

    /// The sentence.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl From<Errno> for ExportError {
    fn from(errno: Errno) -> Self {
        Self::new(errno, errno.to_string())
    }
}

impl From<io::Error> for ExportError {
    /// The protocol's number that is nearest: a full disk, quota or file size limit is "no space",
    /// and all that is unknown is an I/O error.
    fn from(error: io::Error) -> Self {
        let errno = match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Errno::NotPermitted
            }
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => Errno::NoSpace,
            io::ErrorKind::OutOfMemory => Errno::NoMemory,
            io::ErrorKind::InvalidInput => Errno::Invalid,
            io::ErrorKind::Unsupported => Errno::NotSupported,
            _ => Errno::Io,
        };
        Self::new(errno, error.to_string())
    }
}
