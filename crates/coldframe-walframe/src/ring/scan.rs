//! Recovery: the records in order, and how they end.
//!
//! A record is accepted if it names the position at which it lies and the sequence that is due, is
//! of an epoch that can stand there, and its digest holds. Nothing else ends the log as clean
//! unless nothing behind speaks against it.

use crate::ring::layout::{ALIGN, RECORD_HEADER_LEN};
use crate::ring::look_ahead::{Found, LookAhead};
use crate::ring::{Control, Place, RecordHeader, RecordKey, RecordKind, RingSource};

/// A scan; it reads from a [`RingSource`] that is given at each step.
#[derive(Clone, Debug)]
pub struct Scan {
    control: Control,
    key: RecordKey,
    position: u64,
    end: u64,
    /// The sequence that is due; `None` past the last there can be.
    sequence: Option<u64>,
    epoch: u32,
}

/// A record that is in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// Its header.
    pub header: RecordHeader,
    /// Its payload.
    pub payload: &'a [u8],
}

/// Records that were lost to damage and given up by a repair.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gap {
    /// Where they lay, as a logical position.
    pub position: u64,
    /// The first sequence that was given up.
    pub sequence: u64,
    /// How many were.
    pub lost: u64,
    /// Bytes that the gap takes in the ring.
    pub bytes: u64,
}

/// How the records end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Nothing was begun behind the last record.
    Clean {
        /// Where the next record goes.
        position: u64,
    },
    /// What was not yet durable at a crash is not whole; it was never acknowledged.
    Torn {
        /// Where the next record goes.
        position: u64,
        /// Bytes of the record that is not whole, as far as can be told.
        bytes: u64,
        /// Sound records behind it that cannot be kept without it.
        dropped: u64,
    },
    /// A record that was durable is damaged; or one that may have been, where bytes cannot be
    /// read ([`RingSource::is_unreadable`]).
    Corrupt {
        /// Where it lies, as a logical position.
        position: u64,
        /// Its sequence.
        sequence: u64,
        /// The record behind it that proves that it was durable; `None` if the control block
        /// does, or if nothing can be read that would.
        witness: Option<Place>,
        /// The first sound record behind it.
        next: Option<Place>,
    },
}

impl End {
    /// Where the sound records end, as a logical position.
    #[must_use]
    pub const fn position(&self) -> u64 {
        match *self {
            Self::Clean { position }
            | Self::Torn { position, .. }
            | Self::Corrupt { position, .. } => position,
        }
    }
}

/// What a scan came upon.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step<'a> {
    /// The next record.
    Record(Record<'a>),
    /// Records that were given up.
    Gap(Gap),
    /// No further record; every later step says the same.
    End(End),
}

impl Scan {
    pub(crate) fn new(control: &Control) -> Self {
        Self {
            control: *control,
            key: control.key(),
            position: control.tail_position,
            end: control.tail_position.saturating_add(control.ring_len),
            sequence: control.tail_sequence.checked_add(1),
            epoch: 0,
        }
    }

    /// Where the next step looks, as a logical position.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.position
    }

    /// The sequence that is due; `None` past the last there can be.
    #[must_use]
    pub const fn sequence(&self) -> Option<u64> {
        self.sequence
    }

    /// The epoch of the last record, 0 before the first.
    #[must_use]
    pub const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Goes on at a record behind damage, as `End::Corrupt` names it.
    pub const fn resume_at(&mut self, next: Place) {
        self.position = next.position;
        self.sequence = Some(next.sequence);
    }

    /// Takes the next step.
    ///
    /// # Errors
    /// Those of the source.
    pub fn step<'s, S: RingSource>(&mut self, source: &'s mut S) -> Result<Step<'s>, S::Error> {
        let Some(header) = self.sound_here(source)? else {
            return self.end(source).map(Step::End);
        };
        self.position = self.position.saturating_add(header.extent());
        self.sequence = header.next_sequence();
        self.epoch = header.epoch;
        if header.kind == RecordKind::Gap {
            return Ok(Step::Gap(Gap {
                position: header.position,
                sequence: header.sequence,
                lost: u64::from(header.unsynced),
                bytes: header.extent(),
            }));
        }
        let record = source.read(header.position, header.extent())?;
        let payload = usize::try_from(RECORD_HEADER_LEN)
            .ok()
            .zip(usize::try_from(header.length).ok())
            .and_then(|(start, len)| record.get(start..start.checked_add(len)?));
        let payload = payload.unwrap_or_default();
        Ok(Step::Record(Record { header, payload }))
    }

    /// The header of the record at this place, if it is the one that is due and sound.
    fn sound_here<S: RingSource>(&self, source: &mut S) -> Result<Option<RecordHeader>, S::Error> {
        let Some(header) = self.header_here(source)? else {
            return Ok(None);
        };
        if !self.belongs(&header) || header.epoch < self.epoch {
            return Ok(None);
        }
        let record = source.read(self.position, header.extent())?;
        let sound = header.check(&self.key, record).is_some();
        Ok(sound.then_some(header))
    }

    /// The header at this place, not checked, if it is of the record that is due and fits.
    fn header_here<S: RingSource>(&self, source: &mut S) -> Result<Option<RecordHeader>, S::Error> {
        let room = self.end.saturating_sub(self.position);
        if room < RECORD_HEADER_LEN {
            return Ok(None);
        }
        let bytes = source.read(self.position, RECORD_HEADER_LEN)?;
        let header = RecordHeader::decode(bytes).ok().filter(|header| {
            header.position == self.position
                && Some(header.sequence) == self.sequence
                && header.extent() <= room
        });
        Ok(header)
    }

    /// Whether a record of this sequence can be of this epoch.
    fn belongs(&self, header: &RecordHeader) -> bool {
        if header.sequence >= self.control.resume_sequence {
            header.epoch == self.control.epoch
        } else {
            header.epoch <= self.control.epoch
        }
    }

    fn end<S: RingSource>(&self, source: &mut S) -> Result<End, S::Error> {
        let position = self.position;
        let room = self.end.saturating_sub(position);
        // Nothing can follow: no sequence is left, or the log says that it was closed here.
        let Some(sequence) = self.sequence else {
            return Ok(End::Clean { position });
        };
        let closed = self.control.closed && self.control.synced_sequence < sequence;
        if closed {
            return Ok(End::Clean { position });
        }
        let found = self.look_ahead(sequence, source)?;
        if found.witness.is_some() || self.control.synced_sequence >= sequence {
            return Ok(End::Corrupt {
                position,
                sequence,
                witness: found.witness,
                next: found.first,
            });
        }
        let bytes = if room < RECORD_HEADER_LEN {
            0
        } else {
            self.torn_bytes(source)?
        };
        if bytes == 0 && found.count == 0 {
            return Ok(End::Clean { position });
        }
        if source.is_unreadable(position, room) {
            // The record that is due, or what would prove that it was durable.
            return Ok(End::Corrupt {
                position,
                sequence,
                witness: None,
                next: found.first,
            });
        }
        let dropped = found.count;
        Ok(End::Torn {
            position,
            bytes,
            dropped,
        })
    }

    fn look_ahead<S: RingSource>(&self, missing: u64, source: &mut S) -> Result<Found, S::Error> {
        LookAhead {
            key: &self.key,
            from: self.position.saturating_add(ALIGN),
            end: self.end,
            missing,
            belongs: &|header| header.epoch >= self.epoch && self.belongs(header),
            ring_len: self.control.ring_len,
        }
        .run(source)
    }

    /// How much of a record that is not whole can be seen: all of it if its header is there, else
    /// the header's bytes up to the last that is not zero.
    fn torn_bytes<S: RingSource>(&self, source: &mut S) -> Result<u64, S::Error> {
        if let Some(header) = self.header_here(source)? {
            let record = source.read(self.position, header.extent())?;
            // A whole one is of an earlier epoch: it was dropped before, and does not tear again.
            let stale = header.check(&self.key, record).is_some();
            return Ok(if stale { 0 } else { header.extent() });
        }
        let bytes = source.read(self.position, RECORD_HEADER_LEN)?;
        let last = bytes.iter().rposition(|byte| *byte != 0);
        let seen = last.map_or(0, |last| last.saturating_add(1));
        Ok(u64::try_from(seen).unwrap_or(u64::MAX))
    }
}
