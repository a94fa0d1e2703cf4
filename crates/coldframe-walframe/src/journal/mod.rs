//! Framing of the typed journal: parts, records, batches.
//!
//! Invariants: every header is checked before a field of it is used, every payload before it is
//! handed out; a record is bound to its part and to its place there; all lengths are multiples of
//! 16 bytes, so parts can be joined by `cat` and payloads stay aligned. Pure functions on slices:
//! reading and writing is for `coldframe-journal`. Spec: `specs/journal.md`.

mod batch;
mod key;
mod layout;
mod part;
mod record;
mod type_id;

pub use batch::{BatchItem, BatchItems, item_header};
pub use key::PartKey;
pub use layout::{
    ALIGN, BATCH_ITEM_LEN, JOURNAL_LAYOUTS, PART_HEADER_LEN, PART_MAGIC, PAYLOAD_LEN_MAX,
    RECORD_HEADER_LEN,
};
pub use part::{PART_CODEC, PART_VERSION, PartHeader, PartId, Schema, turned_over};
pub use record::{RecordHeader, padded_len, seal_record};
pub use type_id::TypeId;
