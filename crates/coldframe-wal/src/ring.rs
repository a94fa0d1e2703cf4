//! The ring WAL: a bounded log in a region of a file, for writes that must survive a power cut.
//!
//! Invariants: what was acknowledged as durable is found again, in order, or its loss is an error
//! that names the place; nothing is found that was not appended; space of a record is used again
//! only after the control block that gave it up is on the disk; after one failed write or sync
//! nothing is acknowledged until the log is opened again. Normative text: `specs/ring-wal.md`.

mod append;
mod check;
mod checkpoint;
mod commit;
mod control;
mod create;
mod cursor;
mod error;
mod grow;
mod lock;
mod log;
mod open;
mod options;
mod owner;
mod reader;
mod recovery;
mod region;
mod repair;
mod state;
mod stats;
mod window;

pub use check::{Finding, Plan};
pub use cursor::{Entry, Records};
pub use error::RingError;
pub use log::RingWal;
pub use options::{CheckpointPolicy, Durability, RingOptions};
pub use owner::{LAYOUTS, Owner};
pub use reader::{RingReader, Salvage, Salvaged};
pub use recovery::{Recovery, SlotState};
pub use region::{Region, Sequence};
pub use stats::RingStats;
