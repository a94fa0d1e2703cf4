//! The ring's bytes from a storage, read ahead in pieces.

use coldframe_storage::{Storage, StorageError};
use coldframe_walframe::ring::{Geometry, Part, RingSource};

use crate::Region;
use coldframe_storage::{ReadAround, Unreadable};

const READ_AHEAD: u64 = 256 * 1024;

/// A piece of the ring in memory; at most the ring's length.
#[derive(Debug)]
pub(crate) struct Window<S> {
    storage: S,
    region: Region,
    geometry: Geometry,
    start: u64,
    /// The first `filled` bytes are those from `start` on.
    bytes: Vec<u8>,
    filled: usize,
    /// What cannot be read; `None` if that is an error.
    around: Option<ReadAround>,
}

impl<S: Storage> Window<S> {
    pub const fn new(storage: S, region: Region, geometry: Geometry) -> Self {
        Self {
            storage,
            region,
            geometry,
            start: 0,
            bytes: Vec::new(),
            filled: 0,
            around: None,
        }
    }

    /// One that reads around what cannot be read, of which this much is known.
    pub fn around(storage: S, region: Region, geometry: Geometry, known: &[Unreadable]) -> Self {
        Self {
            around: Some(ReadAround::knowing(known)),
            ..Self::new(storage, region, geometry)
        }
    }

    /// What could not be read so far.
    pub fn unreadable(&self) -> &[Unreadable] {
        self.around.as_ref().map_or(&[], ReadAround::ranges)
    }

    /// Whether the range is in memory.
    fn place(&self, position: u64, len: u64) -> Option<std::ops::Range<usize>> {
        let start = usize::try_from(position.checked_sub(self.start)?).ok()?;
        let end = start.checked_add(usize::try_from(len).ok()?)?;
        (end <= self.filled).then_some(start..end)
    }

    /// Reads on from `position`. What of it is in memory already is moved down instead of read
    /// again: a record that lies over the window's end is read once.
    fn fill(&mut self, position: u64, len: u64) -> Result<(), StorageError> {
        let want = len.max(READ_AHEAD.min(self.geometry.ring_len())) as usize;
        let kept = match position.checked_sub(self.start) {
            Some(from) if from < self.filled as u64 => {
                self.bytes.copy_within(from as usize..self.filled, 0);
                (self.filled - from as usize).min(want)
            }
            _ => 0,
        };
        self.filled = 0;
        // Grown once: what is read over needs no zeros.
        if self.bytes.len() < want {
            self.bytes.resize(want, 0);
        }
        let missing = &mut self.bytes[kept..want];
        let from = position.wrapping_add(kept as u64);
        let (first, rest) = self.geometry.parts(from, missing.len() as u64);
        let (head, tail) = missing.split_at_mut(first.len as usize);
        for (part, bytes) in [(first, head), (rest, tail)] {
            let offset = self.region.ring_offset(part.offset);
            match &mut self.around {
                _ if bytes.is_empty() => {}
                Some(around) => around.read(&self.storage, offset, bytes)?,
                None => self.storage.read_at(offset, bytes)?,
            }
        }
        self.start = position;
        self.filled = want;
        Ok(())
    }
}

impl<S: Storage> RingSource for Window<S> {
    type Error = StorageError;

    fn read(&mut self, position: u64, len: u64) -> Result<&[u8], StorageError> {
        if self.place(position, len).is_none() {
            self.fill(position, len)?;
        }
        let place = self.place(position, len).unwrap_or_default();
        Ok(&self.bytes[place])
    }

    fn is_unreadable(&self, position: u64, len: u64) -> bool {
        let Some(around) = &self.around else {
            return false;
        };
        let (first, rest) = self.geometry.parts(position, len);
        let is_bad = |part: Part| {
            let offset = self.region.ring_offset(part.offset);
            part.len > 0 && around.overlaps(offset, part.len)
        };
        is_bad(first) || is_bad(rest)
    }
}
