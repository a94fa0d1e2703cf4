//! Two logs that survive a power cut: a ring WAL inside a file, and a typed journal.
//!
//! For VMMs that must not lose what they said was written: [`ring`] is a bounded log in a region of
//! any file, for disk overlays and metadata; [`journal`] is an append-only file of typed entries,
//! for what happened.
//!
//! ```
//! use coldframe_storage::MemStorage;
//! use coldframe_units::{ByteLen, FileOffset};
//! use coldframe_wal::{Region, RingOptions, RingWal, Sequence};
//!
//! let region = Region::new(FileOffset::ZERO, ByteLen::new(64 * 1024))?;
//! let log = RingWal::create(MemStorage::new(), region, RingOptions::SYNC_EACH)?;
//! let first = log.append(b"sector 7 is now ...")?; // on the disk
//! let mut records = log.records_after(Sequence::ZERO);
//! assert_eq!(records.next()?.map(|record| record.sequence), Some(first));
//! log.checkpoint(first)?; // its content is durable elsewhere
//! # Ok::<(), coldframe_wal::RingError>(())
//! ```
//!
//! [`ring`] and [`journal`] each begin with an example that a VMM could take as it is.
//!
//! What it does not do: no interpretation of payloads, and no threads of its own unless
//! [`journal::Compacting`] is asked for. A record that was durable and is damaged is an error with
//! its offset; a torn end is a number.
//! Specs: `specs/ring-wal.md`, `specs/journal.md`.
#![deny(missing_docs)]

#[cfg(not(target_pointer_width = "64"))]
compile_error!("coldframe supports 64-bit targets only");

pub mod journal;
mod kind;
pub mod ring;

pub use kind::LogKind;
pub use ring::{
    CheckpointPolicy, Durability, Entry, Recovery, Region, RingError, RingOptions, RingPlace,
    RingReader, RingStats, RingWal, Sequence,
};
