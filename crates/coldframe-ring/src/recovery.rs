//! What opening a log finds.

use std::collections::VecDeque;

use coldframe_envelope::DecodeError;
use coldframe_storage::{Storage, StorageError};
use coldframe_walframe::ring::{Chosen, End, Gap, RecordHeader, Step};

use crate::state::Start;
use crate::window::Window;
use crate::{Entry, Owner, Region, RingError, Sequence};

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
    /// The last record that a sync is known to have covered. Those behind it were read, perhaps
    /// from the host's cache alone, and are not proved to be on the disk; opening for writing makes
    /// them durable, opening read-only does not.
    pub proved: Sequence,
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
    /// What repairs gave up.
    pub gaps: Vec<Span>,
    /// Where the epoch changes, with the first record of each.
    epochs: Vec<(u64, u32)>,
    /// The next record; `None` in its sequence past the last there can be.
    pub head_position: u64,
    pub head_sequence: Option<u64>,
}

/// A range of positions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub position: u64,
    pub end: u64,
}

/// Reads all records once through the window, each checked, and shows them to `each`.
pub(crate) fn scan<S: Storage>(
    window: &mut Window<S>,
    region: Region,
    chosen: &Chosen,
    left_by: Option<Owner>,
    each: &mut dyn FnMut(Entry<'_>),
) -> Result<Found, StorageError> {
    let control = chosen.control;
    let mut scan = control.scan();
    let mut found = Found {
        recovery: Recovery {
            records: 0,
            bytes: 0,
            range: None,
            torn_bytes: 0,
            dropped_records: 0,
            lost_records: 0,
            proved: Sequence::new(control.tail_sequence.max(control.synced_sequence)),
            laps: 0,
            end: End::Clean {
                position: control.tail_position,
            },
            slots: slots(chosen),
            left_by,
        },
        starts: VecDeque::new(),
        gaps: Vec::new(),
        epochs: Vec::new(),
        head_position: 0,
        head_sequence: None,
    };
    let end = loop {
        match scan.step(window)? {
            Step::Record(record) => {
                found.add(&record.header);
                each(Entry::new(region, control.geometry(), &record));
            }
            Step::Gap(gap) => found.add_gap(gap, scan.epoch()),
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
    // Never more than what is there: a damaged log may lack what was durable.
    let last = scan
        .sequence()
        .map_or(u64::MAX, |due| due.saturating_sub(1));
    found.recovery.proved = found.recovery.proved.min(Sequence::new(last));
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
        let proved = Sequence::new(header.durable_sequence());
        recovery.proved = recovery.proved.max(proved);
        self.note_epoch(header.position, header.epoch);
        self.starts.push_back(Start {
            sequence: header.sequence,
            position: header.position,
        });
    }

    fn add_gap(&mut self, gap: Gap, epoch: u32) {
        self.recovery.lost_records += gap.lost;
        self.recovery.bytes += gap.bytes;
        self.note_epoch(gap.position, epoch);
        self.gaps.push(Span {
            position: gap.position,
            end: gap.position + gap.bytes,
        });
    }

    fn note_epoch(&mut self, position: u64, epoch: u32) {
        if self.epochs.last().is_none_or(|(_, last)| *last != epoch) {
            self.epochs.push((position, epoch));
        }
    }

    /// The epoch of the record at a position.
    pub fn epoch_at(&self, position: u64) -> u32 {
        let behind = self.epochs.partition_point(|(start, _)| *start <= position);
        let last = behind
            .checked_sub(1)
            .and_then(|index| self.epochs.get(index));
        last.map_or(0, |(_, epoch)| *epoch)
    }

    /// Where what no sync is known to have covered begins.
    pub fn unproved_from(&self) -> u64 {
        let proved = self.recovery.proved.get();
        let index = self
            .starts
            .partition_point(|start| start.sequence <= proved);
        self.starts
            .get(index)
            .map_or(self.head_position, |start| start.position)
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
