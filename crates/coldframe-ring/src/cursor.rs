//! Reading the records of an open log, without copying them.

use coldframe_storage::{Storage, StorageError};
use coldframe_units::FileOffset;
use coldframe_walframe::ring::{
    Geometry, RECORD_HEADER_LEN, Record, RecordHeader, RecordKind, RingSource,
};

use crate::window::Window;
use crate::{Region, RingError, RingPlace, RingWal, Sequence};

/// A record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry<'a> {
    /// Its number.
    pub sequence: Sequence,
    /// Where it begins in the file; it may go round the end of the ring.
    pub offset: FileOffset,
    /// Where its payload lies in the log.
    pub place: RingPlace,
    /// What was appended.
    pub payload: &'a [u8],
}

impl<'a> Entry<'a> {
    pub(crate) fn new(region: Region, geometry: Geometry, record: &Record<'a>) -> Self {
        let offset = geometry.offset_of(record.header.position);
        Self {
            sequence: Sequence::new(record.header.sequence),
            offset: region.ring_offset(offset),
            place: RingPlace::at(record.header.position + RECORD_HEADER_LEN),
            payload: record.payload,
        }
    }
}

/// The records of a log, in order; each is checked again as it is read.
///
/// The payload lent by [`Records::next`] is valid until the next call.
#[derive(Debug)]
pub struct Records<'a, S> {
    log: &'a RingWal<S>,
    window: Window<&'a S>,
    position: u64,
    end: u64,
    after: u64,
}

impl<S: Storage> RingWal<S> {
    /// The records with a higher sequence than `after` that are in the log now and not
    /// checkpointed, oldest first. Later ones are not seen.
    #[must_use]
    pub fn records_after(&self, after: Sequence) -> Records<'_, S> {
        let state = self.state();
        let first = state
            .starts
            .partition_point(|start| start.sequence <= after.get());
        let end = state.written_end;
        let position = state
            .starts
            .get(first)
            .map_or(end, |start| start.position.min(end));
        drop(state);
        Records {
            log: self,
            window: Window::new(&self.storage, self.region, self.geometry),
            position,
            end,
            after: after.get(),
        }
    }
}

impl<S: Storage> Records<'_, S> {
    /// The next record; `None` behind the last.
    ///
    /// # Errors
    /// [`RingError::Passed`] if a checkpoint gave the record up meanwhile, [`RingError::Corrupt`],
    /// [`RingError::Read`].
    #[expect(
        clippy::should_implement_trait,
        reason = "an Iterator cannot lend what it holds"
    )]
    pub fn next(&mut self) -> Result<Option<Entry<'_>>, RingError> {
        loop {
            if self.position >= self.end {
                return Ok(None);
            }
            let position = self.position;
            let checked = self.check(position);
            let Some(header) = checked.map_err(|source| RingError::Read { source })? else {
                return Err(self.reason(position));
            };
            self.position += header.extent();
            if header.kind == RecordKind::Data && header.sequence > self.after {
                return self.entry(&header);
            }
        }
    }

    fn check(&mut self, position: u64) -> Result<Option<RecordHeader>, StorageError> {
        let bytes = self.window.read(position, RECORD_HEADER_LEN)?;
        let header = RecordHeader::decode(bytes)
            .ok()
            .filter(|header| header.position == position && header.extent() <= self.end - position);
        let Some(header) = header else {
            return Ok(None);
        };
        let record = self.window.read(position, header.extent())?;
        let sound = header.check(&self.log.key, record).is_some();
        Ok(sound.then_some(header))
    }

    fn entry(&mut self, header: &RecordHeader) -> Result<Option<Entry<'_>>, RingError> {
        let start = RECORD_HEADER_LEN as usize;
        let record = self
            .window
            .read(header.position, header.extent())
            .map_err(|source| RingError::Read { source })?;
        let record = Record {
            header: *header,
            payload: &record[start..start + header.length as usize],
        };
        let entry = Entry::new(self.log.region, self.log.geometry, &record);
        Ok(Some(entry))
    }

    /// Why there is no sound record at `position`, where one was.
    fn reason(&self, position: u64) -> RingError {
        let state = self.log.state();
        let index = state
            .starts
            .partition_point(|start| start.position < position);
        let sequence = state
            .starts
            .get(index)
            .copied()
            .unwrap_or(state.head)
            .sequence;
        if position < state.tail.position {
            return RingError::Passed {
                sequence: Sequence::new(state.tail.sequence),
            };
        }
        let offset = self.log.geometry.offset_of(position);
        RingError::Corrupt {
            offset: self.log.region.ring_offset(offset),
            sequence: Sequence::new(sequence),
            witness: None,
        }
    }
}
