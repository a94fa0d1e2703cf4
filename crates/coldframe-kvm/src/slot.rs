//! Memory slots, registered once, so that nobody can ask for a dirty log of another size.
//!
//! Invariant: a [`RegisteredSlot`] is in the kernel, in this table's own machine, with exactly the
//! length it says, until it is [removed](SlotTable::remove) or the machine is gone.
//!
//! # Safety
//! The kernel keeps the host address of a slot for as long as the machine lives; the caller of
//! [`SlotTable::register`] promises that the memory stays.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use coldframe_units::{ByteLen, GuestAddr, RamOffset};
use kvm_bindings as kvm;
use kvm_ioctls::VmFd;

use crate::error::KvmError;
use crate::sys;

/// How the kernel is to tell which pages the guest wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracking {
    /// Not at all.
    Off,
    /// A bitmap for each slot, cleared in parts where the kernel can
    /// (`KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2`).
    Log,
    /// A bitmap for each slot that reading clears as a whole: for a machine whose manual clearing
    /// must not be switched on, since others read its log too.
    PlainLog,
    /// A ring for each vCPU of this many bytes, a power of two (`KVM_CAP_DIRTY_LOG_RING`, 16 bytes
    /// for each page). A full ring makes its vCPU exit: see [`KvmDirty`](crate::KvmDirty).
    Ring {
        /// Size of each ring.
        bytes: u32,
    },
}

/// What the kernel agreed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Means {
    Off,
    /// Reading clears the bitmap.
    Log,
    /// Reading does not clear the bitmap: `KVM_CLEAR_DIRTY_LOG` does.
    ManualLog,
    Ring {
        bytes: u32,
        /// Besides, a bitmap of the pages that the kernel writes for no vCPU.
        backup: bool,
    },
}

/// Proof that a slot is registered with this length: the only way to ask for its dirty log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegisteredSlot {
    slot: u32,
    ram: RamOffset,
    len: ByteLen,
    page_bytes: u64,
}

impl RegisteredSlot {
    /// Its number.
    #[must_use]
    pub const fn slot(self) -> u32 {
        self.slot
    }

    /// Where it begins in RAM offset space.
    #[must_use]
    pub const fn ram_offset(self) -> RamOffset {
        self.ram
    }

    /// Its length, a whole number of the host's pages.
    #[must_use]
    pub const fn len(self) -> ByteLen {
        self.len
    }

    /// Always false: a slot has at least one page.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        false
    }

    /// How many of the host's pages it has.
    #[must_use]
    pub const fn pages(self) -> u64 {
        self.len.get() / self.page_bytes
    }

    /// Where it ends in RAM offset space.
    #[must_use]
    pub const fn end(self) -> RamOffset {
        RamOffset::new(self.ram.get() + self.len.get())
    }
}

/// The memory slots of one machine.
#[derive(Debug)]
pub struct SlotTable {
    /// A second descriptor of the same machine, so that the table cannot be used with another.
    vm: OwnedFd,
    means: Means,
    page_bytes: u64,
    slots: Vec<RegisteredSlot>,
    /// Numbers that were deleted and are not in use again: rings may still name them.
    removed: Vec<u32>,
}

impl SlotTable {
    /// For a machine that, with a ring, has no vCPU yet.
    ///
    /// Source: Documentation/virt/kvm/api.rst, `KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2` and
    /// `KVM_CAP_DIRTY_LOG_RING/KVM_CAP_DIRTY_LOG_RING_ACQ_REL`.
    ///
    /// # Errors
    /// [`KvmError::EnableTracking`] if the kernel cannot track so.
    pub fn new(vm: &VmFd, tracking: Tracking) -> Result<Self, KvmError> {
        let means = match tracking {
            Tracking::Off => Means::Off,
            Tracking::Log => enable_log(vm)?,
            Tracking::PlainLog => Means::Log,
            Tracking::Ring { bytes } => enable_ring(vm, bytes)?,
        };
        // SAFETY: the descriptor is open for as long as `vm` is borrowed, which outlives this line.
        let borrowed = unsafe { BorrowedFd::borrow_raw(vm.as_raw_fd()) };
        let vm = borrowed
            .try_clone_to_owned()
            .map_err(|source| KvmError::EnableTracking {
                what: "a second descriptor of the machine",
                source,
            })?;
        Ok(Self {
            vm,
            means,
            page_bytes: sys::host_page_bytes(),
            slots: Vec::new(),
            removed: Vec::new(),
        })
    }

    /// Takes in a slot that the VMM has registered itself, being the guest's RAM from `ram` on.
    ///
    /// # Safety
    /// The slot must be registered in this table's machine with exactly `len` bytes, and, unless
    /// tracking is off, with `KVM_MEM_LOG_DIRTY_PAGES`; it must not be changed by other means while
    /// this table lives.
    ///
    /// # Errors
    /// [`KvmError::CheckSlot`] as [`Self::register`]; [`KvmError::UnsupportedSlot`].
    pub unsafe fn adopt(
        &mut self,
        slot: u32,
        ram: RamOffset,
        addr: GuestAddr,
        len: ByteLen,
    ) -> Result<RegisteredSlot, KvmError> {
        // Any aligned address does: the kernel has the real one.
        let host = std::ptr::without_provenance_mut(64 << 10);
        self.check(slot, ram, addr, len, host)?;
        Ok(self.push(slot, ram, len))
    }

    /// Deletes a slot from the machine. What its log had is gone:
    /// [`KvmDirty::remove_slot`](crate::KvmDirty::remove_slot) harvests first.
    ///
    /// # Errors
    /// [`KvmError::CheckSlot`] if there is no such slot; [`KvmError::RegisterSlot`] if the kernel
    /// refuses.
    pub fn remove(&mut self, slot: u32) -> Result<(), KvmError> {
        let position = self.slots.iter().position(|known| known.slot == slot);
        let (addr, len) = (GuestAddr::ZERO, ByteLen::new(0));
        let Some(position) = position else {
            return Err(KvmError::CheckSlot { slot, addr, len });
        };
        let region = kvm::kvm_userspace_memory_region {
            slot,
            ..Default::default()
        };
        // SAFETY: a region of no bytes deletes the slot and names no memory.
        let deleted = unsafe { sys::set_memory_region(&self.vm, &region) };
        deleted.map_err(|source| KvmError::RegisterSlot {
            slot,
            addr,
            len,
            source,
        })?;
        self.slots.remove(position);
        self.removed.push(slot);
        Ok(())
    }

    /// Whether a slot of this number was deleted, and none has its number now.
    pub(crate) fn is_removed(&self, slot: u32) -> bool {
        self.removed.contains(&slot)
    }

    fn push(&mut self, slot: u32, ram: RamOffset, len: ByteLen) -> RegisteredSlot {
        let token = RegisteredSlot {
            slot,
            ram,
            len,
            page_bytes: self.page_bytes,
        };
        self.removed.retain(|removed| *removed != slot);
        self.slots.push(token);
        token
    }

    fn check(
        &self,
        slot: u32,
        ram: RamOffset,
        addr: GuestAddr,
        len: ByteLen,
        host: *mut u8,
    ) -> Result<(), KvmError> {
        /// Bits 16 to 31 of a slot's number are its address space: SMM has one of its own.
        const SLOT_MAX: u32 = 0xffff;
        if slot > SLOT_MAX {
            return Err(KvmError::UnsupportedSlot { slot });
        }
        if self.is_possible(slot, ram, addr, len, host) {
            return Ok(());
        }
        Err(KvmError::CheckSlot { slot, addr, len })
    }

    /// Makes `len` bytes of host memory at `host` the guest's memory at `addr`, being the guest's
    /// RAM from `ram` on.
    ///
    /// Source: Documentation/virt/kvm/api.rst, `KVM_SET_USER_MEMORY_REGION`.
    ///
    /// # Safety
    /// The host memory must be mapped for reading and writing until the machine and this table are
    /// gone, must not be used through Rust references while the guest runs, and the slot must not
    /// be changed by other means (`VmFd::set_user_memory_region`) while this table lives.
    ///
    /// # Errors
    /// [`KvmError::CheckSlot`] if it is empty, not made of whole pages, its number taken, or its
    /// RAM range that of another slot; [`KvmError::UnsupportedSlot`] if its number is above 65535:
    /// an address space of its own, as for SMM; [`KvmError::RegisterSlot`] if the kernel refuses.
    pub unsafe fn register(
        &mut self,
        slot: u32,
        ram: RamOffset,
        addr: GuestAddr,
        len: ByteLen,
        host: *mut u8,
    ) -> Result<RegisteredSlot, KvmError> {
        self.check(slot, ram, addr, len, host)?;
        let flags = match self.means {
            Means::Off => 0,
            _ => kvm::KVM_MEM_LOG_DIRTY_PAGES,
        };
        let region = kvm::kvm_userspace_memory_region {
            slot,
            flags,
            guest_phys_addr: addr.get(),
            memory_size: len.get(),
            userspace_addr: host as u64,
        };
        // SAFETY: the caller promises that the memory stays for as long as the machine does.
        let registered = unsafe { sys::set_memory_region(&self.vm, &region) };
        registered.map_err(|source| KvmError::RegisterSlot {
            slot,
            addr,
            len,
            source,
        })?;
        Ok(self.push(slot, ram, len))
    }

    /// The slots, in the order of registration.
    #[must_use]
    pub fn slots(&self) -> &[RegisteredSlot] {
        &self.slots
    }

    pub(crate) const fn vm(&self) -> &OwnedFd {
        &self.vm
    }

    pub(crate) const fn means(&self) -> Means {
        self.means
    }

    pub(crate) const fn page_bytes(&self) -> u64 {
        self.page_bytes
    }

    /// Where the last slot ends.
    pub(crate) fn end(&self) -> RamOffset {
        let ends = self.slots.iter().map(|slot| slot.end());
        ends.max().unwrap_or(RamOffset::ZERO)
    }

    fn is_possible(
        &self,
        slot: u32,
        ram: RamOffset,
        addr: GuestAddr,
        len: ByteLen,
        host: *mut u8,
    ) -> bool {
        let whole = |bytes: u64| bytes.is_multiple_of(self.page_bytes);
        let aligned = whole(ram.get()) && whole(addr.get()) && whole(len.get());
        let inside = ram.checked_add(len).is_some() && addr.checked_add(len).is_some();
        let Some(end) = ram.checked_add(len) else {
            return false;
        };
        let clash = self
            .slots
            .iter()
            .any(|other| other.slot == slot || (other.ram < end && ram < other.end()));
        let host_aligned = whole(host as u64) && !host.is_null();
        aligned && inside && host_aligned && len.get() > 0 && !clash
    }
}

fn enable(vm: &VmFd, what: &'static str, cap: u32, argument: u64) -> Result<(), KvmError> {
    let request = kvm::kvm_enable_cap {
        cap,
        args: [argument, 0, 0, 0],
        ..Default::default()
    };
    vm.enable_cap(&request)
        .map_err(|error| KvmError::EnableTracking {
            what,
            source: io::Error::from_raw_os_error(error.errno()),
        })
}

fn enable_log(vm: &VmFd) -> Result<Means, KvmError> {
    let cap = kvm::KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2;
    let offered = vm.check_extension_raw(cap.into());
    let manual = kvm::KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE;
    if u32::try_from(offered).unwrap_or(0) & manual == 0 {
        return Ok(Means::Log);
    }
    enable(vm, "manual clearing of the dirty log", cap, manual.into())?;
    Ok(Means::ManualLog)
}

fn enable_ring(vm: &VmFd, bytes: u32) -> Result<Means, KvmError> {
    // On x86_64 both are there; weakly ordered hosts have only the first.
    let caps = [
        kvm::KVM_CAP_DIRTY_LOG_RING_ACQ_REL,
        kvm::KVM_CAP_DIRTY_LOG_RING,
    ];
    let offered = caps
        .into_iter()
        .find(|cap| vm.check_extension_raw((*cap).into()) > 0);
    let what = "the dirty ring";
    let Some(cap) = offered else {
        return Err(KvmError::EnableTracking {
            what,
            source: io::Error::from(io::ErrorKind::Unsupported),
        });
    };
    enable(vm, what, cap, bytes.into())?;
    // The tables of an Arm translation service are written while no vCPU runs: where that can be,
    // the kernel wants the bitmap to be switched on, and marks the pages there.
    let cap = kvm::KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP;
    let backup = vm.check_extension_raw(cap.into()) > 0;
    if backup {
        enable(vm, "the bitmap beside the dirty ring", cap, 0)?;
    }
    Ok(Means::Ring { bytes, backup })
}
