//! Payloads where they lie: a consumer that keeps places need not keep bytes.

use coldframe_storage::Storage;
use coldframe_units::{ByteLen, FileOffset};

use crate::{RingError, RingWal, Sequence};

/// Where a payload, or a part of it, lies in a log: good until its record is given up.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub struct RingPlace(u64);

impl RingPlace {
    pub(crate) const fn at(position: u64) -> Self {
        Self(position)
    }

    /// So many bytes further on.
    #[must_use]
    pub const fn plus(self, bytes: u64) -> Self {
        Self(self.0.saturating_add(bytes))
    }
}

impl<S: Storage> RingWal<S> {
    /// Where a place is in the file.
    #[must_use]
    pub const fn offset_of(&self, place: RingPlace) -> FileOffset {
        self.region.ring_offset(self.geometry.offset_of(place.0))
    }

    /// Reads `out.len()` bytes of a payload. They are what the storage has there: checking them is
    /// left to the caller, who may want only some of a record, which has one checksum for all.
    ///
    /// Spec: RING-43
    ///
    /// # Errors
    /// [`RingError::Passed`] if a checkpoint gave the record up, [`RingError::UnknownPlace`],
    /// [`RingError::Read`]. What `out` holds then is of no use.
    pub fn read_payload(&self, place: RingPlace, out: &mut [u8]) -> Result<(), RingError> {
        let (position, len) = (place.0, out.len() as u64);
        let written = self.state().written_end;
        if position.checked_add(len).is_none_or(|end| end > written) {
            let len = ByteLen::new(len);
            return Err(RingError::UnknownPlace { position, len });
        }
        let (first, rest) = self.geometry.parts(position, len);
        let (head, tail) = out.split_at_mut(first.len as usize);
        for (part, bytes) in [(first, head), (rest, tail)] {
            if part.len > 0 {
                self.storage
                    .read_at(self.region.ring_offset(part.offset), bytes)
                    .map_err(|source| RingError::Read { source })?;
            }
        }
        // Its space is used again only after the tail has moved: what was not given up by now was
        // whole when it was read.
        let tail = self.state().tail;
        if position < tail.position {
            let sequence = Sequence::new(tail.sequence);
            return Err(RingError::Passed { sequence });
        }
        Ok(())
    }
}
