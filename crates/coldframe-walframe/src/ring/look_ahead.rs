//! What lies behind the place where a scan came to its end.
//!
//! A torn tail has nothing behind it that was ever durable. So if a sound record is found further
//! on, written when the missing one was already on the disk, the missing one did not tear: it was
//! damaged.

use crate::ring::layout::{ALIGN, RECORD_HEADER_LEN};
use crate::ring::{RecordHeader, RecordKey, RingSource};

/// How many times the ring's length may be hashed in one search. A sound ring needs one; only
/// bytes made for it (headers within headers) need more.
const HASH_BUDGET_LAPS: u64 = 2;

/// How many candidates are looked at with one read, in bytes.
const STRIDE: u64 = 64 * 1024;

/// A record, by place and number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Where it begins, as a logical position.
    pub position: u64,
    /// Its sequence.
    pub sequence: u64,
    /// Its epoch.
    pub epoch: u32,
}

impl From<&RecordHeader> for Place {
    fn from(header: &RecordHeader) -> Self {
        Self {
            position: header.position,
            sequence: header.sequence,
            epoch: header.epoch,
        }
    }
}

/// What was found behind the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Found {
    /// The first sound record.
    pub first: Option<Place>,
    /// The first one that proves that the missing record was durable.
    pub witness: Option<Place>,
    /// How many sound records there are, up to the witness.
    pub count: u64,
    /// The search was given up: the bytes were made to make it long.
    pub gave_up: bool,
}

/// What to search.
pub(crate) struct LookAhead<'a> {
    pub key: &'a RecordKey,
    /// The first position to look at.
    pub from: u64,
    /// The position behind the ring's last byte.
    pub end: u64,
    /// The sequence that is missing.
    pub missing: u64,
    /// Whether a record of this sequence and epoch can be part of the log at all.
    pub belongs: &'a dyn Fn(&RecordHeader) -> bool,
    /// Bytes in the ring.
    pub ring_len: u64,
}

impl LookAhead<'_> {
    /// Searches up to the first witness, or to the end of the ring.
    pub fn run<S: RingSource>(&self, source: &mut S) -> Result<Found, S::Error> {
        let mut found = Found::default();
        let mut budget = self.ring_len.saturating_mul(HASH_BUDGET_LAPS);
        let mut at = self.from;
        while at.saturating_add(RECORD_HEADER_LEN) <= self.end {
            let len = self.end.saturating_sub(at).min(STRIDE);
            let candidate = self.first_candidate(at, source.read(at, len)?);
            let Some(header) = candidate else {
                // The last headers of a stretch reach over its end: they are looked at again.
                let step = len.saturating_sub(RECORD_HEADER_LEN);
                at = at.saturating_add(step).saturating_add(ALIGN);
                continue;
            };
            if header.extent() > budget {
                found.gave_up = true;
                return Ok(found);
            }
            budget = budget.saturating_sub(header.extent());
            let record = source.read(header.position, header.extent())?;
            if header.check(self.key, record).is_none() {
                at = header.position.saturating_add(ALIGN);
                continue;
            }
            at = header.position.saturating_add(header.extent());
            if !(self.belongs)(&header) {
                continue;
            }
            found.count = found.count.saturating_add(1);
            found.first = found.first.or(Some(Place::from(&header)));
            if header.durable_sequence() >= self.missing {
                found.witness = Some(Place::from(&header));
                return Ok(found);
            }
        }
        Ok(found)
    }

    /// The first header in `bytes` that names its own place and fits.
    fn first_candidate(&self, start: u64, bytes: &[u8]) -> Option<RecordHeader> {
        let align = usize::try_from(ALIGN).unwrap_or(usize::MAX);
        let size = usize::try_from(RECORD_HEADER_LEN).unwrap_or(usize::MAX);
        let mut position = start;
        for bytes in bytes.windows(size).step_by(align) {
            // Almost all candidates fall here, at the price of one comparison.
            let named = bytes.get(24..32).and_then(|bytes| bytes.try_into().ok());
            if named.map(u64::from_le_bytes) == Some(position)
                && let Ok(header) = RecordHeader::decode(bytes)
                && self.fits(&header)
            {
                return Some(header);
            }
            position = position.saturating_add(ALIGN);
        }
        None
    }

    fn fits(&self, header: &RecordHeader) -> bool {
        let end = header.position.checked_add(header.extent());
        header.sequence > self.missing && end.is_some_and(|end| end <= self.end)
    }
}
