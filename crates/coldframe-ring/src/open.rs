//! Opening a log: find its records, drop a torn end, begin a new epoch.

use std::sync::{Condvar, Mutex};

use coldframe_storage::{Storage, StorageError};
use coldframe_units::ByteLen;
use coldframe_walframe::ring::{Chosen, Control, RECORD_HEADER_LEN, RING_START};

use crate::lock::{Mode, RegionLock, read_owner};
use crate::progress::Progress;
use crate::recovery::{Found, refuse_corrupt, scan};
use crate::rewrite::rewrite;
use crate::state::{Start, State};
use crate::window::Window;
use crate::{Entry, Owner, Region, RingError, RingOptions, RingReader, RingWal, control};

/// Room for this many records is made at once, so that appending does not allocate.
const STARTS_RESERVED: usize = 4096;

impl<S: Storage> RingWal<S> {
    /// Opens a log for appending, with all that was durable and what else is whole.
    ///
    /// All records found are durable when this returns, also if a sync failed before and the host
    /// has some of them in its cache alone: what is not proved to be on the disk is written again.
    ///
    /// `region` may be larger than the log (one that is to grow, or that grew when a crash came).
    ///
    /// Spec: RING-20, RING-27
    ///
    /// # Errors
    /// [`RingError::Control`] if there is no log or it cannot be read, [`RingError::Corrupt`] if a
    /// record that was durable is damaged ([`RingWal::open_read_only`] still reads it),
    /// [`RingError::Locked`], [`RingError::RegionSize`], [`RingError::Read`],
    /// [`RingError::Prepare`], [`RingError::Gone`].
    pub fn open(storage: S, region: Region, options: RingOptions) -> Result<Self, RingError> {
        Self::open_with(storage, region, options, |_| ())
    }

    /// The same, and shows each record, oldest first, as recovery comes to it: to replay a log that
    /// is opened so costs one reading of it, where [`RingWal::records_after`] reads and checks it
    /// again. If this fails, what was shown is not to be relied upon.
    ///
    /// Spec: RING-20
    ///
    /// # Errors
    /// As [`RingWal::open`].
    pub fn open_with(
        storage: S,
        region: Region,
        options: RingOptions,
        mut each: impl FnMut(Entry<'_>),
    ) -> Result<Self, RingError> {
        let lock = RegionLock::acquire(&storage, region, Mode::Write)?;
        Self::open_locked(storage, region, options, lock, &mut each)
    }

    /// Opens a log for reading. Not one byte is written; a log with damage is opened too, and one
    /// of which the host can read only parts: [`RingReader::unreadable`]. Records
    /// behind [`Recovery::proved`](crate::Recovery::proved) may be in the host's cache alone.
    ///
    /// Spec: RING-21
    ///
    /// # Errors
    /// As [`RingWal::open`], but for damage of records.
    pub fn open_read_only(storage: S, region: Region) -> Result<RingReader<S>, RingError> {
        RingReader::open(storage, region)
    }

    pub(crate) fn open_locked(
        storage: S,
        region: Region,
        options: RingOptions,
        lock: RegionLock,
        each: &mut dyn FnMut(Entry<'_>),
    ) -> Result<Self, RingError> {
        let chosen = control::read(&storage, region)?;
        let left_by = read_owner(&storage, region);
        let mut window = Window::new(&storage, region, chosen.control.geometry());
        let found = scan(&mut window, region, &chosen, left_by, each)
            .map_err(|source| RingError::Read { source })?;
        refuse_corrupt(region, &chosen, found.recovery.end)?;
        rewrite(&storage, region, &chosen, &found)?;
        let size = ByteLen::new(chosen.control.ring_len + RING_START);
        let region = Region::new(region.offset(), size)?;
        let control = next_epoch(&chosen, &found)?;
        begin_epoch(&storage, region, &control, &found, lock.is_real())
            .map_err(|source| RingError::Prepare { source })?;
        let head = Start {
            sequence: control.resume_sequence,
            position: found.head_position,
        };
        let tail = Start {
            sequence: control.tail_sequence,
            position: control.tail_position,
        };
        let mut starts = found.starts;
        starts.reserve(STARTS_RESERVED);
        Ok(Self {
            storage,
            region,
            geometry: control.geometry(),
            key: control.key(),
            options,
            recovery: found.recovery,
            state: Mutex::new(State::new(
                control.ring_len,
                control.epoch,
                tail,
                head,
                starts,
            )),
            control: Mutex::new(control),
            turns: [Condvar::new(), Condvar::new()],
            progress: Progress::new(control.resume_sequence - 1),
            lock,
        })
    }
}

fn next_epoch(chosen: &Chosen, found: &Found) -> Result<Control, RingError> {
    let mut control = chosen.control;
    control.open_epoch()?;
    let what = "the sequence counter";
    control.resume_sequence = found.head_sequence.ok_or(RingError::Exhausted { what })?;
    Ok(control)
}

/// Makes the new epoch durable: before its first record, and after all that was found. Were it the
/// other way round, a power cut between the two could leave the new epoch before a record that an
/// earlier one dropped.
fn begin_epoch<S: Storage>(
    storage: &S,
    region: Region,
    control: &Control,
    found: &Found,
    owned: bool,
) -> Result<(), StorageError> {
    if found.recovery.is_torn() {
        // What is dropped now is not reported again.
        mark_end(storage, region, control, found.head_position)?;
    }
    if owned {
        storage.write_at(Owner::place(region), &Owner::this().encode())?;
    }
    control::publish(storage, region, control)
}

/// Puts zeros where the next record goes, as far as space is free: a clean end.
pub(crate) fn mark_end<S: Storage>(
    storage: &S,
    region: Region,
    control: &Control,
    head: u64,
) -> Result<(), StorageError> {
    let used = head - control.tail_position;
    let len = (control.ring_len - used).min(RECORD_HEADER_LEN);
    let zeros = [0; RECORD_HEADER_LEN as usize];
    let (first, rest) = control.geometry().parts(head, len);
    for part in [first, rest] {
        let bytes = &zeros[..part.len as usize];
        storage.write_at(region.ring_offset(part.offset), bytes)?;
    }
    Ok(())
}
