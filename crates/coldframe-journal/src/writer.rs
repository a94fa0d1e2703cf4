//! Appending to a journal.
//!
//! Invariants: an entry goes out in one write, header and payload together, and nothing is patched
//! afterwards; a write that failed leaves the end where it was; after a failed sync nothing more
//! is written (fsync(2): what was lost is not known).

mod open;
mod rewrite;

use std::marker::PhantomData;
use std::sync::Arc;

use coldframe_storage::Storage;
use coldframe_units::{ByteLen, FileOffset};
use coldframe_walframe::journal::{
    PartHeader, PartKey, RECORD_HEADER_LEN, TypeId, padded_len, seal_record, turned_over,
};

use super::compact::is_before_rename;
use super::entry::{Buffer, Member, serialize};
use super::place::FileLock;
use super::{
    Batch, Compacted, Compaction, Durability, Entry, EntrySet, JournalError, JournalOptions,
    Rewritten, Span,
};

/// What was found when a journal was opened to be continued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Entries that it holds.
    pub entries: u64,
    /// Bytes of a torn tail that were dropped.
    pub torn: ByteLen,
    /// Where the next record goes.
    pub end: FileOffset,
    /// Whether the writer before closed it.
    pub sealed: bool,
}

/// Appends the entries `E` to a journal.
pub struct JournalWriter<E> {
    storage: Arc<dyn Storage>,
    // Held, and dropped with the writer.
    lock: Option<FileLock>,
    options: JournalOptions,
    part: PartHeader,
    key: PartKey,
    part_start: u64,
    end: u64,
    durable: u64,
    // The file's length, if there are zeros ahead of `end`.
    room: u64,
    buffer: Buffer,
    poisoned: bool,
    entries: u64,
    // Entries and length after the last compaction, or when it was opened.
    base: (u64, u64),
    set: PhantomData<fn() -> E>,
}

impl<E: EntrySet> JournalWriter<E> {
    /// Where the next record goes.
    #[must_use]
    pub const fn end(&self) -> FileOffset {
        FileOffset::new(self.end)
    }

    /// Up to where everything is durable.
    #[must_use]
    pub const fn durable(&self) -> FileOffset {
        FileOffset::new(self.durable)
    }

    /// How many entries the journal has.
    #[must_use]
    pub const fn entries(&self) -> u64 {
        self.entries
    }

    /// Appends an entry, and says where it stands.
    ///
    /// # Errors
    /// [`JournalError::Serialize`], [`JournalError::TooLong`], [`JournalError::Storage`]: then it
    /// is not in the journal, and may be appended again; [`JournalError::Poisoned`].
    pub fn append<T: Entry>(&mut self, entry: &T) -> Result<Span, JournalError> {
        const { Member::<E, T>::SOUND }
        self.prepare()?;
        if !serialize(entry, &mut self.buffer) {
            return Err(JournalError::Serialize { type_id: T::TYPE });
        }
        let span = self.write_record(T::TYPE)?;
        self.entries += 1;
        Ok(span)
    }

    /// Appends an entry that is serialized already (from another journal, say).
    ///
    /// # Errors
    /// As [`JournalWriter::append`].
    ///
    /// # Panics
    /// If `type_id` is one of the framing's.
    pub fn append_encoded(&mut self, type_id: TypeId, bytes: &[u8]) -> Result<Span, JournalError> {
        assert!(type_id.is_entry(), "{type_id} is no entry's type");
        self.prepare()?;
        self.buffer.extend_from_slice(bytes);
        let span = self.write_record(type_id)?;
        self.entries += 1;
        Ok(span)
    }

    /// Appends all entries of `batch`: after a crash all of them are there, or none. Says where
    /// the record stands; [`Batch::spans`] where each entry does.
    ///
    /// # Errors
    /// As [`JournalWriter::append`].
    pub fn commit(&mut self, batch: &Batch<E>) -> Result<Span, JournalError> {
        self.prepare()?;
        if batch.is_empty() {
            return Ok(Span::new(self.end, self.end));
        }
        self.buffer.clear();
        self.buffer.extend_from_slice(batch.buffer());
        let span = self.write_record(TypeId::BATCH)?;
        self.entries += batch.len();
        Ok(span)
    }

    /// Returns once all entries appended before are durable.
    ///
    /// # Errors
    /// [`JournalError::Storage`]; then, and ever after, [`JournalError::Poisoned`].
    pub fn flush(&mut self) -> Result<(), JournalError> {
        self.refuse_poisoned()?;
        if self.durable < self.end {
            self.sync()?;
        }
        Ok(())
    }

    /// Begins to rewrite the journal to what still matters. The writer goes on meanwhile; what it
    /// appends from now on is carried over by [`JournalWriter::adopt`].
    ///
    /// # Errors
    /// [`JournalError::Storage`], also if the journal is not a file; [`JournalError::Poisoned`].
    pub fn begin_compaction(&mut self) -> Result<Compaction<E>, JournalError> {
        self.flush()?;
        Compaction::begin(Arc::clone(&self.storage), self.end, self.options)
    }

    /// Puts a compaction of this journal in its place, atomically; readers of the old file see it
    /// end, and [`is_replaced`](super::JournalReader::is_replaced) tells them.
    ///
    /// # Errors
    /// As [`JournalWriter::flush`]; the journal goes on as it was, unless only the durability of
    /// the new name is unknown: then it takes no more.
    pub fn adopt(&mut self, rewritten: Rewritten<E>) -> Result<Compacted, JournalError> {
        self.flush()?;
        let done = rewritten.done();
        match rewritten.publish() {
            Ok(writer) => *self = writer,
            Err(error) => {
                self.poisoned |= !is_before_rename(&error);
                return Err(error);
            }
        }
        let (before, after) = (done.entries_before, done.entries_after);
        tracing::info!(before, after, end = self.end, "journal compacted");
        Ok(done)
    }

    /// Entries since the last compaction, and the length after it.
    pub(crate) const fn since_compaction(&self) -> (u64, u64) {
        (self.entries - self.base.0, self.base.1)
    }

    /// Holds a lock until it is dropped.
    pub(crate) fn hold(&mut self, lock: FileLock) {
        self.lock = Some(lock);
    }

    pub(crate) const fn compacted(&mut self) {
        self.base = (self.entries, self.end);
    }

    /// Flushes, gives unused room back, and seals: from here on, damage anywhere is told from a
    /// torn tail.
    ///
    /// # Errors
    /// [`JournalError::Storage`], [`JournalError::Poisoned`].
    pub fn close(mut self) -> Result<FileOffset, JournalError> {
        self.flush()?;
        self.prepare()?;
        self.buffer
            .extend_from_slice(&turned_over(self.part.encode()));
        self.write_record(TypeId::SEAL)?;
        if self.room > self.end {
            self.storage.set_len(ByteLen::new(self.end))?;
            self.room = self.end;
        }
        self.sync()?;
        Ok(self.end())
    }

    fn refuse_poisoned(&self) -> Result<(), JournalError> {
        if self.poisoned {
            return Err(JournalError::Poisoned {
                durable: self.durable(),
            });
        }
        Ok(())
    }

    /// Room for a header in the empty buffer.
    fn prepare(&mut self) -> Result<(), JournalError> {
        self.refuse_poisoned()?;
        self.buffer.clear();
        self.buffer.resize(RECORD_HEADER_LEN as usize, 0);
        Ok(())
    }

    /// Writes the record whose payload is in the buffer.
    fn write_record(&mut self, type_id: TypeId) -> Result<Span, JournalError> {
        let size = self.buffer.len() as u64 - RECORD_HEADER_LEN;
        let max = self.options.record_max.get();
        if size > max {
            return Err(JournalError::TooLong { len: size, max });
        }
        let len = RECORD_HEADER_LEN + padded_len(size);
        self.buffer.resize(len as usize, 0);
        self.reserve(len)?;
        let (position, unsynced) = (self.end - self.part_start, self.end - self.durable);
        seal_record(
            &self.key,
            position,
            type_id,
            unsynced,
            size,
            &mut self.buffer,
        );
        let written = self.storage.write_at(self.end(), &self.buffer);
        if let Err(error) = written {
            self.take_back(len);
            return Err(error.into());
        }
        let span = Span::new(self.end, self.end + len);
        self.end += len;
        self.room = self.room.max(self.end);
        if self.options.durability == Durability::Each {
            self.sync()?;
        }
        Ok(span)
    }

    fn sync(&mut self) -> Result<(), JournalError> {
        if let Err(error) = self.storage.sync_data() {
            self.poisoned = true;
            tracing::error!(%error, durable = self.durable, "journal closed to writers");
            return Err(error.into());
        }
        self.durable = self.end;
        Ok(())
    }

    /// Sees to zeros ahead for `len` more bytes.
    fn reserve(&mut self, len: u64) -> Result<(), JournalError> {
        let step = self.options.preallocate.get();
        if step == 0 || self.end + len <= self.room {
            return Ok(());
        }
        let zeros = vec![0; step.min(1 << 20) as usize];
        let until = self.end + len + step;
        while self.room < until {
            let count = (until - self.room).min(zeros.len() as u64);
            let at = FileOffset::new(self.room);
            self.storage.write_at(at, &zeros[..count as usize])?;
            self.room += count;
        }
        // Now, not at the next append: the length is durable with it.
        self.sync()
    }

    /// Makes nothing of what a failed write may have left.
    fn take_back(&mut self, len: u64) {
        let undone = if self.room > self.end {
            let len = len.min(self.room - self.end) as usize;
            self.storage.write_at(self.end(), &vec![0; len])
        } else {
            self.storage.set_len(ByteLen::new(self.end))
        };
        if let Err(error) = undone {
            self.poisoned = true;
            tracing::error!(%error, "a failed append could not be taken back");
        }
    }
}
