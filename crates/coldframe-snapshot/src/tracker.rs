//! What is dirty since which snapshot.
//!
//! Invariant: the bitmap and the source together hold every page written since the snapshot named
//! as baseline was captured. A capture moves the baseline only when its snapshot is published.

use std::sync::{Arc, Mutex, PoisonError};

use coldframe_dirty::{DirtyBitmap, DirtyToken};
use coldframe_hv::DirtySource;
use coldframe_units::SnapshotId;

use crate::SnapshotError;

/// The dirty pages of a running guest: the hypervisor's and, through the same bitmap, the devices'.
///
/// Keep one for the life of the machine, and hand it to every capture.
#[derive(Debug)]
pub struct DirtyTracker<S> {
    bitmap: DirtyBitmap,
    source: S,
    baseline: Baseline,
}

/// The snapshot that the dirty pages are counted from.
#[derive(Clone, Debug)]
pub(crate) struct Baseline(Arc<Mutex<Option<SnapshotId>>>);

impl Baseline {
    pub(crate) fn get(&self) -> Option<SnapshotId> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set(&self, id: SnapshotId) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(id);
    }
}

impl<S: DirtySource> DirtyTracker<S> {
    /// Tracks from now on. `source` must be armed already, and `bitmap` be the one that device
    /// writes mark. `baseline` is the snapshot that the machine was thawed from, `None` if it was
    /// booted.
    pub fn new(bitmap: DirtyBitmap, source: S, baseline: Option<SnapshotId>) -> Self {
        Self {
            bitmap,
            source,
            baseline: Baseline(Arc::new(Mutex::new(baseline))),
        }
    }

    /// The bitmap that device writes mark.
    pub fn bitmap(&self) -> &DirtyBitmap {
        &self.bitmap
    }

    /// The source, for an adapter that must be told of ring-full exits and the like.
    pub fn source_mut(&mut self) -> &mut S {
        &mut self.source
    }

    /// The snapshot that a diff taken now would be a child of.
    pub fn baseline(&self) -> Option<SnapshotId> {
        self.baseline.get()
    }

    pub(crate) fn shared_baseline(&self) -> Baseline {
        self.baseline.clone()
    }

    /// Harvests the source and takes all that is dirty. Dropping the token puts it back.
    ///
    /// # Errors
    /// [`SnapshotError::HarvestDirty`]; what was harvested stays in the bitmap.
    pub(crate) fn take(&mut self) -> Result<DirtyToken, SnapshotError> {
        self.source
            .harvest(&self.bitmap)
            .map_err(|error| SnapshotError::HarvestDirty(Box::new(error)))?;
        Ok(self.bitmap.take())
    }
}
