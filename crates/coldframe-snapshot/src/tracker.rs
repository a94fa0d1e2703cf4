//! What is dirty since which snapshot.
//!
//! Invariant: the bitmap, the source and the captures in flight together hold every page that
//! changed since the snapshot named as baseline was copied. A capture moves the baseline only when
//! its snapshot is published, and only forward (see `flight`).

use std::path::Path;
use std::sync::Arc;

use coldframe_dirty::{DirtyBitmap, DirtyError, DirtyPages};
use coldframe_hv::DirtySource;
use coldframe_units::{ByteLen, RamLayout, RamOffset, SnapshotId};

use crate::SnapshotError;
use crate::flight::{InFlight, Ledger, Taken};
use crate::parent::ParentLink;

/// The dirty pages of a running guest: the hypervisor's and, through the same bitmap, the devices'.
///
/// Keep one for the life of the machine, and hand it to every capture. It knows which captures are
/// still in flight (copied, and neither published nor dropped), so that the next one may begin
/// before they are done.
///
/// vCPUs, memory slots and regions may come and go: tell the source of vCPUs and slots
/// ([`DirtyTracker::source_mut`]), and the bitmap of memory ([`DirtyBitmap::resize`]). A Diff has
/// the RAM layout of its parent; after a change of it take a Full snapshot.
#[derive(Debug)]
pub struct DirtyTracker<S> {
    bitmap: DirtyBitmap,
    source: S,
    ledger: Arc<Ledger>,
}

impl<S: DirtySource> DirtyTracker<S> {
    /// Tracks from now on. `source` must be armed already, and `bitmap` be the one that device
    /// writes mark, and no other tracker's. `baseline` is the snapshot that the machine was thawed
    /// from, `None` if it was booted.
    pub fn new(bitmap: DirtyBitmap, source: S, baseline: Option<SnapshotId>) -> Self {
        let ledger = Ledger::new(bitmap.clone(), baseline);
        Self {
            bitmap,
            source,
            ledger,
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

    /// The newest published snapshot: a diff taken now would be a child of it, if no capture is in
    /// flight.
    pub fn baseline(&self) -> Option<SnapshotId> {
        self.ledger.baseline()
    }

    /// The captures that were copied and are neither published nor dropped, oldest first.
    pub fn in_flight(&self) -> Vec<SnapshotId> {
        self.ledger.in_flight()
    }

    /// Says that the guest gave memory back (balloon, free page reporting, virtio-mem): from now
    /// on, until the guest writes to it again, it reads as zero in every snapshot, whatever it
    /// holds in the host, and is not read.
    ///
    /// No dirty log shows what `madvise(2)` does to memory. So a device that discards memory must
    /// call this for each range, after the guest has handed it over and **before** the guest is
    /// told that it may use it again (before the buffer goes to the used ring). It need not wait
    /// for a capture; whether it discards the host's memory before or after the call makes no
    /// difference, nor whether it does at all. Where a guest may count on zeros (virtio-mem, memory
    /// unplugged and plugged), the device must see to it that the running guest gets them too.
    ///
    /// Pages that the range has only a part of are taken to be written. It costs a harvest of the
    /// source: [`DirtyTracker::discard_all`] takes many ranges at once.
    ///
    /// # Errors
    /// [`SnapshotError::DirtyPages`] if the range is not all inside the RAM,
    /// [`SnapshotError::HarvestDirty`]; nothing is discarded then.
    pub fn discard(&mut self, offset: RamOffset, len: ByteLen) -> Result<(), SnapshotError> {
        self.discard_all([(offset, len)])
    }

    /// As [`DirtyTracker::discard`], with one harvest for all ranges.
    ///
    /// # Errors
    /// As [`DirtyTracker::discard`].
    pub fn discard_all(
        &mut self,
        ranges: impl IntoIterator<Item = (RamOffset, ByteLen)>,
    ) -> Result<(), SnapshotError> {
        let (whole, cut) =
            discarded_pages(&self.bitmap, ranges).map_err(SnapshotError::DirtyPages)?;
        if whole.is_empty() && cut.is_empty() {
            return Ok(());
        }
        // What was written before is told apart from what will be written after: whatever is in
        // the bitmap behind this line is from before.
        self.harvest()?;
        self.bitmap.put_back(&cut);
        self.ledger.discard(&whole);
        Ok(())
    }

    /// Checks what a capture is a child of, before anything is taken.
    pub(crate) fn check_parent(
        &self,
        parent: Option<&ParentLink>,
        layout: &RamLayout,
    ) -> Result<(), SnapshotError> {
        self.ledger.check_parent(parent)?;
        parent.map_or(Ok(()), |parent| parent.check_ram(layout))
    }

    /// Harvests the source and takes all that is dirty. Dropping what it returns puts it back.
    ///
    /// # Errors
    /// [`SnapshotError::HarvestDirty`]; what was harvested stays in the bitmap. Those of
    /// [`DirtyTracker::check_parent`].
    pub(crate) fn take(
        &mut self,
        id: SnapshotId,
        dest: &Path,
        parent: Option<&ParentLink>,
        layout: &RamLayout,
    ) -> Result<(InFlight, Taken), SnapshotError> {
        self.harvest()?;
        self.ledger.take(id, dest, parent, layout)
    }

    fn harvest(&mut self) -> Result<(), SnapshotError> {
        self.source
            .harvest(&self.bitmap)
            .map_err(|error| SnapshotError::HarvestDirty(Box::new(error)))
    }
}

/// The pages that lie in the ranges as a whole, and those of which the ranges have a part.
fn discarded_pages(
    bitmap: &DirtyBitmap,
    ranges: impl IntoIterator<Item = (RamOffset, ByteLen)>,
) -> Result<(DirtyPages, DirtyPages), DirtyError> {
    let mut whole = DirtyPages::new(bitmap.ram(), bitmap.page_size())?;
    let mut cut = whole.clone();
    for (offset, len) in ranges {
        whole.mark_whole(offset, len)?;
        cut.mark(offset, len)?;
    }
    cut.subtract(&whole)?;
    Ok((whole, cut))
}
