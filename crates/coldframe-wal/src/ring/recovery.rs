//! What opening a log finds.

use std::collections::VecDeque;

use coldframe_envelope::DecodeError;
use coldframe_storage::{Storage, StorageError};
use coldframe_walframe::ring::{Chosen, End, Gap, RecordHeader, Step};

use crate::ring::state::Start;
use crate::ring::window::Window;
use crate::ring::{Entry, Owner, Region, RingError, Sequence};

/// The state of one of the two control blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SlotState {
    /// It holds.
    Current,
    /// It is older than the other one: its update was cut short. Nothing is lost.
    Older,
    /// It cannot be read; the other one holds.
    Damaged(DecodeError),
}

/// What was found when a log was opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovery {
    /// Sound records.
    pub records: u64,
    /// Bytes that they take.
    pub bytes: u64,
    /// The first and the last of them.
    pub range: Option<(Sequence, Sequence)>,
    /// Bytes of a record that is not whole: it was never acknowledged, and is dropped.
    pub torn_bytes: u64,
    /// Sound records behind a torn one, which were not acknowledged either, and are dropped.
    pub dropped_records: u64,
    /// Sequences that a repair gave up.
    pub lost_records: u64,
    /// How many times the ring was gone round.
    pub laps: u64,
    /// How the records end.
    pub end: End,
    /// The control blocks.
    pub slots: [SlotState; 2],
    /// Who had the log open and did not close it.
    pub left_by: Option<Owner>,
}

impl Recovery {
    /// Whether the end was torn by a crash; nothing that was acknowledged is missing.
    #[must_use]
    pub const fn is_torn(&self) -> bool {
        matches!(self.end, End::Torn { .. })
    }

    /// Whether a record that was acknowledged is damaged.
    #[must_use]
    pub const fn is_corrupt(&self) -> bool {
        matches!(self.end, End::Corrupt { .. })
    }
}

/// A log as a scan finds it.
pub(crate) struct Found {
    pub recovery: Recovery,
    pub starts: VecDeque<Start>,
    /// The next record; `None` in its sequence past the last there can be.
    pub head_position: u64,
    pub head_sequence: Option<u64>,
}

/// Reads all records once, each checked, and shows them to `each`.
pub(crate) fn scan<S: Storage>(
    storage: &S,
    region: Region,
    chosen: &Chosen,
    left_by: Option<Owner>,
    each: &mut dyn FnMut(Entry<'_>),
) -> Result<Found, StorageError> {
    let control = chosen.control;
    let mut window = Window::new(storage, region, control.geometry());
    let mut scan = control.scan();
    let mut found = Found {
        recovery: Recovery {
            records: 0,
            bytes: 0,
            range: None,
            torn_bytes: 0,
            dropped_records: 0,
            lost_records: 0,
            laps: 0,
            end: End::Clean {
                position: control.tail_position,
            },
            slots: slots(chosen),
            left_by,
        },
        starts: VecDeque::new(),
        head_position: 0,
        head_sequence: None,
    };
    let end = loop {
        match scan.step(&mut window)? {
            Step::Record(record) => {
                found.add(&record.header);
                each(Entry::new(region, control.geometry(), &record));
            }
            Step::Gap(gap) => found.add_gap(gap),
            Step::End(end) => break end,
        }
    };
    if let End::Torn { bytes, dropped, .. } = end {
        found.recovery.torn_bytes = bytes;
        found.recovery.dropped_records = dropped;
    }
    found.recovery.end = end;
    found.recovery.laps = control.geometry().lap_of(end.position());
    found.head_position = end.position();
    found.head_sequence = scan.sequence();
    Ok(found)
}

impl Found {
    fn add(&mut self, header: &RecordHeader) {
        let sequence = Sequence::new(header.sequence);
        let recovery = &mut self.recovery;
        recovery.records += 1;
        recovery.bytes += header.extent();
        let first = recovery.range.map_or(sequence, |(first, _)| first);
        recovery.range = Some((first, sequence));
        self.starts.push_back(Start {
            sequence: header.sequence,
            position: header.position,
        });
    }

    const fn add_gap(&mut self, gap: Gap) {
        self.recovery.lost_records += gap.lost;
        self.recovery.bytes += gap.bytes;
    }
}

fn slots(chosen: &Chosen) -> [SlotState; 2] {
    chosen.slots.map(|slot| match slot {
        Ok(generation) if generation == chosen.control.generation => SlotState::Current,
        Ok(_) => SlotState::Older,
        Err(error) => SlotState::Damaged(error),
    })
}

/// The error of a log that may not be written to because of its end.
pub(crate) fn refuse_corrupt(region: Region, chosen: &Chosen, end: End) -> Result<(), RingError> {
    let End::Corrupt {
        position,
        sequence,
        witness,
        ..
    } = end
    else {
        return Ok(());
    };
    let offset = chosen.control.geometry().offset_of(position);
    Err(RingError::Corrupt {
        offset: region.ring_offset(offset),
        sequence: Sequence::new(sequence),
        witness: witness.map(|place| Sequence::new(place.sequence)),
    })
}
