//! One record: a header that is bound to its place, and a payload that is bound to the header.
//!
//! Invariant: two checks, both keyed by the part's id. The digest (128 bits) covers the payload;
//! the checksum (32 bits) covers the header with the digest in it, and the position in the part,
//! which is not stored. A record that was moved, one left over from another file, and bytes that a
//! guest made to look like a record fail them.

use coldframe_envelope::{DecodeError, DecodeErrorKind as Kind};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, Unaligned};

use super::layout::{
    ALIGN, PAYLOAD_LEN_MAX, RECORD_HEADER_LEN, RecordBytes, size_bytes, size_of_bytes,
};
use super::{PartKey, TypeId};

/// Where the checksum of a record header lies in it.
const CHECKSUM_AT: u64 = 12;
const DIGEST_AT: u64 = 16;

/// The header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// What the payload is.
    pub type_id: TypeId,
    /// Bytes in the payload, without padding.
    pub size: u64,
    /// Bytes before this record that were not yet durable when it was written; a multiple of 16,
    /// and too large rather than too small.
    pub unsynced: u64,
    digest: [u8; 16],
}

impl RecordHeader {
    /// Decodes the header at the beginning of `bytes`, which stands `position` bytes from the
    /// start of the part.
    ///
    /// # Errors
    /// `Truncated`; `HeaderChecksum` if the bytes are no record header, or those of another place;
    /// `Invalid` if the type is one that nothing has.
    pub fn decode(bytes: &[u8], key: &PartKey, position: u64) -> Result<Self, DecodeError> {
        let Ok((raw, _)) = RecordBytes::read_from_prefix(bytes) else {
            let have = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            let need = RECORD_HEADER_LEN;
            return Err(DecodeError::new(Kind::Truncated { need, have }, have));
        };
        if checksum(&raw, key, position) != raw.checksum.get() {
            return Err(DecodeError::new(Kind::HeaderChecksum, CHECKSUM_AT));
        }
        let type_id = TypeId::from_raw(raw.type_id.get());
        if type_id.number() == 0 {
            return Err(DecodeError::new(Kind::Invalid { field: "type" }, 0));
        }
        Ok(Self {
            type_id,
            size: size_of_bytes(raw.size),
            unsynced: match raw.unsynced.get() {
                u32::MAX => u64::MAX,
                units => u64::from(units).saturating_mul(ALIGN),
            },
            digest: raw.digest,
        })
    }

    /// Bytes of the whole record: header, payload and padding.
    #[must_use]
    pub fn record_len(&self) -> u64 {
        padded_len(self.size).saturating_add(RECORD_HEADER_LEN)
    }

    /// Checks what follows the header, payload and padding, and returns the payload; offsets of
    /// errors count from the start of the record.
    ///
    /// # Errors
    /// `Truncated`, `BodyHash`, `ReservedNotZero`.
    pub fn check<'a>(&self, key: &PartKey, body: &'a [u8]) -> Result<&'a [u8], DecodeError> {
        let have = u64::try_from(body.len()).unwrap_or(u64::MAX);
        let need = padded_len(self.size);
        let whole = usize::try_from(need)
            .ok()
            .and_then(|len| body.get(..len))
            .zip(usize::try_from(self.size).ok())
            .and_then(|(body, size)| body.split_at_checked(size));
        let Some((payload, padding)) = whole else {
            let offset = have.saturating_add(RECORD_HEADER_LEN);
            return Err(DecodeError::new(Kind::Truncated { need, have }, offset));
        };
        if key.digest(payload) != self.digest {
            return Err(DecodeError::new(Kind::BodyHash, DIGEST_AT));
        }
        if padding.iter().any(|byte| *byte != 0) {
            let offset = self.size.saturating_add(RECORD_HEADER_LEN);
            return Err(DecodeError::new(Kind::ReservedNotZero, offset));
        }
        Ok(payload)
    }
}

/// Bytes that a payload of `size` takes: the next multiple of 16.
#[must_use]
pub const fn padded_len(size: u64) -> u64 {
    match size.checked_next_multiple_of(ALIGN) {
        Some(len) => len,
        None => u64::MAX,
    }
}

/// Fills in the header of a record that lies ready in `record`: 32 bytes of room, then the
/// payload of `size` bytes, then padding, which is made zero.
///
/// # Panics
/// If `record` is not as long as that.
pub fn seal_record(
    key: &PartKey,
    position: u64,
    type_id: TypeId,
    unsynced: u64,
    size: u64,
    record: &mut [u8],
) {
    let len = u64::try_from(record.len()).unwrap_or(u64::MAX);
    let need = padded_len(size).saturating_add(RECORD_HEADER_LEN);
    assert!(
        len == need && size <= PAYLOAD_LEN_MAX,
        "a record of {need} bytes in {len}"
    );
    let (header, body) = record.split_at_mut(32);
    let (payload, padding) = body.split_at_mut(usize::try_from(size).unwrap_or(usize::MAX));
    padding.fill(0);
    let units = unsynced.div_ceil(ALIGN);
    let mut raw = RecordBytes {
        type_id: U16::new(type_id.raw()),
        size: size_bytes(size),
        unsynced: U32::new(u32::try_from(units).unwrap_or(u32::MAX)),
        checksum: U32::ZERO,
        digest: [0; 16],
    };
    raw.digest = key.digest(payload);
    raw.checksum = U32::new(checksum(&raw, key, position));
    header.copy_from_slice(raw.as_bytes());
}

/// What the checksum of a record header covers.
#[derive(IntoBytes, Immutable, Unaligned)]
#[repr(C)]
struct Covered {
    type_id: U16,
    size: [u8; 6],
    unsynced: U32,
    digest: [u8; 16],
    position: U64,
}

fn checksum(raw: &RecordBytes, key: &PartKey, position: u64) -> u32 {
    let covered = Covered {
        type_id: raw.type_id,
        size: raw.size,
        unsynced: raw.unsynced,
        digest: raw.digest,
        position: U64::new(position),
    };
    let [a, b, c, d, ..] = key.digest(covered.as_bytes());
    u32::from_le_bytes([a, b, c, d])
}
