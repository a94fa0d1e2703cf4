//! A log that is only read: also a damaged one, or one that the host can read only in part, and on
//! both sides of the damage.

use coldframe_storage::Storage;
use coldframe_units::FileOffset;
use coldframe_walframe::ring::{Chosen, End, Scan, Step};

use crate::lock::{Mode, RegionLock, read_owner};
use crate::recovery::scan;
use crate::window::Window;
use crate::{Entry, Recovery, Region, RingError, RingStats, Sequence, control};
use coldframe_storage::Unreadable;

/// A log that was opened for reading; it writes nothing, and keeps writers out meanwhile.
#[derive(Debug)]
pub struct RingReader<S> {
    pub(crate) storage: S,
    pub(crate) region: Region,
    pub(crate) chosen: Chosen,
    recovery: Recovery,
    unreadable: Vec<Unreadable>,
    _lock: RegionLock,
}

impl<S: Storage> RingReader<S> {
    pub(crate) fn open(storage: S, region: Region) -> Result<Self, RingError> {
        let lock = RegionLock::acquire(&storage, region, Mode::Read)?;
        Self::with_lock(storage, region, lock)
    }

    pub(crate) fn with_lock(
        storage: S,
        region: Region,
        lock: RegionLock,
    ) -> Result<Self, RingError> {
        let (chosen, known) = control::read_around(&storage, region)?;
        let left_by = read_owner(&storage, region);
        let geometry = chosen.control.geometry();
        let mut window = Window::around(&storage, region, geometry, &known);
        let found = scan(&mut window, region, &chosen, left_by, &mut |_| ())
            .map_err(|source| RingError::Read { source })?;
        let unreadable = window.unreadable().to_vec();
        Ok(Self {
            storage,
            region,
            chosen,
            recovery: found.recovery,
            unreadable,
            _lock: lock,
        })
    }

    /// What was found.
    #[must_use]
    pub const fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// What the host could not read of the log when it was opened, in order. What else it has
    /// behind the first damage is looked at by [`RingReader::check`].
    #[must_use]
    pub fn unreadable(&self) -> &[Unreadable] {
        &self.unreadable
    }

    /// A window over the ring that reads around what cannot be read.
    pub(crate) fn window(&self) -> Window<&S> {
        let geometry = self.chosen.control.geometry();
        Window::around(&self.storage, self.region, geometry, &self.unreadable)
    }

    /// The region that was asked for; the log may take less of it.
    #[must_use]
    pub const fn region(&self) -> Region {
        self.region
    }

    /// Sizes and counts, as far as the log is whole from its tail on; nothing was done to it since
    /// it was opened.
    #[must_use]
    pub fn stats(&self) -> RingStats {
        RingStats::found(&self.chosen.control, &self.recovery)
    }

    /// Whether its last writer closed it.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.chosen.control.closed
    }

    /// Where the records end in the file, as [`Recovery::end`] says: clean, torn, or damaged.
    #[must_use]
    pub fn end_offset(&self) -> FileOffset {
        self.file_offset(self.recovery.end.position())
    }

    /// The last record that was checkpointed.
    #[must_use]
    pub const fn checkpointed(&self) -> Sequence {
        Sequence::new(self.chosen.control.tail_sequence)
    }

    /// All sound records, and between them what is missing: those behind damage too.
    ///
    /// Spec: RING-24
    #[must_use]
    pub fn salvage(&self) -> Salvage<'_, S> {
        let control = self.chosen.control;
        Salvage {
            reader: self,
            window: self.window(),
            scan: control.scan(),
            done: false,
        }
    }

    pub(crate) fn file_offset(&self, position: u64) -> FileOffset {
        let offset = self.chosen.control.geometry().offset_of(position);
        self.region.ring_offset(offset)
    }
}

/// What a damaged log holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Salvaged<'a> {
    /// A sound record.
    Record(Entry<'a>),
    /// Records that are lost: damaged now, or given up by an earlier repair.
    Lost {
        /// Where they begin in the file.
        offset: FileOffset,
        /// The first of them.
        first: Sequence,
        /// How many there are; `None` if nothing behind them says.
        count: Option<u64>,
    },
}

/// The sound records of a log on both sides of damage.
#[derive(Debug)]
pub struct Salvage<'a, S> {
    reader: &'a RingReader<S>,
    window: Window<&'a S>,
    scan: Scan,
    done: bool,
}

impl<S: Storage> Salvage<'_, S> {
    /// What could not be read so far, in the order of the file.
    #[must_use]
    pub fn unreadable(&self) -> &[Unreadable] {
        self.window.unreadable()
    }

    /// The next record or loss; `None` at the end. What it lends is valid until the next call.
    ///
    /// # Errors
    /// [`RingError::Read`].
    #[expect(
        clippy::should_implement_trait,
        reason = "an Iterator cannot lend what it holds"
    )]
    pub fn next(&mut self) -> Result<Option<Salvaged<'_>>, RingError> {
        if self.done {
            return Ok(None);
        }
        let step = self.scan.step(&mut self.window);
        Ok(match step.map_err(|source| RingError::Read { source })? {
            Step::Record(record) => {
                let geometry = self.reader.chosen.control.geometry();
                Some(Salvaged::Record(Entry::new(
                    self.reader.region,
                    geometry,
                    &record,
                )))
            }
            Step::Gap(gap) => Some(Salvaged::Lost {
                offset: self.reader.file_offset(gap.position),
                first: Sequence::new(gap.sequence),
                count: Some(gap.lost),
            }),
            Step::End(End::Corrupt {
                position,
                sequence,
                next,
                ..
            }) => {
                match next {
                    Some(next) => self.scan.resume_at(next),
                    None => self.done = true,
                }
                let synced = self.reader.chosen.control.synced_sequence;
                let known = synced.checked_sub(sequence).map(|more| more + 1);
                Some(Salvaged::Lost {
                    offset: self.reader.file_offset(position),
                    first: Sequence::new(sequence),
                    count: next.map(|next| next.sequence - sequence).or(known),
                })
            }
            Step::End(_) => {
                self.done = true;
                None
            }
        })
    }
}
