//! Where entries go, and where they come from: what adapters are written against.
//!
//! Invariant: a batch that goes into a sink stays one, or is refused: no adapter takes it apart.

use super::entry::{Buffer, Member, serialize};
use super::{Batch, End, Entry, EntryRef, EntrySet, JournalError, JournalWriter, Span};

/// Something that takes entries.
pub trait Sink<E: EntrySet> {
    /// Takes an entry that is serialized already; says where it stands, if it stands anywhere.
    ///
    /// # Errors
    /// As [`JournalWriter::append`].
    fn append_encoded(&mut self, entry: EntryRef<'_>) -> Result<Option<Span>, JournalError>;

    /// Takes all entries of `batch`, or none.
    ///
    /// # Errors
    /// As [`JournalWriter::append`].
    fn commit(&mut self, batch: &Batch<E>) -> Result<Option<Span>, JournalError>;

    /// Returns once all that was taken is durable.
    ///
    /// # Errors
    /// As [`JournalWriter::flush`].
    fn flush(&mut self) -> Result<(), JournalError>;

    /// Takes an entry.
    ///
    /// # Errors
    /// As [`JournalWriter::append`].
    fn append<T: Entry>(&mut self, entry: &T) -> Result<Option<Span>, JournalError>
    where
        Self: Sized,
    {
        const { Member::<E, T>::SOUND }
        let mut buffer = Buffer::new();
        if !serialize(entry, &mut buffer) {
            return Err(JournalError::Serialize { type_id: T::TYPE });
        }
        self.append_encoded(EntryRef {
            type_id: T::TYPE,
            payload: &buffer,
            span: Span::new(0, 0),
            record: Span::new(0, 0),
        })
    }
}

/// What a source has next.
#[derive(Clone, Copy, Debug)]
pub enum Next<'a> {
    /// An entry.
    Entry(EntryRef<'a>),
    /// There is no more, and why.
    End(End),
}

/// Something that entries come out of.
pub trait Source {
    /// Goes to the next entry; says why if there is none.
    ///
    /// # Errors
    /// [`JournalError::Storage`].
    fn advance(&mut self) -> Result<Option<End>, JournalError>;

    /// The entry that it went to last.
    fn current(&self) -> Option<EntryRef<'_>>;

    /// Begins again.
    ///
    /// # Errors
    /// [`JournalError::Storage`].
    fn restart(&mut self) -> Result<(), JournalError>;

    /// The next entry, or why there is none.
    ///
    /// # Errors
    /// [`JournalError::Storage`].
    fn read(&mut self) -> Result<Next<'_>, JournalError> {
        if let Some(end) = self.advance()? {
            return Ok(Next::End(end));
        }
        Ok(Next::Entry(
            self.current().expect("it went to an entry just now"),
        ))
    }
}

impl<E: EntrySet> Sink<E> for JournalWriter<E> {
    fn append_encoded(&mut self, entry: EntryRef<'_>) -> Result<Option<Span>, JournalError> {
        Self::append_encoded(self, entry.type_id, entry.payload).map(Some)
    }

    fn commit(&mut self, batch: &Batch<E>) -> Result<Option<Span>, JournalError> {
        Self::commit(self, batch).map(Some)
    }

    fn flush(&mut self) -> Result<(), JournalError> {
        Self::flush(self)
    }
}

/// What [`copy`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Entries that were copied.
    pub entries: u64,
    /// Why there were no more.
    pub end: End,
}

/// Copies what is left in `source` to `sink`; batches stay batches. Does not flush.
///
/// # Errors
/// Those of the two.
pub fn copy<E: EntrySet>(
    source: &mut impl Source,
    sink: &mut impl Sink<E>,
) -> Result<Copied, JournalError> {
    copy_where(source, sink, |_| Pick::Take)
}

/// What to do with an entry.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pick {
    Take,
    Leave,
    /// Stop before it.
    Stop,
}

/// Copies the entries that are picked; the `end` of a stop is clean.
pub(crate) fn copy_where<E: EntrySet>(
    source: &mut impl Source,
    sink: &mut impl Sink<E>,
    mut pick: impl FnMut(&EntryRef<'_>) -> Pick,
) -> Result<Copied, JournalError> {
    let (mut batch, mut record) = (Batch::<E>::new(), None);
    let mut entries = 0;
    loop {
        let next = source.advance()?;
        let entry = source.current();
        let picked = entry.as_ref().map_or(Pick::Stop, &mut pick);
        if !batch.is_empty() && entry.map(|entry| entry.record) != record {
            sink.commit(&batch)?;
            batch.clear();
        }
        match (entry, picked) {
            (Some(entry), Pick::Take) if entry.record != entry.span => {
                record = Some(entry.record);
                batch.push_encoded(entry.type_id, entry.payload);
            }
            (Some(entry), Pick::Take) => {
                sink.append_encoded(entry)?;
            }
            (Some(_), Pick::Leave) => continue,
            (Some(entry), Pick::Stop) => {
                let (offset, sealed) = (entry.record.start, false);
                let end = End::Clean { offset, sealed };
                return Ok(Copied { entries, end });
            }
            (None, _) => {
                let end = next.expect("without an entry there is an end");
                return Ok(Copied { entries, end });
            }
        }
        entries += 1;
    }
}
