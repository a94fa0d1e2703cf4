//! The header of a record, and the check of a whole record.

use alloc::vec::Vec;

use coldframe_envelope::{DecodeError, DecodeErrorKind as Kind};
use zerocopy::{FromBytes, IntoBytes};

use crate::ring::layout::{ALIGN, RECORD_HEADER_LEN, RECORD_VERSION, RecordBytes};
use crate::ring::{EncodeError, RecordKey};

/// What a record is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum RecordKind {
    /// A payload that was appended.
    Data = 1,
    /// The place of records that were lost to damage and given up by a repair; what is left of
    /// them is its payload.
    Gap = 2,
}

impl RecordKind {
    const fn code(self) -> u8 {
        match self {
            Self::Data => 1,
            Self::Gap => 2,
        }
    }

    const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Data),
            2 => Some(Self::Gap),
            _ => None,
        }
    }
}

/// The header of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordHeader {
    /// Its number: one more than its predecessor's.
    pub sequence: u64,
    /// Where it begins, as a logical position.
    pub position: u64,
    /// Bytes of payload.
    pub length: u32,
    /// The epoch in which it was written.
    pub epoch: u32,
    /// Data: how many records, this one included, were not known to be durable when it was
    /// written; `u32::MAX` says nothing. Gap: how many sequences were given up, from its own on.
    pub unsynced: u32,
    /// What it is.
    pub kind: RecordKind,
}

/// Bytes that a record with `payload_len` bytes of payload takes in the ring.
#[must_use]
pub const fn record_extent(payload_len: u64) -> u64 {
    let padded = payload_len.saturating_add(ALIGN - 1) & !(ALIGN - 1);
    RECORD_HEADER_LEN.saturating_add(padded)
}

/// Bytes of a payload that is these parts.
#[must_use]
pub fn parts_len(parts: &[&[u8]]) -> u64 {
    let lens = parts
        .iter()
        .map(|part| u64::try_from(part.len()).unwrap_or(u64::MAX));
    lens.fold(0, u64::saturating_add)
}

impl RecordHeader {
    /// The header of a payload; its length is filled in by [`RecordHeader::encode`].
    /// `durable` is a sequence up to which all records are known to be on the disk.
    #[must_use]
    pub fn data(epoch: u32, sequence: u64, position: u64, durable: u64) -> Self {
        Self {
            sequence,
            position,
            length: 0,
            epoch,
            unsynced: u32::try_from(sequence.saturating_sub(durable)).unwrap_or(u32::MAX),
            kind: RecordKind::Data,
        }
    }

    /// Bytes that the record takes in the ring.
    #[must_use]
    pub fn extent(&self) -> u64 {
        record_extent(u64::from(self.length))
    }

    /// The sequence that follows, if there is one.
    #[must_use]
    pub fn next_sequence(&self) -> Option<u64> {
        match self.kind {
            RecordKind::Data => self.sequence.checked_add(1),
            RecordKind::Gap => self.sequence.checked_add(u64::from(self.unsynced)),
        }
    }

    /// A sequence up to which all records were durable when this one was written.
    #[must_use]
    pub fn durable_sequence(&self) -> u64 {
        match self.kind {
            RecordKind::Data if self.unsynced != u32::MAX => {
                self.sequence.saturating_sub(u64::from(self.unsynced))
            }
            _ => 0,
        }
    }

    /// Puts the whole record behind what `out` holds: header, payload, padding.
    ///
    /// # Errors
    /// [`EncodeError::PayloadTooLong`].
    pub fn encode(
        self,
        key: &RecordKey,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Self, EncodeError> {
        self.encode_parts(key, &[payload], out)
    }

    /// As [`RecordHeader::encode`]; the payload is these parts, one behind the other.
    ///
    /// # Errors
    /// [`EncodeError::PayloadTooLong`].
    pub fn encode_parts(
        mut self,
        key: &RecordKey,
        parts: &[&[u8]],
        out: &mut Vec<u8>,
    ) -> Result<Self, EncodeError> {
        let len = parts_len(parts);
        let max = u64::from(u32::MAX);
        self.length = u32::try_from(len).map_err(|_| EncodeError::PayloadTooLong { len, max })?;
        let start = out.len();
        out.extend_from_slice(self.bytes([0; 16]).as_bytes());
        for part in parts {
            out.extend_from_slice(part);
        }
        let padding = self
            .extent()
            .saturating_sub(RECORD_HEADER_LEN)
            .saturating_sub(len);
        let end = out
            .len()
            .saturating_add(usize::try_from(padding).unwrap_or(0));
        out.resize(end, 0);
        let record = out.get_mut(start..).unwrap_or_default();
        if let Some((digest, rest)) = record.split_first_chunk_mut::<16>() {
            *digest = key.digest(rest);
        }
        Ok(self)
    }

    fn bytes(&self, digest: [u8; 16]) -> RecordBytes {
        RecordBytes {
            digest,
            sequence: self.sequence.into(),
            position: self.position.into(),
            length: self.length.into(),
            epoch: self.epoch.into(),
            unsynced: self.unsynced.into(),
            kind: self.kind.code(),
            version: RECORD_VERSION,
            reserved: [0; 2],
        }
    }

    /// Reads a header without its checksum: nothing of it may be trusted before
    /// [`RecordHeader::check`] held.
    ///
    /// # Errors
    /// `Truncated`, `Invalid` (version, kind, sequence, position), `ReservedNotZero`; offsets
    /// count from the start of the record.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let Ok((found, _)) = RecordBytes::read_from_prefix(bytes) else {
            let have = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            let need = RECORD_HEADER_LEN;
            return Err(DecodeError::new(Kind::Truncated { need, have }, have));
        };
        let invalid = |field, offset| Err(DecodeError::new(Kind::Invalid { field }, offset));
        if found.version != RECORD_VERSION {
            return invalid("version", 45);
        }
        let Some(kind) = RecordKind::from_code(found.kind) else {
            return invalid("kind", 44);
        };
        if found.reserved != [0; 2] {
            return Err(DecodeError::new(Kind::ReservedNotZero, 46));
        }
        // The last number is never given out, so that every record has a next one.
        if matches!(found.sequence.get(), 0 | u64::MAX) {
            return invalid("sequence", 16);
        }
        if !found.position.get().is_multiple_of(ALIGN) {
            return invalid("position", 24);
        }
        Ok(Self {
            sequence: found.sequence.get(),
            position: found.position.get(),
            length: found.length.get(),
            epoch: found.epoch.get(),
            unsynced: found.unsynced.get(),
            kind,
        })
    }

    /// Checks a whole record against its digest and its padding, and returns the payload.
    ///
    /// `record` must have exactly [`RecordHeader::extent`] bytes.
    #[must_use]
    pub fn check<'a>(&self, key: &RecordKey, record: &'a [u8]) -> Option<&'a [u8]> {
        let (digest, rest) = record.split_first_chunk::<16>()?;
        let (header, body) = rest.split_at_checked(32)?;
        let (payload, padding) = body.split_at_checked(usize::try_from(self.length).ok()?)?;
        let same = self.bytes([0; 16]).as_bytes().get(16..) == Some(header);
        let sound = same && padding.iter().all(|byte| *byte == 0) && *digest == key.digest(rest);
        sound.then_some(payload)
    }
}
