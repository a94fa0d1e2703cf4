//! From logical positions to places in the ring.
//!
//! A position counts all bytes ever given to records; it never goes back, and so names one byte
//! of one lap. Position `p` lies at `(p - base) mod ring_len` of the ring. Growing the ring moves
//! the base, never a position.

/// The shape of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    ring_len: u64,
    base: u64,
}

/// One of the at most two contiguous parts of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Where it begins, in bytes from the start of the ring.
    pub offset: u64,
    /// Its length in bytes.
    pub len: u64,
}

impl Geometry {
    /// A ring of `ring_len` bytes (not 0) whose offset 0 once held position `base`.
    pub(crate) const fn new(ring_len: u64, base: u64) -> Self {
        Self { ring_len, base }
    }

    /// Bytes in the ring.
    #[must_use]
    pub const fn ring_len(self) -> u64 {
        self.ring_len
    }

    /// Where a position lies, in bytes from the start of the ring.
    #[must_use]
    pub const fn offset_of(self, position: u64) -> u64 {
        match position.wrapping_sub(self.base).checked_rem(self.ring_len) {
            Some(offset) => offset,
            None => 0,
        }
    }

    /// How many times the ring was gone round before `position`.
    #[must_use]
    pub const fn lap_of(self, position: u64) -> u64 {
        match position.wrapping_sub(self.base).checked_div(self.ring_len) {
            Some(lap) => lap,
            None => 0,
        }
    }

    /// The range of `len` bytes (at most the ring's) from `position` on: one part, and a second
    /// one, maybe empty, at the start of the ring.
    #[must_use]
    pub const fn parts(self, position: u64, len: u64) -> (Part, Part) {
        let offset = self.offset_of(position);
        let room = self.ring_len.saturating_sub(offset);
        let first = if len < room { len } else { room };
        let part = Part { offset, len: first };
        let rest = Part {
            offset: 0,
            len: len.saturating_sub(first),
        };
        (part, rest)
    }
}
