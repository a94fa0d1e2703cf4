//! TLS on a socket, by rustls. Invariants: the session's lock is never held while the socket
//! waits, so that reading and writing do not stop each other; records are written in the order
//! in which they were made (the connection's output lock).

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection};

use super::channel::write_all;
use super::socket::Socket;
use super::{lock, timed_out};
use crate::NbdError;

/// Bytes read at a time: one record and its frame.
const RECORD_BYTES: usize = 17 << 10;

/// Bytes encrypted at a time.
const WRITE_BYTES: usize = 64 << 10;

/// The longest file of certificates.
const PEM_BYTES_MAX: u64 = 1 << 20;

/// How long saying goodbye may take.
const CLOSE_TIME: Duration = Duration::from_secs(1);

/// A server's key, certificates, and whom it lets in.
#[derive(Clone)]
pub struct TlsConfig {
    config: Arc<ServerConfig>,
}

impl TlsConfig {
    /// Whatever rustls can be told.
    #[must_use]
    pub fn new(config: Arc<ServerConfig>) -> Self {
        Self { config }
    }

    /// The server's chain and key from PEM files. With `client_roots`, only clients with a
    /// certificate that one of these signed are let in; without, everybody is.
    ///
    /// # Errors
    /// [`NbdError::TlsFile`], [`NbdError::Tls`].
    pub fn from_pem_files(
        chain: &Path,
        key: &Path,
        client_roots: Option<&Path>,
    ) -> Result<Self, NbdError> {
        let failed = |path: &Path, source| NbdError::Tls {
            path: path.into(),
            source,
        };
        let key_pem = read(key).and_then(|text| PrivateKeyDer::from_pem_slice(&text));
        let key_der = key_pem.map_err(|source| NbdError::TlsFile {
            path: key.into(),
            source,
        })?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| failed(chain, error))?;
        let builder = match client_roots {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for root in certificates(path)? {
                    roots.add(root).map_err(|error| failed(path, error))?;
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                        .build()
                        .map_err(|error| rustls::Error::General(error.to_string()))
                        .map_err(|error| failed(path, error))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let config = builder
            .with_single_cert(certificates(chain)?, key_der)
            .map_err(|error| failed(chain, error))?;
        Ok(Self::new(Arc::new(config)))
    }
}

/// Reads a PEM file, which must be a regular one: a FIFO would be waited for.
fn read(path: &Path) -> Result<Vec<u8>, pem::Error> {
    let mut options = OpenOptions::new();
    // O_NONBLOCK: opening a FIFO must not wait for its writer (open(2)).
    let options = options.read(true).custom_flags(OFlag::O_NONBLOCK.bits());
    let read = || {
        let file = options.open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        let mut text = Vec::new();
        file.take(PEM_BYTES_MAX + 1).read_to_end(&mut text)?;
        if text.len() as u64 > PEM_BYTES_MAX {
            return Err(io::Error::other("it is longer than 1 MiB"));
        }
        Ok(text)
    };
    read().map_err(pem::Error::Io)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, NbdError> {
    let failed = |source| NbdError::TlsFile {
        path: path.into(),
        source,
    };
    let text = read(path).map_err(failed)?;
    let found = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed)?;
    match found.is_empty() {
        true => Err(failed(pem::Error::NoItemsFound)),
        false => Ok(found),
    }
}

/// Records that were read and not yet decrypted.
struct Incoming {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

/// A TLS session on a socket.
pub(super) struct TlsStream {
    session: Mutex<ServerConnection>,
    incoming: Mutex<Incoming>,
}

impl TlsStream {
    /// Shakes hands, until `deadline`.
    pub(super) fn accept(
        config: &TlsConfig,
        socket: &Socket,
        deadline: Instant,
    ) -> io::Result<Self> {
        let mut session = ServerConnection::new(Arc::clone(&config.config)).map_err(invalid)?;
        session.set_buffer_limit(None);
        let stream = Self {
            session: Mutex::new(session),
            incoming: Mutex::new(Incoming {
                buffer: vec![0; RECORD_BYTES].into(),
                start: 0,
                end: 0,
            }),
        };
        loop {
            stream.send_records(socket, deadline)?;
            if !lock(&stream.session).is_handshaking() {
                return Ok(stream);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(timed_out());
            }
            socket.set_read_timeout(left)?;
            let received = stream.receive(socket, &mut lock(&stream.incoming));
            match received {
                Ok(true) => {}
                Ok(false) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    // The client is told why, if it listens.
                    stream.send_records(socket, deadline)?;
                    return Err(error);
                }
            }
        }
    }

    /// Reads what is there, or waits for the socket's timeout; 0 is the end.
    pub(super) fn read(&self, socket: &Socket, buf: &mut [u8]) -> io::Result<usize> {
        let mut incoming = lock(&self.incoming);
        loop {
            match lock(&self.session).reader().read(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // A client that cut the wire instead of saying goodbye is gone all the same.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                read => return read,
            }
            if !self.receive(socket, &mut incoming)? {
                return Ok(0);
            }
        }
    }

    /// Gives the session more records; false at the end of the socket.
    fn receive(&self, socket: &Socket, incoming: &mut Incoming) -> io::Result<bool> {
        if incoming.start == incoming.end {
            incoming.start = 0;
            incoming.end = 0;
            incoming.end = socket.read(&mut incoming.buffer)?;
            if incoming.end == 0 {
                return Ok(false);
            }
        }
        let mut session = lock(&self.session);
        let mut records = &incoming.buffer[incoming.start..incoming.end];
        incoming.start += session.read_tls(&mut records)?;
        session.process_new_packets().map_err(invalid)?;
        Ok(true)
    }

    /// Writes all parts.
    pub(super) fn write_all(
        &self,
        socket: &Socket,
        parts: &[&[u8]],
        deadline: Instant,
    ) -> io::Result<()> {
        for part in parts.iter().flat_map(|part| part.chunks(WRITE_BYTES)) {
            lock(&self.session).writer().write_all(part)?;
            self.send_records(socket, deadline)?;
        }
        Ok(())
    }

    fn send_records(&self, socket: &Socket, deadline: Instant) -> io::Result<()> {
        let mut records = Vec::new();
        {
            let mut session = lock(&self.session);
            while session.wants_write() {
                session.write_tls(&mut records)?;
            }
        }
        write_all(socket, &[&records], deadline)
    }

    /// Says goodbye, as far as the client still listens.
    pub(super) fn close(&self, socket: &Socket) {
        lock(&self.session).send_close_notify();
        let goodbye = socket
            .set_write_timeout(CLOSE_TIME)
            .and_then(|()| self.send_records(socket, Instant::now() + CLOSE_TIME));
        if let Err(error) = goodbye {
            tracing::debug!(%error, "a client did not wait for the goodbye");
        }
    }
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
