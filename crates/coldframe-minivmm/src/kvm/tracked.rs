#![allow(unsafe_code)]
//! Guest RAM as KVM has it: its slots, and the pages that the guest wrote in them.
//!
//! # Safety
//! A slot is registered for a mapping that the [`Ram`] owns. [`Tracked`] holds that RAM together
//! with the table of slots, which holds the VM, and lets the table go first. RAM is never used but
//! through vm-memory, which makes no Rust references to it.

use std::sync::{Arc, Mutex};

use coldframe_dirty::DirtyBitmap;
use coldframe_hv::DirtySource;
use coldframe_kvm::{KvmDirty, SlotTable};
use coldframe_units::{ByteLen, GuestAddr, RamOffset};
use kvm_ioctls::{VcpuFd, VmFd};
use vm_memory::{GuestMemoryBackend, GuestMemoryRegion, MemoryRegionAddress};

use crate::config::Tracking;
use crate::error::MiniVmError;
use crate::kvm::shared::lock;
use crate::memory::{Ram, dirty_bitmap};

/// RAM and what KVM tells of it. The order of the fields is the order in which they are dropped.
pub(super) struct Tracked {
    dirty: Mutex<KvmDirty>,
    ram: Ram,
}

/// A failure of the adapter.
pub(super) fn adapter(doing: &'static str) -> impl FnOnce(coldframe_kvm::KvmError) -> MiniVmError {
    move |source| MiniVmError::Adapter { doing, source }
}

impl Tracked {
    /// A table of slots, before a vCPU is made.
    pub(super) fn slots(vm: &VmFd, tracking: Tracking) -> Result<SlotTable, MiniVmError> {
        let tracking = match tracking {
            Tracking::Off => coldframe_kvm::Tracking::Off,
            Tracking::Log => coldframe_kvm::Tracking::Log,
            Tracking::Ring { bytes } => coldframe_kvm::Tracking::Ring { bytes },
        };
        SlotTable::new(vm, tracking).map_err(adapter("track the guest's dirty pages"))
    }

    /// Registers the slots of `ram`, one for each region, in order.
    pub(super) fn register(mut slots: SlotTable, ram: &Ram) -> Result<SlotTable, MiniVmError> {
        let mut offset = RamOffset::ZERO;
        for (slot, region) in (0u32..).zip(ram.iter()) {
            let addr = GuestAddr::new(region.start_addr().0);
            let len = ByteLen::new(region.len());
            let host = region
                .get_host_address(MemoryRegionAddress(0))
                .map_err(|source| MiniVmError::AccessRam { addr, source })?;
            // SAFETY: the range is one whole mapping owned by `ram`; see the module's header.
            let registered = unsafe { slots.register(slot, offset, addr, len, host) }
                .map_err(adapter("register guest RAM"))?;
            offset = registered.end();
        }
        Ok(slots)
    }

    /// RAM with its slots, after all vCPUs were made.
    pub(super) fn new<'a>(
        slots: SlotTable,
        vcpus: impl IntoIterator<Item = &'a VcpuFd>,
        ram: Ram,
    ) -> Result<Self, MiniVmError> {
        let dirty =
            KvmDirty::new(slots, vcpus).map_err(adapter("track the guest's dirty pages"))?;
        Ok(Self {
            dirty: Mutex::new(dirty),
            ram,
        })
    }

    /// Guest RAM.
    pub(super) const fn ram(&self) -> &Ram {
        &self.ram
    }

    /// Marks the pages that the guest wrote in RAM's own bitmap: what a full ring asks for.
    pub(super) fn harvest(&self) -> Result<(), MiniVmError> {
        self.harvest_into(dirty_bitmap(&self.ram))
    }

    /// Marks the pages that the guest wrote in `into`.
    fn harvest_into(&self, into: &DirtyBitmap) -> Result<(), MiniVmError> {
        lock(&self.dirty)
            .harvest(into)
            .map_err(adapter("harvest the guest's dirty pages"))
    }
}

/// Tells which pages the guest wrote, from KVM.
///
/// With a ring, pages are marked in the bitmap of the guest's RAM whenever a ring runs full: give
/// that same bitmap to [`DirtySource::harvest`].
#[derive(Clone)]
pub struct KvmWritten(pub(super) Arc<Tracked>);

impl DirtySource for KvmWritten {
    type Error = MiniVmError;

    fn harvest(&mut self, into: &DirtyBitmap) -> Result<(), MiniVmError> {
        self.0.harvest_into(into)
    }
}
