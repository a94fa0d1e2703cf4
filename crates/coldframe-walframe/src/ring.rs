//! The bounded ring: a control block twice, then records that follow one another round and round.
//!
//! Invariants: a record is accepted only at the place, in the region and in the order that it was
//! written for; what ends the log is told apart (clean, torn, corrupt), never guessed.
//! Normative text: `specs/ring-wal.md`.

mod control;
mod encode;
mod geometry;
mod key;
mod layout;
mod look_ahead;
mod record;
mod scan;
mod source;

pub use control::{Chosen, Control, RegionId, choose};
pub use encode::EncodeError;
pub use geometry::{Geometry, Part};
pub use key::RecordKey;
pub use layout::{
    ALIGN, CONTROL_LEN, CONTROL_MAGIC, CONTROL_SLOT_STRIDE, LAYOUTS, RECORD_HEADER_LEN,
    RING_LEN_MIN, RING_START,
};
pub use look_ahead::Place;
pub use record::{RecordHeader, RecordKind, parts_len, record_extent};
pub use scan::{End, Gap, Record, Scan, Step};
pub use source::{RingSource, SliceSource};
