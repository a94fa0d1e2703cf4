//! Where a server listens, as users write it.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::NbdError;

/// The address of a server: `unix:PATH` or `tcp:HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddr {
    /// A socket in the file system, for its owner only (mode 0600).
    Unix(PathBuf),
    /// An address and a port; port 0 takes any that is free.
    Tcp(SocketAddr),
    /// A host's name and a port: all addresses of that name. Port 0 takes any that is free.
    TcpName {
        /// The name, as the system resolves it.
        host: String,
        /// The port.
        port: u16,
    },
}

impl ListenAddr {
    /// The NBD URI of an export at this address, as `nbdinfo`, `qemu-img` and others take it.
    #[must_use]
    pub fn uri(&self, export: &str) -> String {
        self.uri_of("nbd", export)
    }

    /// The same for clients that must use TLS.
    #[must_use]
    pub fn tls_uri(&self, export: &str) -> String {
        self.uri_of("nbds", export)
    }

    fn uri_of(&self, scheme: &str, export: &str) -> String {
        let export = percent_encode(export.as_bytes());
        match self {
            Self::Unix(path) => {
                let path = percent_encode(path.as_os_str().as_encoded_bytes());
                format!("{scheme}+unix:///{export}?socket={path}")
            }
            Self::Tcp(addr) => format!("{scheme}://{addr}/{export}"),
            Self::TcpName { host, port } => format!("{scheme}://{host}:{port}/{export}"),
        }
    }

    /// Whether only processes of this host can connect; of a name, at all its addresses.
    ///
    /// # Errors
    /// As [`ListenAddr::socket_addrs`].
    pub fn is_loopback(&self) -> io::Result<bool> {
        Ok(self.socket_addrs()?.iter().all(is_local))
    }

    /// The addresses to bind, of which there are none for a Unix socket.
    ///
    /// # Errors
    /// What the system's resolver said.
    pub fn socket_addrs(&self) -> io::Result<Vec<SocketAddr>> {
        match self {
            Self::Unix(_) => Ok(Vec::new()),
            Self::Tcp(addr) => Ok(vec![*addr]),
            Self::TcpName { host, port } => {
                let mut found = Vec::new();
                for addr in (host.as_str(), *port).to_socket_addrs()? {
                    if !found.contains(&addr) {
                        found.push(addr);
                    }
                }
                match found.is_empty() {
                    true => Err(io::ErrorKind::AddrNotAvailable.into()),
                    false => Ok(found),
                }
            }
        }
    }
}

/// Whether only processes of this host reach an address, which may be IPv4's in IPv6's form.
pub(crate) fn is_local(addr: &SocketAddr) -> bool {
    addr.ip().to_canonical().is_loopback()
}

/// `HOST:PORT`; a name is of letters, digits, `-`, `_` and `.`.
fn parse_tcp(text: &str) -> Option<ListenAddr> {
    if let Ok(addr) = text.parse() {
        return Some(ListenAddr::Tcp(addr));
    }
    let (host, port) = text.rsplit_once(':')?;
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    // What looks like a number is a wrong address and no name.
    let is_number = host
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    if is_number || !host.bytes().all(is_name) || !port.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (host, port) = (host.to_owned(), port.parse().ok()?);
    Some(ListenAddr::TcpName { host, port })
}

fn percent_encode(bytes: &[u8]) -> String {
    let mut text = String::new();
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(addr) => write!(f, "tcp:{addr}"),
            Self::TcpName { host, port } => write!(f, "tcp:{host}:{port}"),
        }
    }
}

impl FromStr for ListenAddr {
    type Err = NbdError;

    fn from_str(text: &str) -> Result<Self, NbdError> {
        let wrong = || NbdError::Address { text: text.into() };
        match text.split_once(':') {
            Some(("unix", path)) if !path.is_empty() => Ok(Self::Unix(path.into())),
            Some(("tcp", addr)) => parse_tcp(addr).ok_or_else(wrong),
            _ => Err(wrong()),
        }
    }
}

impl From<PathBuf> for ListenAddr {
    fn from(path: PathBuf) -> Self {
        Self::Unix(path)
    }
}

impl From<&Path> for ListenAddr {
    fn from(path: &Path) -> Self {
        Self::Unix(path.to_owned())
    }
}

impl From<SocketAddr> for ListenAddr {
    fn from(addr: SocketAddr) -> Self {
        Self::Tcp(addr)
    }
}
