//! What a capture took, until it is known to be safe.
//!
//! Invariant: unless committed, the pages go back into the bitmap when the token goes, whatever
//! the way: `rollback`, `?`, a panic, a dropped thread result.

use crate::{DirtyBitmap, DirtyPages};

/// Pages taken out of a [`DirtyBitmap`]; dropping it puts them back.
///
/// It borrows nothing, so that a thread may publish while the guest runs and marks.
#[must_use = "dropping a token puts its pages back into the bitmap"]
#[derive(Debug)]
pub struct DirtyToken {
    bitmap: DirtyBitmap,
    pages: DirtyPages,
}

impl DirtyToken {
    pub(crate) const fn new(bitmap: DirtyBitmap, pages: DirtyPages) -> Self {
        Self { bitmap, pages }
    }

    /// What was taken.
    #[must_use]
    pub const fn pages(&self) -> &DirtyPages {
        &self.pages
    }

    /// Forgets the pages: they are safe in a published snapshot.
    pub fn commit(mut self) {
        self.pages.clear();
    }

    /// Hands the pages over to the caller, who answers for them from now on: the token forgets
    /// them.
    #[must_use = "these pages are in no bitmap any more"]
    pub fn into_pages(mut self) -> DirtyPages {
        let none = DirtyPages::none(*self.pages.geometry());
        core::mem::replace(&mut self.pages, none)
    }

    /// Puts the pages back; those marked since the take stay marked too.
    pub fn rollback(self) {
        drop(self);
    }
}

impl Drop for DirtyToken {
    fn drop(&mut self) {
        self.bitmap.put_back(&self.pages);
    }
}
