//! Reading a journal: entry by entry, with one typed answer at the end.
//!
//! Invariants: it never writes; an entry is handed out only after its record's checks held; the
//! answer at the end stays the same until [`JournalReader::refresh`] or
//! [`JournalReader::resume`].

mod find;

use find::Step;
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use coldframe_storage::{FileStorage, Storage};
use coldframe_units::FileOffset;
use coldframe_walframe::journal::{PART_HEADER_LEN, PartHeader, RecordHeader, TypeId};

use super::entry::SetOf;
use super::look::{Hit, Part, Sought, scan, unseal};
use super::place::refuse_special;
use super::window::{Backing, Window};
use super::{End, EntryRef, EntrySet, JournalError, Next, Source, Span, Unsupported};
use coldframe_storage::Unreadable;

/// Damage that [`JournalReader::resume`] went past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Where what was passed over begins.
    pub start: FileOffset,
    /// Where reading goes on.
    pub end: FileOffset,
}

/// Reads a journal of the entries `E`.
pub struct JournalReader<E> {
    window: Window,
    part: Option<Part>,
    next: u64,
    batch: Option<Batch>,
    sealed: bool,
    end: Option<End>,
    found: Option<Found>,
    skipped: u64,
    durable: u64,
    unproved: Option<Unproved>,
    set: PhantomData<fn() -> E>,
}

/// What was read and no record says was durable: it may be in the host's cache alone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unproved {
    /// Where it begins.
    pub from: u64,
    /// Where the part begins that this is in.
    pub part: u64,
    /// Its records, and where they stand.
    pub records: VecDeque<(u64, RecordHeader)>,
}

impl Unproved {
    /// Takes note of a record, which says up to where all was durable when it was written.
    fn add(&mut self, part: u64, at: u64, header: RecordHeader) {
        // A seal was written when all before it was.
        let unsynced = match header.type_id {
            TypeId::SEAL => 0,
            _ => header.unsynced,
        };
        let durable = at.saturating_sub(unsynced);
        if durable > self.from {
            (self.from, self.part) = (durable, part);
        }
        self.records.push_back((at, header));
        while self.records.front().is_some_and(|(at, _)| *at < self.from) {
            self.records.pop_front();
        }
    }
}

/// The batch that is being read: its record, and how far in its payload.
#[derive(Clone, Copy)]
struct Batch {
    record: Span,
    payload_len: u64,
    next: u64,
}

/// An entry that was found; its payload is fetched last, for the borrow's sake.
#[derive(Clone, Copy)]
struct Found {
    type_id: TypeId,
    payload: (u64, u64),
    span: Span,
    record: Span,
}

impl<E: EntrySet> JournalReader<E> {
    /// Opens the journal at `path`; nothing is ever written to it.
    ///
    /// # Errors
    /// [`JournalError::Storage`].
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        refuse_special(path)?;
        Self::from_storage(Arc::new(FileStorage::open_read_only(path)?))
    }

    /// Reads from `storage`, up to its length of now.
    ///
    /// # Errors
    /// [`JournalError::Storage`].
    pub fn from_storage(storage: Arc<dyn Storage>) -> Result<Self, JournalError> {
        Ok(Self::new(Window::new(Backing::Storage(storage))?))
    }

    /// Reads from bytes, those of a [`coldframe_storage::MappedFile`], say: entries are then
    /// borrowed from the mapping itself.
    #[must_use]
    pub fn from_bytes(bytes: Bytes) -> Self {
        Self::new(Window::of_bytes(bytes))
    }

    fn new(window: Window) -> Self {
        const { SetOf::<E>::SOUND };
        Self {
            window,
            part: None,
            next: 0,
            batch: None,
            sealed: false,
            end: None,
            found: None,
            skipped: 0,
            durable: 0,
            unproved: None,
            set: PhantomData,
        }
    }

    /// Says up to where the journal is known to be durable, from elsewhere: whatever is missing
    /// before `offset` is then corrupt, never torn.
    pub fn expect_durable(&mut self, offset: FileOffset) {
        self.durable = self.durable.max(offset.get());
    }

    /// Goes on where the host cannot read: what it hides is an [`End::Unreadable`], and no error.
    /// For salvage; a caller that decides by what a journal says wants the error.
    #[must_use]
    pub fn read_around(mut self) -> Self {
        self.window.read_around();
        self
    }

    /// What could not be read so far, in the order of the file.
    #[must_use]
    pub fn unreadable(&self) -> &[Unreadable] {
        self.window.unreadable()
    }

    /// Notes from now on what is not proved to be durable.
    pub(crate) fn track_durability(&mut self) {
        self.unproved = Some(Unproved::default());
    }

    /// What is not, as far as was read.
    pub(crate) fn take_unproved(&mut self) -> Unproved {
        self.unproved.take().unwrap_or_default()
    }

    /// How many entries were passed over so far because their types are not known and need not be.
    #[must_use]
    pub const fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Where reading goes on.
    #[must_use]
    pub const fn offset(&self) -> FileOffset {
        FileOffset::new(self.next)
    }

    /// The header of the part that was read last.
    #[must_use]
    pub fn part(&self) -> Option<&PartHeader> {
        self.part.as_ref().map(|part| &part.header)
    }

    /// Where that part begins.
    #[must_use]
    pub fn part_start(&self) -> Option<FileOffset> {
        self.part.as_ref().map(|part| FileOffset::new(part.start))
    }

    pub(crate) const fn part_read(&self) -> Option<&Part> {
        self.part.as_ref()
    }

    /// Begins again, as if just opened.
    ///
    /// # Errors
    /// [`JournalError::Storage`].
    pub fn restart(&mut self) -> Result<(), JournalError> {
        self.window.refresh()?;
        (self.part, self.next, self.batch) = (None, 0, None);
        (self.sealed, self.end, self.skipped) = (false, None, 0);
        self.found = None;
        Ok(())
    }

    /// Takes note of what was appended meanwhile: the way to follow a growing journal.
    ///
    /// # Errors
    /// [`JournalError::Storage`].
    pub fn refresh(&mut self) -> Result<(), JournalError> {
        self.window.refresh()?;
        (self.end, self.found) = (None, None);
        Ok(())
    }

    /// Goes on at `at`, behind a record of the part that was read last.
    pub(crate) fn go_on_at(&mut self, at: FileOffset) -> Result<(), JournalError> {
        self.refresh()?;
        (self.next, self.batch) = (at.get(), None);
        Ok(())
    }

    /// The next entry, or why there is none.
    ///
    /// # Errors
    /// [`JournalError::Storage`] alone: what is wrong with the journal itself is an [`End`].
    pub fn read(&mut self) -> Result<Next<'_>, JournalError> {
        Source::read(self)
    }

    /// Whether another file is at the journal's path now: a compaction put it there, and what is
    /// left to read here is all there will be. Open it again to go on.
    #[must_use]
    pub fn is_replaced(&self) -> bool {
        self.window.is_replaced()
    }

    /// Reads all the rest; returns why it stopped.
    ///
    /// # Errors
    /// Those of [`JournalReader::read`], and of `each`.
    pub fn read_all<X: From<JournalError>>(
        &mut self,
        mut each: impl FnMut(EntryRef<'_>) -> Result<(), X>,
    ) -> Result<End, X> {
        loop {
            match self.read()? {
                Next::Entry(entry) => each(entry)?,
                Next::End(end) => return Ok(end),
            }
        }
    }

    /// After an end that is not clean: goes to the next sound record behind it, of whatever part,
    /// and says what was passed over; `None` if there is none, or the end was clean.
    ///
    /// # Errors
    /// [`JournalError::Storage`].
    pub fn resume(&mut self) -> Result<Option<Gap>, JournalError> {
        let start = self.next;
        let sought = match self.end {
            Some(End::Torn { .. } | End::Corrupt { .. } | End::Unreadable { .. }) => Sought::Sound,
            // The record is sound: what is behind it is next.
            Some(End::Unsupported {
                what: Unsupported::Type(_),
                ..
            }) => return self.pass_over(start),
            Some(End::Unsupported { .. }) => Sought::Part,
            Some(End::Clean { .. }) | None => return Ok(None),
        };
        let mut from = start;
        if sought == Sought::Part {
            from += 1;
        } else if let Some(part) = unseal(&mut self.window, start)? {
            (self.part, from) = (Some(part), start + PART_HEADER_LEN);
        }
        match scan(&mut self.window, self.part.as_ref(), from, sought)? {
            None => return Ok(None),
            Some(Hit::Record(place)) => self.next = place,
            Some(Hit::Part(part)) => (self.next, self.part) = (part.start, None),
        }
        (self.batch, self.end) = (None, None);
        Ok(Some(gap(start, self.next)))
    }

    /// Goes past the record or item at which the reader stopped.
    fn pass_over(&mut self, start: u64) -> Result<Option<Gap>, JournalError> {
        self.end = None;
        match self.find()? {
            Step::Found(found) => Ok(Some(gap(start, found.span.end.get()))),
            Step::End(end) => {
                self.end = Some(end);
                Ok(None)
            }
        }
    }

    /// The next entry that the set knows.
    fn find_known(&mut self) -> Result<Result<Found, End>, JournalError> {
        if let Some(end) = self.end {
            return Ok(Err(end));
        }
        loop {
            let (next, batch) = (self.next, self.batch);
            let end = match self.find()? {
                Step::Found(found) if E::knows(found.type_id) => return Ok(Ok(found)),
                Step::Found(found) if !found.type_id.is_must_understand() => {
                    self.skipped += 1;
                    continue;
                }
                Step::Found(found) => {
                    // So that `resume` finds it again.
                    (self.next, self.batch) = (next, batch);
                    End::Unsupported {
                        offset: found.span.start,
                        what: Unsupported::Type(found.type_id),
                    }
                }
                Step::End(end) => end,
            };
            self.end = Some(end);
            return Ok(Err(end));
        }
    }
}

impl<E: EntrySet> Source for JournalReader<E> {
    fn advance(&mut self) -> Result<Option<End>, JournalError> {
        self.found = None;
        match self.find_known()? {
            Ok(found) => {
                // In the window from here on, so that `current` needs no more than a look.
                self.window.get(found.payload.0, found.payload.1)?;
                self.found = Some(found);
                Ok(None)
            }
            Err(end) => Ok(Some(end)),
        }
    }

    fn current(&self) -> Option<EntryRef<'_>> {
        let found = self.found?;
        Some(EntryRef {
            type_id: found.type_id,
            payload: self.window.loaded(found.payload.0, found.payload.1)?,
            span: found.span,
            record: found.record,
        })
    }

    fn restart(&mut self) -> Result<(), JournalError> {
        Self::restart(self)
    }
}

const fn gap(start: u64, end: u64) -> Gap {
    let (start, end) = (FileOffset::new(start), FileOffset::new(end));
    Gap { start, end }
}
