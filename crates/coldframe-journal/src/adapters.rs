//! Sinks and sources made of others: filters, counters, copies, transactions.

use std::marker::PhantomData;

use super::{Batch, End, EntryRef, EntrySet, JournalError, Sink, Source, Span};

/// Lets only those entries through that a rule keeps: into a sink, or out of a source.
///
/// The rule sees each entry once, in order; it may go by type, by content, or by count.
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
