//! Page sizes, page numbers and runs of pages.
//!
//! A page size is kept as its base-2 logarithm, so only powers of two in range exist.

use core::fmt;

use crate::{ByteLen, RamOffset};

/// The size of a page: a power of two from 4 KiB to 1 GiB.
///
/// Pages of guest memory files go up to 2 MiB ([`PageSize::SIZE_2M`]); Apple silicon hosts have
/// 16 KiB pages.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageSize(u8);

/// A number of bytes, or a logarithm, that is no page size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PageSizeError {
    /// The size in bytes is not a power of two.
    #[error("page size {bytes} is not a power of two")]
    NotPowerOfTwo {
        /// What was asked for.
        bytes: u64,
    },
    /// The logarithm is out of range.
    #[error("page size 2^{log2} is not between 4 KiB and 1 GiB")]
    OutOfRange {
        /// What was asked for.
        log2: u8,
    },
}

impl PageSize {
    /// 4 KiB.
    pub const SIZE_4K: Self = Self(12);
    /// 16 KiB.
    pub const SIZE_16K: Self = Self(14);
    /// 64 KiB, the size of a hash block.
    pub const SIZE_64K: Self = Self(16);
    /// 2 MiB.
    pub const SIZE_2M: Self = Self(21);
    /// 1 GiB.
    pub const SIZE_1G: Self = Self(30);

    /// From a number of bytes.
    ///
    /// # Errors
    /// [`PageSizeError`] if it is not a power of two from 4 KiB to 1 GiB.
    pub const fn new(bytes: u64) -> Result<Self, PageSizeError> {
        if !bytes.is_power_of_two() {
            return Err(PageSizeError::NotPowerOfTwo { bytes });
        }
        let log2 = bytes.trailing_zeros();
        // trailing_zeros of a non-zero u64 is at most 63.
        #[expect(clippy::cast_possible_truncation)]
        Self::from_log2(log2 as u8)
    }

    /// From the base-2 logarithm of the size in bytes.
    ///
    /// # Errors
    /// [`PageSizeError::OutOfRange`] unless it is from 12 to 30.
    pub const fn from_log2(log2: u8) -> Result<Self, PageSizeError> {
        if log2 < Self::SIZE_4K.0 || log2 > Self::SIZE_1G.0 {
            return Err(PageSizeError::OutOfRange { log2 });
        }
        Ok(Self(log2))
    }

    /// The size in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        1 << self.0
    }

    /// The base-2 logarithm of the size in bytes.
    #[must_use]
    pub const fn log2(self) -> u8 {
        self.0
    }

    /// How many pages hold `len` bytes, the last one perhaps in part.
    #[must_use]
    pub const fn pages_for(self, len: ByteLen) -> u64 {
        len.get().div_ceil(self.bytes())
    }

    /// The page that `offset` lies in.
    #[must_use]
    pub const fn page_of(self, offset: RamOffset) -> PageIndex {
        PageIndex(offset.get() >> self.0)
    }

    /// Where `page` begins; `None` past 2^64.
    #[must_use]
    pub const fn offset_of(self, page: PageIndex) -> Option<RamOffset> {
        match page.0.checked_mul(self.bytes()) {
            Some(bytes) => Some(RamOffset::new(bytes)),
            None => None,
        }
    }

    /// Whether `bytes` is a whole number of pages.
    #[must_use]
    pub const fn divides(self, bytes: u64) -> bool {
        bytes & (self.bytes() - 1) == 0
    }
}

impl fmt::Debug for PageSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PageSize({self})")
    }
}

impl fmt::Display for PageSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0..20 => write!(f, "{}KiB", self.bytes() >> 10),
            20..30 => write!(f, "{}MiB", self.bytes() >> 20),
            _ => write!(f, "{}GiB", self.bytes() >> 30),
        }
    }
}

/// The number of a page in RAM offset space, counted from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct PageIndex(u64);

impl PageIndex {
    /// From a plain number.
    #[must_use]
    pub const fn new(index: u64) -> Self {
        Self(index)
    }

    /// The plain number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for PageIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A run of neighbouring pages: never empty, and its end does not pass 2^64.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PageRun {
    start: PageIndex,
    count: u64,
}

impl PageRun {
    /// `count` pages from `start` on; `None` if that is no page, or past 2^64.
    #[must_use]
    pub const fn new(start: PageIndex, count: u64) -> Option<Self> {
        match start.0.checked_add(count) {
            Some(_) if count > 0 => Some(Self { start, count }),
            _ => None,
        }
    }

    /// The first page.
    #[must_use]
    pub const fn start(self) -> PageIndex {
        self.start
    }

    /// How many pages; at least 1.
    #[must_use]
    pub const fn count(self) -> u64 {
        self.count
    }

    /// The page after the last.
    #[must_use]
    pub const fn end(self) -> PageIndex {
        PageIndex(self.start.0 + self.count)
    }

    /// Where the run lies in RAM and how long it is; `None` past 2^64.
    #[must_use]
    pub const fn byte_range(self, page: PageSize) -> Option<(RamOffset, ByteLen)> {
        let Some(start) = page.offset_of(self.start) else {
            return None;
        };
        let Some(bytes) = self.count.checked_mul(page.bytes()) else {
            return None;
        };
        match start.checked_add(ByteLen::new(bytes)) {
            Some(_) => Some((start, ByteLen::new(bytes))),
            None => None,
        }
    }
}
