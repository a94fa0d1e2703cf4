//! A socket, with or without TLS on it. Invariants: at most one thread reads, and at most one
//! writes, at a time (their locks are the connection's); no call outlives its deadline by more
//! than the socket's own timeout.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Instant;

use super::socket::Socket;
use super::timed_out;
#[cfg(feature = "tls")]
use super::tls::TlsStream;

/// Both directions of a connection.
pub(super) struct Channel {
    socket: Arc<Socket>,
    #[cfg(feature = "tls")]
    pub(super) tls: Option<TlsStream>,
}

impl Channel {
    pub(super) fn new(socket: Arc<Socket>) -> Self {
        Self {
            socket,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    pub(super) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Reads what is there, or waits for the socket's timeout; 0 is the end.
    pub(super) fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            return tls.read(&self.socket, buf);
        }
        self.socket.read(buf)
    }

    /// Fills `buf`, setting the socket's timeout to what is left: for the handshake.
    pub(super) fn read_exact(&self, mut buf: &mut [u8], deadline: Instant) -> io::Result<()> {
        while !buf.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(timed_out());
            }
            self.socket.set_read_timeout(left)?;
            match self.read(buf) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(len) => buf = &mut buf[len..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether it is worth looking again in a moment: nothing is there yet.
    pub(super) fn is_quiet(&self) -> bool {
        #[cfg(feature = "tls")]
        if self.tls.is_some() {
            // What was received may be waiting in the session.
            return false;
        }
        !self.socket.is_readable()
    }

    /// Writes all parts.
    pub(super) fn write_all(&self, parts: &[&[u8]], deadline: Instant) -> io::Result<()> {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            return tls.write_all(&self.socket, parts, deadline);
        }
        write_all(&self.socket, parts, deadline)
    }

    /// Says goodbye, as far as the client still listens.
    pub(super) fn close(&self) {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            tls.close(&self.socket);
        }
        self.socket.shutdown(Shutdown::Both);
    }
}

/// Writes all parts to the socket.
pub(super) fn write_all(socket: &Socket, parts: &[&[u8]], deadline: Instant) -> io::Result<()> {
    let mut slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
    let mut slices = &mut slices[..];
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        match socket.write(slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(len) => IoSlice::advance_slices(&mut slices, len),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(timed_out()),
            Err(error) => return Err(error),
        }
        if !slices.is_empty() && Instant::now() >= deadline {
            return Err(timed_out());
        }
    }
    Ok(())
}
