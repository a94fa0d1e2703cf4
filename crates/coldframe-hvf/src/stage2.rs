//! Guest memory in stage 2: mapped, filled on demand, and protected to learn what is written.
//!
//! Invariants: a page that the guest can write to is in the set of opened pages, while tracking is
//! on; a page is opened only after it was marked, and closed only while nobody opens any (the
//! `armed` lock: faults hold it for reading from the mark to the opening, a harvest for writing
//! from the take to the last protection). Without that lock a fault may mark, lose the mark to a
//! harvest, and then open a page that nobody knows of: the lost-page race of other ports.
//!
//! # Safety
//! The caller of [`Stage2::new`] promises that the memory stays; it is unmapped from the guest when
//! the value is dropped. It is written to only before the guest can reach it.
#![allow(unsafe_code)]

mod lazy;

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::{LockResult, PoisonError};

use coldframe_dirty::{AdaptiveBitmap, DirtyBitmap, DirtyPages};
use coldframe_hv::DirtySource;
use coldframe_units::{ByteLen, GuestAddr, GuestRegion, PageRun, PageSize, RamLayout, RamOffset};

use crate::calls::{Perms, VmCalls};
use crate::error::HvfError;
use crate::host::PAGE;
use crate::sync::RwLock;

use lazy::Lazy;
pub use lazy::{Contents, FILL_BYTES};

/// Memory of the host that is to be the guest's.
#[derive(Clone, Copy, Debug)]
pub struct HostRegion {
    /// Where it is in the guest.
    pub region: GuestRegion,
    /// Where its first byte is in this process; a page of 16 KiB begins there.
    pub host: *mut u8,
}

// SAFETY: it is an address; what is there is promised to `Stage2::new`, for every thread.
unsafe impl Send for HostRegion {}
// SAFETY: as for Send.
unsafe impl Sync for HostRegion {}

/// The guest's memory as the hypervisor sees it.
pub struct Stage2<'m, C: VmCalls> {
    vm: C,
    regions: Vec<HostRegion>,
    layout: RamLayout,
    /// What is open since the last harvest, and in which granules it is opened.
    opened: AdaptiveBitmap,
    armed: RwLock<bool>,
    lazy: Option<Lazy<'m>>,
    memory: PhantomData<&'m ()>,
}

/// How guest memory is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch {
    /// The smallest granule that is opened; at least 16 KiB.
    pub page_size: PageSize,
    /// A block of 2 MiB with more write faults than this from one harvest to the next is opened
    /// page by page from then on.
    pub faults_per_window: u32,
}

impl Watch {
    /// Pages of 16 KiB; a block that was written at all is watched page by page afterwards.
    pub const DEFAULT: Self = Self {
        page_size: PAGE,
        faults_per_window: 0,
    };
}

impl<'m, C: VmCalls> Stage2<'m, C> {
    /// Maps memory that holds what the guest shall see.
    ///
    /// # Safety
    /// For all of `'m`, and until the value is dropped, each region is mapped in this process,
    /// readable and writable, at its place; no `&` or `&mut` points into it; and the guest has no
    /// other memory mapped at its addresses.
    ///
    /// # Errors
    /// [`HvfError::Layout`], [`HvfError::CheckRegion`], [`HvfError::MarkDirty`],
    /// [`HvfError::Memory`].
    pub unsafe fn new(vm: C, regions: Vec<HostRegion>, watch: Watch) -> Result<Self, HvfError> {
        let stage2 = Self::unmapped(vm, regions, watch, None)?;
        for region in &stage2.regions {
            let (ipa, len) = (region.region.addr(), region.region.len());
            // SAFETY: the caller promises it, until the value is dropped, which unmaps it.
            let mapped = unsafe { stage2.vm.map(region.host, ipa, len, Perms::ReadWriteExec) };
            mapped.map_err(memory("hv_vm_map", ipa, len))?;
        }
        Ok(stage2)
    }

    /// Leaves memory unmapped: each block is filled from `contents` and mapped when the guest
    /// first touches it, or a device asks for it ([`Stage2::fill`]).
    ///
    /// # Safety
    /// As [`Stage2::new`]; besides, nobody else reads or writes a block before it was filled.
    ///
    /// # Errors
    /// As [`Stage2::new`], but nothing is mapped yet.
    pub unsafe fn lazy(
        vm: C,
        regions: Vec<HostRegion>,
        watch: Watch,
        contents: impl Contents + 'm,
    ) -> Result<Self, HvfError> {
        Self::unmapped(vm, regions, watch, Some(Box::new(contents)))
    }

    fn unmapped(
        vm: C,
        regions: Vec<HostRegion>,
        watch: Watch,
        contents: Option<Box<dyn Contents + 'm>>,
    ) -> Result<Self, HvfError> {
        let layout = RamLayout::new(regions.iter().map(|region| region.region).collect());
        let layout = layout.map_err(|source| HvfError::Layout { source })?;
        for HostRegion { region, host } in &regions {
            let (addr, len) = (region.addr(), region.len());
            let whole = [addr.get(), len.get(), host.addr() as u64];
            if !whole.iter().all(|bytes| PAGE.divides(*bytes)) || watch.page_size < PAGE {
                return Err(HvfError::CheckRegion { addr, len });
            }
        }
        let mark = |source| HvfError::MarkDirty { source };
        let opened = DirtyBitmap::new(layout.total(), watch.page_size).map_err(mark)?;
        let opened = AdaptiveBitmap::new(opened, watch.faults_per_window).map_err(mark)?;
        let lazy = contents.map(|contents| Lazy::new(contents, layout.total()));
        Ok(Self {
            vm,
            regions,
            layout,
            opened,
            armed: RwLock::new(false),
            lazy,
            memory: PhantomData,
        })
    }

    /// Where guest memory is.
    #[must_use]
    pub const fn layout(&self) -> &RamLayout {
        &self.layout
    }

    /// Begins to watch: all memory is protected, in one call for each region, and what is written
    /// from now on is told by a harvest. Does nothing if it watches already.
    ///
    /// # Errors
    /// [`HvfError::Memory`]; it does not watch then.
    pub fn arm(&self) -> Result<(), HvfError> {
        let mut armed = locked(self.armed.write());
        if *armed {
            return Ok(());
        }
        self.opened.bitmap().take().commit();
        self.protect(0..self.layout.total().get(), Perms::ReadExec)?;
        *armed = true;
        Ok(())
    }

    /// Ends watching: all memory is open.
    ///
    /// # Errors
    /// [`HvfError::Memory`]; it watches still.
    pub fn disarm(&self) -> Result<(), HvfError> {
        let mut armed = locked(self.armed.write());
        if *armed {
            self.protect(0..self.layout.total().get(), Perms::ReadWriteExec)?;
            *armed = false;
        }
        Ok(())
    }

    /// Ends a window before its harvest, while the guest runs: blocks with many faults are closed
    /// again and watched page by page from now on. What was written of them is told all the same.
    /// Returns how many.
    ///
    /// # Errors
    /// [`HvfError::Memory`]. What could not be closed is still among what is told.
    pub fn step_down(&self) -> Result<usize, HvfError> {
        let armed = locked(self.armed.write());
        let blocks = self.opened.tick();
        if *armed {
            for block in &blocks {
                self.protect(self.bytes(*block), Perms::ReadExec)?;
            }
        }
        Ok(blocks.len())
    }

    /// Handles an access that stage 2 did not allow; false if there is no guest memory there.
    ///
    /// # Errors
    /// [`HvfError::Fill`], [`HvfError::Memory`], [`HvfError::MarkDirty`].
    pub fn fault(&self, addr: GuestAddr, is_write: bool) -> Result<bool, HvfError> {
        let Some(offset) = self.layout.ram_offset(addr) else {
            return Ok(false);
        };
        if self.lazy.is_some() {
            self.fill(offset, ByteLen::new(1))?;
        }
        if is_write {
            self.open(offset)?;
        }
        Ok(true)
    }

    /// Marks and opens the granule of a page, with no harvest between the two.
    fn open(&self, offset: RamOffset) -> Result<(), HvfError> {
        let armed = locked(self.armed.read());
        let page = self.opened.bitmap().page_size().page_of(offset);
        if !*armed {
            // Watching ended between the fault and now, or an arming failed half-way: what it
            // closed is opened, without a mark, since nobody will ask.
            let granule = self.opened.granule_of(page);
            let granule = granule.map_err(|source| HvfError::MarkDirty { source })?;
            return self.protect(self.bytes(granule), Perms::ReadWriteExec);
        }
        let granule = self.opened.mark_fault(page);
        let granule = granule.map_err(|source| HvfError::MarkDirty { source })?;
        self.protect(self.bytes(granule), Perms::ReadWriteExec)
    }

    /// Closes what was opened since the last harvest, and returns it.
    fn close(&self, into: &DirtyBitmap) -> Result<(), HvfError> {
        let armed = locked(self.armed.write());
        if !*armed {
            return Ok(());
        }
        // Put back if anything fails: what is in the token is open, or has been written to.
        let token = self.opened.bitmap().take();
        for run in token.pages().runs() {
            self.protect(self.bytes(run), Perms::ReadExec)?;
        }
        let told: &DirtyPages = token.pages();
        into.union(told)
            .map_err(|source| HvfError::MarkDirty { source })?;
        token.commit();
        // A new window: hot blocks are opened by pages now, cold ones as a whole again. All of
        // both is closed.
        let (_down, _up) = (self.opened.tick(), self.opened.checkpoint());
        Ok(())
    }

    /// Sets the permissions of what is mapped of these RAM offsets.
    fn protect(&self, bytes: Range<u64>, perms: Perms) -> Result<(), HvfError> {
        for mapped in self.mapped(bytes) {
            for (ipa, len, _) in self.pieces(mapped) {
                let done = self.vm.protect(ipa, len, perms);
                done.map_err(memory("hv_vm_protect", ipa, len))?;
            }
        }
        Ok(())
    }

    /// The parts of a range of RAM offsets that are mapped.
    fn mapped(&self, bytes: Range<u64>) -> Vec<Range<u64>> {
        match &self.lazy {
            None => vec![bytes],
            Some(lazy) => lazy.present(bytes),
        }
    }

    /// The pieces of a range of RAM offsets, each in one region: where they are in the guest, how
    /// long, and where in the host.
    fn pieces(&self, bytes: Range<u64>) -> Vec<(GuestAddr, ByteLen, *mut u8)> {
        let mut pieces = Vec::new();
        for (region, (start, _)) in self.regions.iter().zip(self.layout.with_offsets()) {
            let (start, len) = (start.get(), region.region.len().get());
            let from = bytes.start.max(start);
            let to = bytes.end.min(start + len);
            if from < to {
                let skip = from - start;
                let ipa = GuestAddr::new(region.region.addr().get() + skip);
                // 64-bit targets only.
                let host = region.host.wrapping_add(skip as usize);
                pieces.push((ipa, ByteLen::new(to - from), host));
            }
        }
        pieces
    }

    fn bytes(&self, run: PageRun) -> Range<u64> {
        let page = self.opened.bitmap().page_size().bytes();
        let total = self.layout.total().get();
        run.start().get() * page..(run.end().get() * page).min(total)
    }
}

impl<C: VmCalls> Drop for Stage2<'_, C> {
    /// Unmaps all, so that the host memory may go. A part that is not mapped is no error here.
    fn drop(&mut self) {
        for mapped in self.mapped(0..self.layout.total().get()) {
            for (ipa, len, _) in self.pieces(mapped) {
                let _ = self.vm.unmap(ipa, len);
            }
        }
    }
}

impl<C: VmCalls> std::fmt::Debug for Stage2<'_, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stage2")
            .field("regions", &self.regions)
            .field("is_lazy", &self.lazy.is_some())
            .finish_non_exhaustive()
    }
}

/// What vCPUs write, by the faults that it costs them. Devices write without a fault: the VMM
/// marks that in the bitmap that a harvest adds to.
#[derive(Debug)]
pub struct HvfDirty<'s, 'm, C: VmCalls> {
    stage2: &'s Stage2<'m, C>,
}

impl<'s, 'm, C: VmCalls> HvfDirty<'s, 'm, C> {
    /// For memory that is watched ([`Stage2::arm`]); of other memory nothing is told.
    #[must_use]
    pub const fn new(stage2: &'s Stage2<'m, C>) -> Self {
        Self { stage2 }
    }
}

impl<C: VmCalls> DirtySource for HvfDirty<'_, '_, C> {
    type Error = HvfError;

    /// Adds what was opened for writing since the last harvest, and closes just that again.
    ///
    /// # Errors
    /// [`HvfError::Memory`], [`HvfError::MarkDirty`]; the next harvest tells it all then.
    fn harvest(&mut self, into: &DirtyBitmap) -> Result<(), HvfError> {
        self.stage2.close(into)
    }
}

fn memory(
    call: &'static str,
    addr: GuestAddr,
    len: ByteLen,
) -> impl FnOnce(crate::calls::HvStatus) -> HvfError {
    move |source| HvfError::Memory {
        call,
        addr,
        len,
        source,
    }
}

/// What the lock guards is whole at every step, so a poisoned one is too.
fn locked<G>(result: LockResult<G>) -> G {
    result.unwrap_or_else(PoisonError::into_inner)
}
