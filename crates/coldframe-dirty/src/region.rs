//! Device writes through vm-memory, marked in the shared bitmap.
//!
//! Invariant: what is marked lies inside the region. vm-memory calls a bitmap after it has written,
//! as [`crate::DirtyBitmap`] demands.

use coldframe_units::{ByteLen, RamOffset};
use vm_memory::bitmap::{Bitmap, RefSlice, WithBitmapSlice};

use crate::{DirtyBitmap, DirtyError};

/// The part of a [`DirtyBitmap`] that belongs to one region of guest memory.
///
/// It is handed to `MmapRegionBuilder::new_with_bitmap`, one for each region, all with handles to
/// one bitmap. There is no `NewBitmap`: that trait knows only a length, and so could neither share
/// the bitmap nor tell where in RAM the region lies.
///
/// Only writes that vm-memory makes are seen: not those through a raw pointer, nor by the guest.
#[derive(Clone, Debug)]
pub struct RegionDirty {
    bitmap: DirtyBitmap,
    start: RamOffset,
    len: ByteLen,
}

impl RegionDirty {
    /// The region of `len` bytes from `start` on in RAM offset space.
    ///
    /// # Errors
    /// [`DirtyError::OutsideRam`].
    pub fn new(bitmap: DirtyBitmap, start: RamOffset, len: ByteLen) -> Result<Self, DirtyError> {
        bitmap.geometry().check_range(start, len)?;
        Ok(Self { bitmap, start, len })
    }

    /// The bitmap that is marked.
    #[must_use]
    pub const fn bitmap(&self) -> &DirtyBitmap {
        &self.bitmap
    }

    /// The part of a range in the region that is inside it, in RAM offset space.
    #[inline]
    fn clamp(&self, offset: usize, len: usize) -> (RamOffset, ByteLen) {
        let start = (offset as u64).min(self.len.get());
        let len = (len as u64).min(self.len.get() - start);
        // Inside the region, whose end was checked to be inside the RAM.
        let start = RamOffset::new(self.start.get() + start);
        (start, ByteLen::new(len))
    }
}

impl<'a> WithBitmapSlice<'a> for RegionDirty {
    type S = RefSlice<'a, Self>;
}

impl Bitmap for RegionDirty {
    /// Marks the pages touched. Bytes past the region's end are none of guest memory: ignored.
    #[inline]
    fn mark_dirty(&self, offset: usize, len: usize) {
        let (start, len) = self.clamp(offset, len);
        self.bitmap.mark_inside(start, len);
    }

    fn dirty_at(&self, offset: usize) -> bool {
        let (start, len) = self.clamp(offset, 1);
        len.get() != 0 && self.bitmap.is_dirty(self.bitmap.page_size().page_of(start))
    }

    #[inline]
    fn slice_at(&self, offset: usize) -> RefSlice<'_, Self> {
        RefSlice::new(self, offset)
    }
}
