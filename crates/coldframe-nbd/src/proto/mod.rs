//! The protocol without any I/O: bytes in, decisions and bytes out.
//!
//! Invariants: nothing here waits, allocates more than a small multiple of its input, or panics on
//! any input; what a client may ask for is decided here alone, so that every server that drives
//! this module (ours over sockets, another over vsock) refuses the same requests.
//!
//! A driver sends [`Negotiator::GREETING`], gives the client's flags and options to a
//! [`Negotiator`] until one [`Step`] carries a [`Session`], then decodes [`Request`]s, checks each
//! against the session, and answers with the functions of [`reply`].
#![deny(
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::arithmetic_side_effects
)]

mod errno;
mod extents;
mod negotiate;
mod option;
pub mod reply;
mod request;
mod session;
mod values;
mod wire;

pub use errno::Errno;
pub use extents::{Allocation, Extent, Extents};
pub use negotiate::{Negotiator, Step, TlsPolicy};
pub use option::{OPTION_DATA_BYTES_MAX, OptionHeader};
pub use request::{Command, Request};
pub use session::{BlockSizes, Catalog, ExportInfo, PAYLOAD_BYTES_MAX, Session};
pub use wire::Violation;
