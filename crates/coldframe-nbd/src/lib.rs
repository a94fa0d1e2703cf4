//! An NBD server for anything that implements a small trait.
//!
//! For anyone who has a block device in a program (a copy-on-write disk, a snapshot, an image in
//! a strange format) and wants virtual machines, `qemu-img`, `nbdcopy` or the kernel to use it.
//! Implement [`Export`]; [`NbdServer`] does the rest, on plain threads.
//!
//! ```
//! use coldframe_nbd::{Export, ExportError, NbdServer};
//! use std::{os::unix::net::UnixStream, sync::RwLock};
//! struct Disk(RwLock<Vec<u8>>); // at home: a file, a chunk store, a device
//! impl Export for Disk {
//!     fn size(&self) -> u64 { 4096 }
//!     fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<(), ExportError> {
//!         Ok(buf.copy_from_slice(&self.0.read().unwrap()[offset as usize..][..buf.len()]))
//!     }
//!     fn write_at(&self, data: &[u8], offset: u64) -> Result<(), ExportError> {
//!         let mut bytes = self.0.write().unwrap();
//!         Ok(bytes[offset as usize..][..data.len()].copy_from_slice(data))
//!     }
//!     fn flush(&self) -> Result<(), ExportError> { Ok(()) }
//! }
//! # let dir = coldframe_testkit::scratch::on_disk();
//! let socket = dir.path().join("nbd.sock");
//! let server = NbdServer::new(Disk(RwLock::new(vec![7; 4096]))).listen(socket.as_path())?;
//!
//! // A client in a few lines: `nbdcopy`, QEMU and the kernel have better ones.
//! # use std::io::{Read, Write};
//! let mut client = UnixStream::connect(&socket)?;
//! client.read_exact(&mut [0; 18])?; // greeting
//! client.write_all(b"\0\0\0\x03IHAVEOPT\0\0\0\x01\0\0\0\0")?; // the default export
//! client.read_exact(&mut [0; 10])?; // its size and flags
//! client.write_all(b"\x25\x60\x95\x13\0\0\0\0cookie..\0\0\0\0\0\0\x0c\0\0\0\0\x02")?;
//! let mut reply = [0; 18]; // magic, no error, cookie, two bytes read at 3072
//! client.read_exact(&mut reply)?;
//! assert_eq!(&reply, b"\x67\x44\x66\x98\0\0\0\0cookie..\x07\x07");
//! server.stop()?; // finishes what is in flight, flushes, removes the socket
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! It speaks the fixed newstyle handshake with structured replies, `base:allocation`, FUA, trim,
//! zeroing, several connections per client, several exports, unix and TCP sockets.
//! [`proto`] has the protocol without the sockets.
//!
//! | feature | adds |
//! |---|---|
//! | `tls` | [`NbdServer`]`::tls`: STARTTLS by rustls; more code, and ring |
//!
//! What it does not do: no oldstyle handshake, no extended headers, no resize of a connected
//! client, no export of its own, no async. Spec: `specs/nbd.md`.
#![deny(missing_docs)]

#[cfg(not(target_pointer_width = "64"))]
compile_error!("coldframe supports 64-bit targets only");

mod addr;
mod error;
mod export;
mod exports;
mod limits;
pub mod proto;
mod server;

pub use addr::ListenAddr;
pub use error::{ExportError, NbdError};
pub use export::{Export, ReadOnly, ZeroMode};
pub use limits::Limits;
pub use proto::{Allocation, BlockSizes, Errno, Extent, Extents};
#[cfg(feature = "tls")]
pub use server::TlsConfig;
pub use server::{NbdHandle, NbdServer, SocketFile, bind_unix};
