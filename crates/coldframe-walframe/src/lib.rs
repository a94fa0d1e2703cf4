//! Record framing of the ring WAL and of the typed journal: bytes only, no I/O.
//!
//! For people who read or write these logs with storage of their own, and for tools that look
//! into one. [`ring`] frames the records of a bounded ring inside a file, [`journal`] those of an
//! append-only file.
//!
//! ```
//! use coldframe_walframe::ring::{Control, End, RecordHeader, RegionId, SliceSource, Step};
//!
//! let mut control = Control::new(RegionId::from_bytes([7; 16]), 4096)?;
//! control.open_epoch()?;
//! let mut ring = Vec::new();
//! RecordHeader::data(control.epoch, 1, 0, 0).encode(&control.key(), b"hello", &mut ring)?;
//! ring.resize(4096, 0);
//! let (mut scan, mut source) = (control.scan(), SliceSource::new(&ring, control.geometry()));
//! assert!(matches!(scan.step(&mut source)?, Step::Record(r) if r.payload == b"hello"));
//! assert!(matches!(scan.step(&mut source)?, Step::End(End::Clean { .. })));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What it does not do: I/O, locks, syncing; `coldframe-ring` and `coldframe-journal` do.
//! Specs: `specs/ring-wal.md`, `specs/journal.md`.
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

pub mod journal;
pub mod ring;
