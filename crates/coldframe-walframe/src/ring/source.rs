//! Where a scan gets the ring's bytes from.

use alloc::vec::Vec;
use core::convert::Infallible;

use crate::ring::Geometry;

/// The bytes of a ring, by logical position.
pub trait RingSource {
    /// Why reading failed.
    type Error;

    /// The `len` bytes (at most the ring's) from `position` on, joined if they go over its end.
    ///
    /// # Errors
    /// If they cannot be read.
    fn read(&mut self, position: u64, len: u64) -> Result<&[u8], Self::Error>;

    /// Whether some of these bytes cannot be read, and [`RingSource::read`] gave others for them:
    /// bytes that are not zero. What ends a log there is then unknown, and not a torn tail.
    fn is_unreadable(&self, position: u64, len: u64) -> bool {
        let _ = (position, len);
        false
    }
}

/// A ring that is in memory as a whole; what it lacks of its length reads as zeros.
#[derive(Debug)]
pub struct SliceSource<'a> {
    ring: &'a [u8],
    geometry: Geometry,
    joined: Vec<u8>,
}

impl<'a> SliceSource<'a> {
    /// The ring's bytes, from its offset 0 on.
    #[must_use]
    pub const fn new(ring: &'a [u8], geometry: Geometry) -> Self {
        Self {
            ring,
            geometry,
            joined: Vec::new(),
        }
    }

    fn part(&self, offset: u64, len: u64) -> Option<&'a [u8]> {
        let start = usize::try_from(offset).ok()?;
        let end = start.checked_add(usize::try_from(len).ok()?)?;
        self.ring.get(start..end)
    }
}

impl RingSource for SliceSource<'_> {
    type Error = Infallible;

    fn read(&mut self, position: u64, len: u64) -> Result<&[u8], Infallible> {
        let (first, rest) = self.geometry.parts(position, len);
        if rest.len == 0
            && let Some(bytes) = self.part(first.offset, first.len)
        {
            return Ok(bytes);
        }
        self.joined.clear();
        for part in [first, rest] {
            let there = u64::try_from(self.ring.len()).unwrap_or(u64::MAX);
            let have = part.len.min(there.saturating_sub(part.offset));
            let bytes = self.part(part.offset, have).unwrap_or(&[]);
            let end = self
                .joined
                .len()
                .saturating_add(usize::try_from(part.len).unwrap_or(usize::MAX));
            self.joined.extend_from_slice(bytes);
            self.joined.resize(end, 0);
        }
        Ok(&self.joined)
    }
}
