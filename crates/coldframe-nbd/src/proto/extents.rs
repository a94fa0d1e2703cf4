//! What an export says about the allocation of a range. Invariants: extents are consecutive from
//! the start of the range, none is empty, neighbours differ, none reaches past the range's end,
//! and there are never more than the limit.

/// How a range is stored, as in the metadata context `base:allocation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocation {
    /// Holds bytes that must be read to be known. Always a right answer.
    Data,
    /// Takes space, and reads as zeros.
    Zero,
    /// Takes no space, and reads as zeros.
    Hole,
}

impl Allocation {
    /// Whether the range is known to read as zeros.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        matches!(self, Self::Zero | Self::Hole)
    }

    /// The status flags on the wire: bit 0 hole, bit 1 zero.
    pub(super) const fn flags(self) -> u32 {
        match self {
            Self::Data => 0,
            Self::Zero => 0b10,
            Self::Hole => 0b11,
        }
    }
}

/// A range of one allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Bytes; never 0.
    pub len: u32,
    /// How they are stored.
    pub allocation: Allocation,
}

/// Collects the extents of one range, in order, up to a limit.
#[derive(Debug)]
pub struct Extents {
    left: u32,
    count_max: usize,
    list: Vec<Extent>,
    is_full: bool,
}

impl Extents {
    /// Nothing yet of a range of `len` bytes, for at most `count_max` extents.
    #[must_use]
    pub fn new(len: u32, count_max: usize) -> Self {
        Self {
            left: len,
            count_max,
            list: Vec::new(),
            is_full: false,
        }
    }

    /// Says how the next `len` bytes are stored; true while more is wanted.
    ///
    /// What reaches past the range is cut off, so an export may name whole blocks of its own.
    pub fn push(&mut self, len: u64, allocation: Allocation) -> bool {
        let len = u32::try_from(len).unwrap_or(u32::MAX).min(self.left);
        if len == 0 || self.is_full {
            return self.wants_more();
        }
        let is_full = self.list.len() == self.count_max;
        match self.list.last_mut() {
            Some(last) if last.allocation == allocation => {
                last.len = last.len.saturating_add(len);
            }
            _ if is_full => {
                self.is_full = true;
                return false;
            }
            _ => self.list.push(Extent { len, allocation }),
        }
        self.left = self.left.saturating_sub(len);
        self.wants_more()
    }

    /// Whether anything is left to be said.
    #[must_use]
    pub fn wants_more(&self) -> bool {
        self.left > 0 && !self.is_full
    }

    /// Bytes of the range that nothing was said of.
    #[must_use]
    pub fn left(&self) -> u32 {
        self.left
    }

    /// The extents so far.
    #[must_use]
    pub fn as_slice(&self) -> &[Extent] {
        &self.list
    }
}
