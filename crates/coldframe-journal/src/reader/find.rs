//! Finding the next entry, and judging why there is none.

use coldframe_envelope::{DecodeError, DecodeErrorKind};
use coldframe_units::{ByteLen, FileOffset};
use coldframe_walframe::journal::{
    BatchItems, PART_HEADER_LEN, PART_MAGIC, PartHeader, RECORD_HEADER_LEN, RecordHeader, TypeId,
};

use super::{Batch, Found, JournalReader};
use crate::look::{Hit, Look, Sought, look, only_zeros, scan, unseal};
use crate::{End, EntrySet, JournalError, Span, Unsupported};

/// What was found.
pub(super) enum Step {
    Found(Found),
    End(End),
}

impl<E: EntrySet> JournalReader<E> {
    /// The next entry, known or not.
    pub(super) fn find(&mut self) -> Result<Step, JournalError> {
        loop {
            if let Some(step) = self.find_in_batch()? {
                return Ok(step);
            }
            let at = self.next;
            let header = match look(&mut self.window, self.part.as_ref(), at)? {
                Look::Record(header) => header,
                Look::Part(part) if !E::reads(part.header.schema) => {
                    let what = Unsupported::Schema(part.header.schema);
                    return Ok(Step::End(unsupported(at, what)));
                }
                Look::Part(part) => {
                    (self.part, self.sealed) = (Some(*part), false);
                    self.next = at + PART_HEADER_LEN;
                    continue;
                }
                other => return self.end_at(at, other).map(Step::End),
            };
            if let (Some(unproved), Some(part)) = (&mut self.unproved, &self.part) {
                unproved.add(part.start, at, header);
            }
            let record = Span::new(at, at + header.record_len());
            self.sealed = header.type_id == TypeId::SEAL;
            if header.type_id == TypeId::BATCH {
                self.batch = Some(Batch {
                    record,
                    payload_len: header.size,
                    next: 0,
                });
                continue;
            }
            self.next = record.end.get();
            if !self.sealed {
                return Ok(Step::Found(Found {
                    type_id: header.type_id,
                    payload: (at + RECORD_HEADER_LEN, header.size),
                    span: record,
                    record,
                }));
            }
        }
    }

    fn find_in_batch(&mut self) -> Result<Option<Step>, JournalError> {
        let Some(batch) = &mut self.batch else {
            return Ok(None);
        };
        let (at, end) = (batch.record.start.get(), batch.record.end.get());
        let base = at + RECORD_HEADER_LEN;
        let payload = self.window.get(base, batch.payload_len)?;
        match BatchItems::resume(payload, batch.next).next_item() {
            Ok(Some(item)) => {
                batch.next = item.end;
                let len = item.payload.len() as u64;
                let payload = base + item.start + coldframe_walframe::journal::BATCH_ITEM_LEN;
                Ok(Some(Step::Found(Found {
                    type_id: item.type_id,
                    payload: (payload, len),
                    span: Span::new(base + item.start, base + item.end),
                    record: batch.record,
                })))
            }
            Ok(None) => {
                (self.batch, self.next) = (None, end);
                Ok(None)
            }
            // The record's digest held: it was written so.
            Err(error) => {
                (self.batch, self.next) = (None, at);
                Ok(Some(Step::End(corrupt(at, error))))
            }
        }
    }

    /// Says what it means that no sound record stands at `at`, where all can be read or not.
    fn end_at(&mut self, at: u64, found: Look) -> Result<End, JournalError> {
        let offset = FileOffset::new(at);
        // Whatever filler looks like: this is not what the file holds.
        let extent = self.extent_at(at)?;
        if self.window.is_unreadable(at, extent) {
            return Ok(End::Unreadable { offset });
        }
        let end = self.judge(at, found)?;
        let rest = self.window.len() - at;
        let is_hidden = end.is_torn() && self.window.is_unreadable(at, rest);
        Ok(if is_hidden {
            End::Unreadable { offset }
        } else {
            end
        })
    }

    /// How many bytes the header at `at` claims, or takes.
    fn extent_at(&mut self, at: u64) -> Result<u64, JournalError> {
        let Some(part) = &self.part else {
            return Ok(PART_HEADER_LEN);
        };
        let bytes = self.window.get(at, PART_HEADER_LEN)?;
        let header = RecordHeader::decode(bytes, &part.key, at.saturating_sub(part.start));
        Ok(header.map_or(RECORD_HEADER_LEN, |header| header.record_len()))
    }

    /// Says what it means that no sound record stands at `at`.
    fn judge(&mut self, at: u64, found: Look) -> Result<End, JournalError> {
        let offset = FileOffset::new(at);
        let sealed = self.sealed;
        let mut error = DecodeError::new(DecodeErrorKind::Invalid { field: "type" }, 0);
        match found {
            Look::Bad(bad) if bad.is_unsupported_version() => {
                return Ok(unsupported(at, Unsupported::Part(bad.kind)));
            }
            Look::Bad(bad) => error = bad,
            Look::Zeros if self.part.is_some() && only_zeros(&mut self.window, at)? => {
                if at < self.durable {
                    return Ok(corrupt(at, error));
                }
                return Ok(End::Clean { offset, sealed });
            }
            Look::Eof if at >= self.durable => return Ok(End::Clean { offset, sealed }),
            _ => {}
        }
        if at < self.durable || self.was_part(at)? {
            return Ok(corrupt(at, error));
        }
        let scan = scan(&mut self.window, self.part.as_ref(), at, Sought::Witness)?;
        let joined = match scan {
            Some(Hit::Record(_)) => return Ok(corrupt(at, error)),
            Some(Hit::Part(part)) => Some(part.start),
            None => None,
        };
        if at == 0 && joined.is_none() && !self.may_be_begun()? {
            return Ok(unsupported(at, Unsupported::Foreign));
        }
        Ok(End::Torn {
            offset,
            dropped: ByteLen::new(joined.unwrap_or(self.window.len()) - at),
            joined: joined.map(FileOffset::new),
        })
    }

    /// Whether the file may be a journal whose creation was cut short. A file of exactly the length
    /// of the header may hold anything, as its sectors may (JRNL-5); a shorter one only what was
    /// written of it, and zeros.
    fn may_be_begun(&mut self) -> Result<bool, JournalError> {
        let len = self.window.len();
        let bytes = self.window.get(0, PART_MAGIC.len() as u64)?;
        let is_of_header = |(byte, magic): (&u8, &u8)| *byte == 0 || byte == magic;
        let is_begun = bytes.iter().zip(&PART_MAGIC).all(is_of_header);
        Ok(len == PART_HEADER_LEN || (len < PART_HEADER_LEN && is_begun))
    }

    /// Whether a part began at `at`, whose header is damaged now: it was durable before anything
    /// was written behind it.
    fn was_part(&mut self, at: u64) -> Result<bool, JournalError> {
        let bytes = self.window.get(at, PART_HEADER_LEN)?;
        let announced = PartHeader::is_announced(bytes) && bytes.len() as u64 == PART_HEADER_LEN;
        let behind = at + PART_HEADER_LEN;
        if announced && !only_zeros(&mut self.window, behind)? {
            // Unless it was cut short before another part was joined to it.
            let next = scan(&mut self.window, None, at, Sought::Part)?;
            return Ok(!matches!(next, Some(Hit::Part(part)) if part.start < behind));
        }
        Ok(unseal(&mut self.window, at)?.is_some())
    }
}

const fn unsupported(at: u64, what: Unsupported) -> End {
    let offset = FileOffset::new(at);
    End::Unsupported { offset, what }
}

const fn corrupt(at: u64, error: DecodeError) -> End {
    End::Corrupt {
        offset: FileOffset::new(at),
        kind: error.kind,
    }
}
