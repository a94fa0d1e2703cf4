//! Sinks and sources made of others: filters, counters, copies, transactions.

use std::marker::PhantomData;

use super::{Batch, End, EntryRef, EntrySet, JournalError, Sink, Source, Span};

/// Lets only those entries through that a rule keeps: into a sink, or out of a source.
///
/// The rule sees each entry once, in order; it may go by type, by content, or by count.
///
/// ```
/// use std::sync::Arc;
/// use coldframe_storage::MemStorage;
/// use coldframe_journal::kinds::{CoreEntries, MemoryZero};
/// use coldframe_journal::{Filtered, JournalOptions, JournalReader, JournalWriter, NullSink, copy};
///
/// let storage = Arc::new(MemStorage::new());
/// let options = JournalOptions::new()?;
/// let mut journal = JournalWriter::<CoreEntries>::create_in(storage.clone(), options)?;
/// for len in [4096, 0, 8192] {
///     journal.append(&MemoryZero { ram_offset: 0, len })?;
/// }
/// let reader = JournalReader::<CoreEntries>::from_storage(storage)?;
/// let mut long = Filtered::new(reader, |entry| {
///     entry.archived::<MemoryZero>().is_ok_and(|zero| zero.len > 4096)
/// });
/// let copied = copy::<CoreEntries>(&mut long, &mut NullSink)?;
/// assert_eq!(copied.entries, 1);
/// # Ok::<(), coldframe_journal::JournalError>(())
/// ```
pub struct Filtered<I, F> {
    inner: I,
    keep: F,
}

impl<I, F: FnMut(&EntryRef<'_>) -> bool> Filtered<I, F> {
    /// Puts `keep` before or behind `inner`.
    pub const fn new(inner: I, keep: F) -> Self {
        Self { inner, keep }
    }

    /// What it was put around.
    pub fn into_inner(self) -> I {
        self.inner
    }
}

impl<E: EntrySet, I: Sink<E>, F: FnMut(&EntryRef<'_>) -> bool> Sink<E> for Filtered<I, F> {
    fn append_encoded(&mut self, entry: EntryRef<'_>) -> Result<Option<Span>, JournalError> {
        if (self.keep)(&entry) {
            self.inner.append_encoded(entry)
        } else {
            Ok(None)
        }
    }

    fn commit(&mut self, batch: &Batch<E>) -> Result<Option<Span>, JournalError> {
        let mut kept = Batch::new();
        for entry in batch.entries().filter(|entry| (self.keep)(entry)) {
            kept.push_encoded(entry.type_id(), entry.payload());
        }
        if kept.is_empty() {
            return Ok(None);
        }
        self.inner.commit(&kept)
    }

    fn flush(&mut self) -> Result<(), JournalError> {
        self.inner.flush()
    }
}

impl<I: Source, F: FnMut(&EntryRef<'_>) -> bool> Source for Filtered<I, F> {
    fn advance(&mut self) -> Result<Option<End>, JournalError> {
        loop {
            let end = self.inner.advance()?;
            if end.is_some()
                || self
                    .inner
                    .current()
                    .is_some_and(|entry| (self.keep)(&entry))
            {
                return Ok(end);
            }
        }
    }

    fn current(&self) -> Option<EntryRef<'_>> {
        self.inner.current()
    }

    fn restart(&mut self) -> Result<(), JournalError> {
        self.inner.restart()
    }
}

/// Takes entries and forgets them.
#[derive(Clone, Copy, Debug, Default)]
pub struct NullSink;

impl<E: EntrySet> Sink<E> for NullSink {
    fn append_encoded(&mut self, _: EntryRef<'_>) -> Result<Option<Span>, JournalError> {
        Ok(None)
    }

    fn commit(&mut self, _: &Batch<E>) -> Result<Option<Span>, JournalError> {
        Ok(None)
    }

    fn flush(&mut self) -> Result<(), JournalError> {
        Ok(())
    }
}

/// Counts what goes into a sink.
///
/// ```
/// use coldframe_journal::kinds::{CoreEntries, MemoryZero};
/// use coldframe_journal::{Counting, NullSink, Sink};
///
/// let mut counting = Counting::new(NullSink);
/// Sink::<CoreEntries>::append(&mut counting, &MemoryZero { ram_offset: 0, len: 4096 })?;
/// assert_eq!((counting.entries(), counting.payload_bytes()), (1, 16));
/// # Ok::<(), coldframe_journal::JournalError>(())
/// ```
#[derive(Debug)]
pub struct Counting<S> {
    inner: S,
    entries: u64,
    payload_bytes: u64,
}

impl<S> Counting<S> {
    /// Counts what goes into `inner`; [`NullSink`], to know how much there is.
    pub const fn new(inner: S) -> Self {
        Self {
            inner,
            entries: 0,
            payload_bytes: 0,
        }
    }

    /// Entries that were taken.
    pub const fn entries(&self) -> u64 {
        self.entries
    }

    /// Bytes in them, without framing.
    pub const fn payload_bytes(&self) -> u64 {
        self.payload_bytes
    }

    /// What it counts for.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<E: EntrySet, S: Sink<E>> Sink<E> for Counting<S> {
    fn append_encoded(&mut self, entry: EntryRef<'_>) -> Result<Option<Span>, JournalError> {
        let span = self.inner.append_encoded(entry)?;
        self.entries += 1;
        self.payload_bytes += entry.payload.len() as u64;
        Ok(span)
    }

    fn commit(&mut self, batch: &Batch<E>) -> Result<Option<Span>, JournalError> {
        let span = self.inner.commit(batch)?;
        self.entries += batch.len();
        let sizes = batch.entries().map(|entry| entry.payload.len() as u64);
        self.payload_bytes += sizes.sum::<u64>();
        Ok(span)
    }

    fn flush(&mut self) -> Result<(), JournalError> {
        self.inner.flush()
    }
}

/// Puts every entry into two sinks, the first one first; spans are those of the first.
///
/// ```
/// use std::sync::Arc;
/// use coldframe_storage::MemStorage;
/// use coldframe_journal::kinds::{CoreEntries, MemoryZero};
/// use coldframe_journal::{JournalOptions, JournalWriter, Printer, Sink, Style, Tee};
///
/// let storage = Arc::new(MemStorage::new());
/// let options = JournalOptions::new()?;
/// let mut journal = JournalWriter::<CoreEntries>::create_in(storage.clone(), options)?;
/// let printer = Printer::<CoreEntries, _>::new(Vec::new(), Style::Text);
/// let mut both = Tee(journal, printer);
/// Sink::<CoreEntries>::append(&mut both, &MemoryZero { ram_offset: 0, len: 4096 })?;
/// let Tee(journal, printer) = both;
/// assert_eq!(journal.entries(), 1);
/// // It has no place in what only prints.
/// assert_eq!(printer.into_inner(), b"0x0 memory_zero ram_offset=0 len=4096\n");
/// # Ok::<(), coldframe_journal::JournalError>(())
/// ```
#[derive(Debug)]
pub struct Tee<A, B>(pub A, pub B);

impl<E: EntrySet, A: Sink<E>, B: Sink<E>> Sink<E> for Tee<A, B> {
    fn append_encoded(&mut self, entry: EntryRef<'_>) -> Result<Option<Span>, JournalError> {
        let span = self.0.append_encoded(entry)?;
        self.1.append_encoded(entry)?;
        Ok(span)
    }

    fn commit(&mut self, batch: &Batch<E>) -> Result<Option<Span>, JournalError> {
        let span = self.0.commit(batch)?;
        self.1.commit(batch)?;
        Ok(span)
    }

    fn flush(&mut self) -> Result<(), JournalError> {
        self.0.flush()?;
        self.1.flush()
    }
}

/// Holds entries back until they are committed, all at once; dropped, it leaves no trace.
///
/// ```
/// use std::sync::Arc;
/// use coldframe_storage::MemStorage;
/// use coldframe_journal::kinds::{CoreEntries, MemoryZero};
/// use coldframe_journal::{JournalOptions, JournalWriter, Sink, Transaction};
///
/// let storage = Arc::new(MemStorage::new());
/// let options = JournalOptions::new()?;
/// let mut journal = JournalWriter::<CoreEntries>::create_in(storage.clone(), options)?;
/// let mut transaction = Transaction::<CoreEntries, _>::new(&mut journal);
/// for ram_offset in [0, 8192] {
///     transaction.append(&MemoryZero { ram_offset, len: 4096 })?;
/// }
/// assert_eq!(transaction.batch().len(), 2);
/// transaction.finish()?;
/// journal.flush()?; // both are on the disk, or neither
/// assert_eq!(journal.entries(), 2);
/// # Ok::<(), coldframe_journal::JournalError>(())
/// ```
pub struct Transaction<'a, E, S> {
    sink: &'a mut S,
    batch: Batch<E>,
    set: PhantomData<fn() -> E>,
}

impl<'a, E: EntrySet, S: Sink<E>> Transaction<'a, E, S> {
    /// Begins one that ends in `sink`.
    pub fn new(sink: &'a mut S) -> Self {
        Self {
            sink,
            batch: Batch::new(),
            set: PhantomData,
        }
    }

    /// What is held back.
    pub const fn batch(&self) -> &Batch<E> {
        &self.batch
    }

    /// Forgets what is held back.
    pub fn rollback(&mut self) {
        self.batch.clear();
    }

    /// Puts all of it into the sink as one batch; says how many entries, and where the batch
    /// stands. If it fails, they are still held back, and nothing of them is in the sink.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn finish(&mut self) -> Result<(u64, Option<Span>), JournalError> {
        let count = self.batch.len();
        let span = self.sink.commit(&self.batch)?;
        self.batch.clear();
        Ok((count, span))
    }
}

impl<E: EntrySet, S: Sink<E>> Sink<E> for Transaction<'_, E, S> {
    /// Holds the entry back: it has no place yet.
    fn append_encoded(&mut self, entry: EntryRef<'_>) -> Result<Option<Span>, JournalError> {
        self.batch.push_encoded(entry.type_id, entry.payload);
        Ok(None)
    }

    fn commit(&mut self, batch: &Batch<E>) -> Result<Option<Span>, JournalError> {
        for entry in batch.entries() {
            self.batch.push_encoded(entry.type_id, entry.payload);
        }
        Ok(None)
    }

    fn flush(&mut self) -> Result<(), JournalError> {
        self.sink.flush()
    }
}
