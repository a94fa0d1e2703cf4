//! What lies behind the place where a scan came to its end.
//!
//! A torn tail has nothing behind it that was ever durable. So if a sound record is found further
//! on, written when the missing one was already on the disk, the missing one did not tear: it was
//! damaged.
//!
//! A payload may hold what looks like headers of the next lap, each of which claims to be long: to
//! hash them all would take the square of the ring's length. Only a sound record is a witness, so
//! they never make a log corrupt; and as each costs what it claims, short candidates come first.

use crate::ring::layout::{ALIGN, RECORD_HEADER_LEN};
use crate::ring::{RecordHeader, RecordKey, RingSource};

/// How many times the ring's length is hashed by a search from front to back. A sound ring needs
/// one; only bytes made for it (headers within headers) need more.
const HASH_BUDGET_LAPS: u64 = 2;

/// How many times the ring's length is hashed by a search among such bytes, and the most in bytes:
/// a few seconds. Every record of up to 64 * 48 bytes is come to.
const HOSTILE_BUDGET_LAPS: u64 = 64;
const HOSTILE_BUDGET_BYTES: u64 = 8 << 30;

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
    gave_up: bool,
}

/// One way through the candidates.
#[derive(Clone, Copy)]
struct Pass {
    /// The position that no candidate reaches over.
    end: u64,
    /// Extents that are looked at: longer than the first, and no longer than the second.
    extents: (u64, u64),
    /// Whether only what would be a witness is.
    witness_only: bool,
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
        let mut budget = self.ring_len.saturating_mul(HASH_BUDGET_LAPS);
        let all = Pass {
            end: self.end,
            extents: (0, u64::MAX),
            witness_only: false,
        };
        let found = self.pass(all, &mut budget, source)?;
        if found.gave_up {
            self.run_hostile(found, source)
        } else {
            Ok(found)
        }
    }

    /// Goes on where the search from front to back was given up: looks for a witness alone.
    fn run_hostile<S: RingSource>(
        &self,
        mut found: Found,
        source: &mut S,
    ) -> Result<Found, S::Error> {
        let budget = self.ring_len.saturating_mul(HOSTILE_BUDGET_LAPS);
        let mut budget = budget.min(HOSTILE_BUDGET_BYTES);
        let mut pass = Pass {
            end: self.end,
            extents: (0, RECORD_HEADER_LEN),
            witness_only: true,
        };
        let witness = loop {
            let again = self.pass(pass, &mut budget, source)?;
            if again.witness.is_some() || again.gave_up || pass.extents.1 >= self.ring_len {
                break again.witness;
            }
            pass.extents = (pass.extents.1, pass.extents.1.saturating_mul(4));
        };
        let Some(witness) = witness else {
            return Ok(found);
        };
        found.witness = Some(witness);
        // The first sound record, if the search did not come to one: it is before the witness.
        if found.first.is_none() {
            let before = Pass {
                end: witness.position,
                extents: (0, u64::MAX),
                witness_only: false,
            };
            let before = self.pass(before, &mut budget, source)?;
            found.first = before.first.or((!before.gave_up).then_some(witness));
        }
        Ok(found)
    }

    fn pass<S: RingSource>(
        &self,
        pass: Pass,
        budget: &mut u64,
        source: &mut S,
    ) -> Result<Found, S::Error> {
        let mut found = Found::default();
        let mut at = self.from;
        while at.saturating_add(RECORD_HEADER_LEN) <= pass.end {
            let len = pass.end.saturating_sub(at).min(STRIDE);
            let candidate = self.first_candidate(pass, at, source.read(at, len)?);
            let Some(header) = candidate else {
                // The last headers of a stretch reach over its end: they are looked at again.
                let step = len.saturating_sub(RECORD_HEADER_LEN);
                at = at.saturating_add(step).saturating_add(ALIGN);
                continue;
            };
            if header.extent() > *budget {
                found.gave_up = true;
                return Ok(found);
            }
            *budget = budget.saturating_sub(header.extent());
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
    fn first_candidate(&self, pass: Pass, start: u64, bytes: &[u8]) -> Option<RecordHeader> {
        let align = usize::try_from(ALIGN).unwrap_or(usize::MAX);
        let size = usize::try_from(RECORD_HEADER_LEN).unwrap_or(usize::MAX);
        let mut position = start;
        for bytes in bytes.windows(size).step_by(align) {
            // Almost all candidates fall here, at the price of one comparison.
            let named = bytes.get(24..32).and_then(|bytes| bytes.try_into().ok());
            if named.map(u64::from_le_bytes) == Some(position)
                && let Ok(header) = RecordHeader::decode(bytes)
                && self.fits(pass, &header)
            {
                return Some(header);
            }
            position = position.saturating_add(ALIGN);
        }
        None
    }

    fn fits(&self, pass: Pass, header: &RecordHeader) -> bool {
        let extent = header.extent();
        let end = header.position.checked_add(extent);
        let proves = || header.durable_sequence() >= self.missing && (self.belongs)(header);
        header.sequence > self.missing
            && end.is_some_and(|end| end <= pass.end)
            && extent > pass.extents.0
            && extent <= pass.extents.1
            && (!pass.witness_only || proves())
    }
}
