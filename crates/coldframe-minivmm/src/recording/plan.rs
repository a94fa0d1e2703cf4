//! Reading a recording: what of it is there, and what of that comes after a snapshot.
//!
//! Invariant: a journal that is damaged is refused whole, before anything of it is replayed; one
//! that was cut is replayed as far as it goes.

use std::collections::VecDeque;
use std::path::Path;

use coldframe_journal::kinds::{ClockRead, ConsoleInput, PortInput, SnapshotMark};
use coldframe_journal::{End, Entry, EntryError, EntryRef, JournalReader};
use coldframe_units::{ByteLen, FileOffset, SnapshotId};
use coldframe_walframe::journal::{PART_HEADER_LEN, RECORD_HEADER_LEN, padded_len};

use super::replayer::Step;
use crate::recording::{
    Begin, GuestEnd, GuestMark, RecordingEntries, RecordingError, RecordingId, Replayer,
};

/// Bytes of what closes a journal.
const SEAL_LEN: u64 = RECORD_HEADER_LEN + padded_len(PART_HEADER_LEN);

/// A journal that does not reach the guest's end, or was not closed behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Behind the last whole entry.
    pub offset: FileOffset,
    /// Bytes behind it, which are no whole entry.
    pub dropped: ByteLen,
}

/// A recording as its journal has it.
#[derive(Clone, Debug)]
pub struct Recording {
    id: Option<RecordingId>,
    entries: Vec<(FileOffset, Item)>,
    cut: Option<Cut>,
}

#[derive(Clone, Debug)]
enum Item {
    Step(Step),
    Snapshot(SnapshotMark),
}

impl Recording {
    /// Reads and checks the whole journal at `path`.
    ///
    /// # Errors
    /// [`RecordingError::Refused`], [`RecordingError::Seal`] where it is damaged;
    /// [`RecordingError::Read`], [`RecordingError::Entry`], [`RecordingError::NoBeginning`].
    pub fn read(path: &Path) -> Result<Self, RecordingError> {
        let failed = |source| RecordingError::Read {
            path: path.to_path_buf(),
            source,
        };
        let mut reader = JournalReader::<RecordingEntries>::open(path).map_err(failed)?;
        let mut found = Self {
            id: None,
            entries: Vec::new(),
            cut: None,
        };
        // An unreadable entry of a sound record is told after the journal's own state.
        let mut unreadable = None;
        let end = reader
            .read_all(|entry| {
                if unreadable.is_none() {
                    unreadable = found.take(&entry).err();
                }
                Ok(())
            })
            .map_err(failed)?;
        found.cut = found.judge(path, end)?;
        match unreadable {
            Some(error) => Err(error),
            None => Ok(found),
        }
    }

    fn take(&mut self, entry: &EntryRef<'_>) -> Result<(), RecordingError> {
        if self.id.is_none() {
            if !entry.is::<Begin>() {
                return Err(RecordingError::NoBeginning);
            }
            let begin = entry.archived::<Begin>().map_err(RecordingError::Entry)?;
            self.id = Some(begin.recording);
            return Ok(());
        }
        let item = item(entry).map_err(RecordingError::Entry)?;
        self.entries.push((entry.span().start, item));
        Ok(())
    }

    /// Whether the journal was cut; refuses what is not whole for another reason.
    fn judge(&self, path: &Path, end: End) -> Result<Option<Cut>, RecordingError> {
        let path = || path.to_path_buf();
        let has_end = self.has_end();
        let (offset, dropped) = match end {
            End::Clean { sealed: true, .. } if has_end => return Ok(None),
            End::Clean { offset, .. } => (offset, ByteLen::ZERO),
            // As long as a seal, but none.
            End::Torn {
                offset, dropped, ..
            } if has_end && dropped.get() >= SEAL_LEN => {
                let path = path();
                return Err(RecordingError::Seal { path, offset });
            }
            End::Torn {
                joined: None,
                offset,
                dropped,
            } => (offset, dropped),
            end => return Err(RecordingError::Refused { path: path(), end }),
        };
        Ok(Some(Cut { offset, dropped }))
    }

    fn has_end(&self) -> bool {
        matches!(self.entries.last(), Some((_, Item::Step(Step::End(_)))))
    }

    /// Where it was cut, if it does not reach the guest's end and its own.
    #[must_use]
    pub const fn cut(&self) -> Option<Cut> {
        self.cut
    }

    /// What comes after `snapshot`, whose device state names `recording`: up to the mark `to`, or
    /// all. Nothing, if the journal was cut before the snapshot.
    ///
    /// # Errors
    /// [`RecordingError::NotRecorded`], [`RecordingError::OtherRecording`],
    /// [`RecordingError::NoSnapshot`], [`RecordingError::NoMark`].
    pub fn replay(
        &self,
        snapshot: SnapshotId,
        recording: Option<RecordingId>,
        to: Option<u32>,
    ) -> Result<Replayer, RecordingError> {
        let recording = recording.ok_or(RecordingError::NotRecorded { snapshot })?;
        if self.id.is_some_and(|id| id != recording) {
            return Err(RecordingError::OtherRecording { snapshot });
        }
        let mark = self.entries.iter().position(|(_, item)| {
            matches!(item, Item::Snapshot(mark) if mark.snapshot == *snapshot.as_bytes())
        });
        let after = match mark {
            Some(index) => &self.entries[index + 1..],
            None if !self.has_end() => &[],
            None => return Err(RecordingError::NoSnapshot { snapshot }),
        };
        let mut steps = VecDeque::new();
        for (offset, item) in after {
            if let Item::Step(step) = item {
                steps.push_back((*offset, step.clone()));
            }
        }
        if let Some(mark) = to {
            let of = |step: &Step| match step {
                Step::Mark(mark) => Some(mark.mark),
                _ => None,
            };
            let is_it = |(_, step): &(FileOffset, Step)| of(step) == Some(mark);
            let Some(index) = steps.iter().position(is_it) else {
                let mut marks = steps.iter().filter_map(|(_, step)| of(step));
                let first = marks.next();
                let known = first.map(|first| (first, marks.next_back().unwrap_or(first)));
                return Err(RecordingError::NoMark {
                    mark,
                    snapshot,
                    known,
                });
            };
            steps.truncate(index + 1);
        }
        Ok(Replayer::new(steps))
    }
}

fn item(entry: &EntryRef<'_>) -> Result<Item, EntryError> {
    Ok(match entry.type_id() {
        ConsoleInput::TYPE => Item::Step(Step::Console(entry.decode()?)),
        PortInput::TYPE => Item::Step(Step::Port(entry.decode()?)),
        ClockRead::TYPE => Item::Step(Step::Clock(entry.decode()?)),
        GuestMark::TYPE => Item::Step(Step::Mark(entry.decode()?)),
        GuestEnd::TYPE => Item::Step(Step::End(entry.decode()?)),
        _ => Item::Snapshot(entry.decode()?),
    })
}
