//! Many entries in one record: the record's digest makes them whole or absent together.
//!
//! Invariant: an item is 16 bytes of header, the payload, and zeros up to a multiple of 16, so
//! that payloads in a batch are aligned as those of records are.

use coldframe_envelope::{DecodeError, DecodeErrorKind as Kind};
use zerocopy::FromBytes;
use zerocopy::little_endian::U16;

use super::layout::{
    BATCH_ITEM_LEN, ItemBytes, PAYLOAD_LEN_MAX, RECORD_HEADER_LEN, size_bytes, size_of_bytes,
};
use super::{TypeId, padded_len};

/// One entry of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchItem<'a> {
    /// What the payload is.
    pub type_id: TypeId,
    /// Bytes from the start of the batch's payload to the item's header.
    pub start: u64,
    /// Bytes from the start of the batch's payload to the end of the item, padding included.
    pub end: u64,
    /// The payload.
    pub payload: &'a [u8],
}

/// The entries of a batch, in order.
#[derive(Clone, Debug)]
pub struct BatchItems<'a> {
    batch: &'a [u8],
    next: u64,
}

impl<'a> BatchItems<'a> {
    /// Of the payload of a [`TypeId::BATCH`] record.
    #[must_use]
    pub const fn new(batch: &'a [u8]) -> Self {
        Self { batch, next: 0 }
    }

    /// The same, from an item's `start` or `end` on.
    #[must_use]
    pub const fn resume(batch: &'a [u8], next: u64) -> Self {
        Self { batch, next }
    }

    /// The next item; offsets of errors count from the start of the record.
    ///
    /// # Errors
    /// `Truncated`, `Invalid` (a type that no entry has), `ReservedNotZero`.
    pub fn next_item(&mut self) -> Result<Option<BatchItem<'a>>, DecodeError> {
        let start = self.next;
        let rest = usize::try_from(start)
            .ok()
            .and_then(|start| self.batch.get(start..))
            .unwrap_or_default();
        if rest.is_empty() {
            return Ok(None);
        }
        let place = start.saturating_add(RECORD_HEADER_LEN);
        let have = u64::try_from(rest.len()).unwrap_or(u64::MAX);
        let truncated = |need| DecodeError::new(Kind::Truncated { need, have }, place);
        let Ok((raw, body)) = ItemBytes::read_from_prefix(rest) else {
            return Err(truncated(BATCH_ITEM_LEN));
        };
        let type_id = TypeId::from_raw(raw.type_id.get());
        if !type_id.is_entry() {
            return Err(DecodeError::new(Kind::Invalid { field: "type" }, place));
        }
        let size = size_of_bytes(raw.size);
        let len = padded_len(size).saturating_add(BATCH_ITEM_LEN);
        let split = usize::try_from(padded_len(size))
            .ok()
            .and_then(|len| body.get(..len))
            .zip(usize::try_from(size).ok())
            .and_then(|(body, size)| body.split_at_checked(size));
        let Some((payload, padding)) = split else {
            return Err(truncated(len));
        };
        if raw.reserved.iter().chain(padding).any(|byte| *byte != 0) {
            return Err(DecodeError::new(Kind::ReservedNotZero, place));
        }
        let end = start.saturating_add(len);
        self.next = end;
        Ok(Some(BatchItem {
            type_id,
            start,
            end,
            payload,
        }))
    }
}

/// The header of an item of this type, whose payload has `size` bytes.
///
/// # Panics
/// If `size` is over [`PAYLOAD_LEN_MAX`].
#[must_use]
pub fn item_header(type_id: TypeId, size: u64) -> [u8; 16] {
    assert!(size <= PAYLOAD_LEN_MAX, "an item of {size} bytes");
    let raw = ItemBytes {
        type_id: U16::new(type_id.raw()),
        size: size_bytes(size),
        reserved: [0; 8],
    };
    zerocopy::transmute!(raw)
}
