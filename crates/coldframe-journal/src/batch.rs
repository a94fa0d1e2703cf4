//! Entries that become part of the journal together or not at all.
//!
//! Invariant: the buffer is the payload of one record, ready to be written: one digest covers all
//! entries, so that no crash leaves some of them.

use std::marker::PhantomData;

use coldframe_units::FileOffset;
use coldframe_walframe::journal::{
    ALIGN, BATCH_ITEM_LEN, BatchItems, RECORD_HEADER_LEN, TypeId, item_header,
};

use super::entry::{Buffer, Member, serialize};
use super::{Entry, EntryRef, EntrySet, JournalError, Span};

/// Entries to be committed together: [`super::JournalWriter::commit`].
pub struct Batch<E> {
    // 32 bytes of room for the record's header, then the items.
    buffer: Buffer,
    count: u64,
    set: PhantomData<fn() -> E>,
}

impl<E: EntrySet> Batch<E> {
    /// One without entries.
    #[must_use]
    pub fn new() -> Self {
        let mut buffer = Buffer::new();
        buffer.resize(RECORD_HEADER_LEN as usize, 0);
        Self {
            buffer,
            count: 0,
            set: PhantomData,
        }
    }

    /// How many entries it has.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.count
    }

    /// Whether it has none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Takes all entries out; the memory stays.
    pub fn clear(&mut self) {
        self.buffer.resize(RECORD_HEADER_LEN as usize, 0);
        self.count = 0;
    }

    /// Adds an entry; if it fails, the batch is as before.
    ///
    /// # Errors
    /// [`JournalError::Serialize`].
    pub fn push<T: Entry>(&mut self, entry: &T) -> Result<(), JournalError> {
        const { Member::<E, T>::SOUND }
        let start = self.buffer.len();
        self.buffer.resize(start + BATCH_ITEM_LEN as usize, 0);
        if serialize(entry, &mut self.buffer) {
            self.finish(start, T::TYPE);
            Ok(())
        } else {
            self.buffer.resize(start, 0);
            Err(JournalError::Serialize { type_id: T::TYPE })
        }
    }

    /// Adds an entry that is serialized already.
    pub fn push_encoded(&mut self, type_id: TypeId, payload: &[u8]) {
        let start = self.buffer.len();
        self.buffer.resize(start + BATCH_ITEM_LEN as usize, 0);
        self.buffer.extend_from_slice(payload);
        self.finish(start, type_id);
    }

    fn finish(&mut self, start: usize, type_id: TypeId) {
        let body = start + BATCH_ITEM_LEN as usize;
        let size = self.buffer.len() - body;
        let padded = (body + size).next_multiple_of(ALIGN as usize);
        self.buffer.resize(padded, 0);
        self.buffer[start..body].copy_from_slice(&item_header(type_id, size as u64));
        self.count += 1;
    }

    /// The entries, in order; spans count from the start of the record to be.
    pub fn entries(&self) -> impl Iterator<Item = EntryRef<'_>> {
        let base = RECORD_HEADER_LEN;
        let record = Span::new(0, self.buffer.len() as u64);
        let mut items = BatchItems::new(&self.buffer[base as usize..]);
        std::iter::from_fn(move || {
            let item = items.next_item().ok().flatten()?;
            Some(EntryRef {
                type_id: item.type_id,
                payload: item.payload,
                span: Span::new(base + item.start, base + item.end),
                record,
            })
        })
    }

    /// Where the entries stand in the journal, once the batch stands at `record`.
    pub fn spans(&self, record: Span) -> impl Iterator<Item = Span> + '_ {
        let base = record.start.get();
        self.entries().map(move |entry| Span {
            start: FileOffset::new(base + entry.span.start.get()),
            end: FileOffset::new(base + entry.span.end.get()),
        })
    }

    /// The record without its header.
    pub(crate) const fn buffer(&self) -> &Buffer {
        &self.buffer
    }
}

impl<E: EntrySet> Default for Batch<E> {
    fn default() -> Self {
        Self::new()
    }
}
