//! The plain fixed header and section table that every coldframe file starts with.
//!
//! For people who add a file format, and for tools that must say what a file is without trusting
//! it. A file is a 160-byte header, sections, and a table of the sections. The header commits to
//! the table by its BLAKE3 hash, the table to each section by its own: so the hash of the header,
//! the file's [`root`], covers every byte. Nothing is handed to a codec before its hash held.
//!
//! ```
//! use coldframe_envelope::{Container, ContainerBuilder, Format, Limits, Producer, SectionKind};
//!
//! const NOTES: Format = Format::new(*b"NOTE", 1, 0);
//! const BODY: SectionKind = SectionKind::new(*b"TEXT");
//! let mut builder = ContainerBuilder::new(NOTES, Producer::new("example", "1.0")?);
//! builder.must_understand(BODY, 0, 1, b"hello".to_vec());
//! let (file, root) = builder.finish()?;
//!
//! let notes = Container::decode(&file, NOTES, Limits::SMALL_FILE)?;
//! assert_eq!(notes.require(BODY, 0)?.body(), b"hello");
//! assert_eq!(notes.root(), root);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What it does not do: no I/O, no codec, no signatures. Spec: `specs/envelope.md`.
//!
//! [`root`]: Container::root
#![no_std]
#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![deny(
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::arithmetic_side_effects
)]

#[cfg(not(target_pointer_width = "64"))]
compile_error!("coldframe supports 64-bit targets only");

extern crate alloc;

mod container;
mod error;
mod header;
mod layout;
mod limits;
mod table;

pub use container::{Body, Container, ContainerBuilder};
pub use error::{DecodeError, DecodeErrorKind, EncodeError};
pub use header::{Codec, Format, Header, Producer, Version};
pub use layout::{
    Field, HEADER_LEN, LAYOUTS, Layout, MAGIC, PRODUCER_LEN_MAX, SECTION_ROW_LEN, field,
};
pub use limits::Limits;
pub use table::{Section, SectionFlags, SectionKind, SectionTable, check_zeros, encode_table};
