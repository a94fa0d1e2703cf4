//! Where a log is in a file, and the numbers of its records.

use std::fmt;

use coldframe_units::{ByteLen, FileOffset};
use coldframe_walframe::ring::{ALIGN, CONTROL_SLOT_STRIDE, RING_LEN_MIN, RING_START};

use crate::RingError;

/// The part of a file that a log has for itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Region {
    offset: FileOffset,
    size: ByteLen,
}

impl Region {
    /// `size` bytes from `offset` on: `offset` a multiple of 4,096, `size` one of 16 and at least
    /// 8,240 (8,192 for the control blocks, and one record without payload).
    ///
    /// Spec: RING-1
    ///
    /// # Errors
    /// [`RingError::RegionShape`].
    pub const fn new(offset: FileOffset, size: ByteLen) -> Result<Self, RingError> {
        let aligned = offset.get().is_multiple_of(CONTROL_SLOT_STRIDE)
            && size.get().is_multiple_of(ALIGN)
            && size.get() >= RING_START + RING_LEN_MIN;
        // Offsets of files are signed.
        match offset.checked_add(size) {
            Some(end) if aligned && end.get() <= i64::MAX.cast_unsigned() => {
                Ok(Self { offset, size })
            }
            _ => Err(RingError::RegionShape { offset, size }),
        }
    }

    /// All of a file of `len` bytes, down to a multiple of 16.
    ///
    /// # Errors
    /// [`RingError::TooShort`] if no log fits.
    pub const fn whole(len: ByteLen) -> Result<Self, RingError> {
        let size = ByteLen::new(len.get() / ALIGN * ALIGN);
        let min = ByteLen::new(RING_START + RING_LEN_MIN);
        if size.get() < min.get() {
            return Err(RingError::TooShort { have: len, min });
        }
        Self::new(FileOffset::ZERO, size)
    }

    /// Where it begins in the file.
    #[must_use]
    pub const fn offset(self) -> FileOffset {
        self.offset
    }

    /// Its size in bytes.
    #[must_use]
    pub const fn size(self) -> ByteLen {
        self.size
    }

    /// Bytes of it that hold records.
    pub(crate) const fn ring_len(self) -> u64 {
        self.size.get() - RING_START
    }

    /// The offset in the file of an offset in the region, which must be in it.
    pub(crate) const fn file_offset(self, offset: u64) -> FileOffset {
        FileOffset::new(self.offset.get() + offset)
    }

    /// The offset in the file of an offset in the ring, which must be in it.
    pub(crate) const fn ring_offset(self, offset: u64) -> FileOffset {
        self.file_offset(RING_START + offset)
    }
}

/// The number of a record: the first is 1, each further one is one more.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Sequence(u64);

impl Sequence {
    /// Before the first record.
    pub const ZERO: Self = Self(0);

    /// From a plain number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The plain number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
