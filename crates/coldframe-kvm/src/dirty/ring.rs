//! The dirty ring: a queue of pages for each vCPU, shared with the kernel.
//!
//! Invariant: entries are taken in order; an entry is given back (flag RESET) only after its page
//! was marked, and the kernel reuses it only after `KVM_RESET_DIRTY_RINGS`. A ring without a free
//! entry may have been overrun: then every page is marked, and the caller is told.
//!
//! Source: Documentation/virt/kvm/api.rst, `KVM_CAP_DIRTY_LOG_RING`.
//!
//! # Safety
//! A ring is mapped shared for as long as its [`Ring`] lives and is never handed out; each entry is
//! read and written through raw pointers inside the mapping, its flags as an atomic, since the
//! kernel writes them at the same time.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::AsRawFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};

use coldframe_dirty::DirtyBitmap;
use coldframe_units::{ByteLen, RamOffset};
use kvm_bindings::{KVM_DIRTY_LOG_PAGE_OFFSET, kvm_dirty_gfn};
use kvm_ioctls::VcpuFd;

use crate::error::KvmError;
use crate::slot::{RegisteredSlot, SlotTable};
use crate::sys;

/// The kernel has put a page here.
const FLAG_DIRTY: u32 = 1 << 0;
/// We have taken it.
const FLAG_RESET: u32 = 1 << 1;

/// The rings of all vCPUs.
#[derive(Debug)]
pub(super) struct Rings {
    rings: Vec<Ring>,
}

#[derive(Debug)]
struct Ring {
    entries: NonNull<kvm_dirty_gfn>,
    bytes: usize,
    count: usize,
    next: usize,
}

// SAFETY: a ring is one mapping that belongs to this value alone; nothing in it is bound to a
// thread.
unsafe impl Send for Ring {}

impl Rings {
    pub(super) fn map<'a>(
        vcpus: impl IntoIterator<Item = &'a VcpuFd>,
        bytes: u32,
    ) -> Result<Self, KvmError> {
        let rings = (0..).zip(vcpus).map(|(index, vcpu)| {
            Ring::map(vcpu, bytes).map_err(|source| KvmError::MapDirtyRing {
                vcpu: index,
                source,
            })
        });
        let rings = rings.collect::<Result<_, _>>()?;
        Ok(Self { rings })
    }

    /// Maps the ring of one more vCPU.
    pub(super) fn add(&mut self, vcpu: &VcpuFd, bytes: u32) -> Result<(), KvmError> {
        let ring = Ring::map(vcpu, bytes).map_err(|source| KvmError::MapDirtyRing {
            vcpu: u32::try_from(self.rings.len()).unwrap_or(u32::MAX),
            source,
        })?;
        self.rings.push(ring);
        Ok(())
    }

    /// That nothing is left in the ring of `vcpu`, which is out of the kernel, after a harvest:
    /// what is left is of a ring that is not among these.
    pub(super) fn check_empty(&self, vcpu: &VcpuFd, bytes: u32) -> Result<(), KvmError> {
        let ring = Ring::map(vcpu, bytes).map_err(|source| KvmError::MapDirtyRing {
            vcpu: u32::try_from(self.rings.len()).unwrap_or(u32::MAX),
            source,
        })?;
        if ring.has_dirty_entry() {
            return Err(KvmError::UnknownVcpu {
                known: self.rings.len(),
            });
        }
        Ok(())
    }

    /// Empties all rings, then gives the entries back.
    pub(super) fn harvest(
        &mut self,
        table: &SlotTable,
        into: &DirtyBitmap,
    ) -> Result<(), KvmError> {
        let mut taken = 0;
        let mut result = Ok(());
        for (vcpu, ring) in self.rings.iter_mut().enumerate() {
            let before = taken;
            result = ring.take(table, into, &mut taken);
            if result.is_ok() && taken - before == ring.count {
                result = overrun(table, into, vcpu);
            }
            if result.is_err() {
                break;
            }
        }
        if taken > 0 {
            let reset = sys::reset_dirty_rings(table.vm());
            let reset = reset.map_err(|source| KvmError::ResetDirtyRings { source });
            result = result.and(reset.map(drop));
        }
        result
    }
}

/// The kernel stops a vCPU while some entries are free. Where none is, it did not, and pages may
/// have been written that no entry tells of.
fn overrun(table: &SlotTable, into: &DirtyBitmap, vcpu: usize) -> Result<(), KvmError> {
    for slot in table.slots() {
        super::mark(into, slot.ram_offset(), slot.len())?;
    }
    Err(KvmError::OverrunDirtyRing { vcpu })
}

impl Ring {
    fn map(vcpu: &VcpuFd, bytes: u32) -> io::Result<Self> {
        let bytes = bytes as usize;
        let offset = u64::from(KVM_DIRTY_LOG_PAGE_OFFSET) * sys::host_page_bytes();
        let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address that the kernel chooses; it replaces nothing.
        let address = unsafe {
            libc::mmap(
                ptr::null_mut(),
                bytes,
                protection,
                libc::MAP_SHARED,
                vcpu.as_raw_fd(),
                offset,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let entries = NonNull::new(address.cast()).ok_or_else(io::Error::last_os_error)?;
        Ok(Self {
            entries,
            bytes,
            count: bytes / size_of::<kvm_dirty_gfn>(),
            next: 0,
        })
    }

    /// Takes entries until one is not dirty; at most the whole ring once.
    fn take(
        &mut self,
        table: &SlotTable,
        into: &DirtyBitmap,
        taken: &mut usize,
    ) -> Result<(), KvmError> {
        for _ in 0..self.count {
            // SAFETY: `next` is below `count`, so this is an entry inside the mapping.
            let entry = unsafe { self.entries.add(self.next) };
            let (flags, slot, page) = self.fields(entry);
            // Acquire: the kernel wrote slot and page before the flag.
            if flags.load(Ordering::Acquire) & FLAG_DIRTY == 0 {
                break;
            }
            // SAFETY: inside the mapping and aligned; with the flag set the kernel leaves it alone.
            let slot = unsafe { slot.read_volatile() };
            // SAFETY: as above.
            let page = unsafe { page.read_volatile() };
            // Memory that was unplugged since has no page to mark.
            if !table.is_removed(slot) {
                let (offset, len) = locate(table, slot, page)?;
                super::mark(into, offset, len)?;
            }
            // Release: the kernel must not reuse the entry before it was read.
            flags.store(FLAG_RESET, Ordering::Release);
            self.next = (self.next + 1) % self.count;
            *taken += 1;
        }
        Ok(())
    }

    /// Whether an entry was filled by the kernel and not taken.
    fn has_dirty_entry(&self) -> bool {
        (0..self.count).any(|at| {
            // SAFETY: `at` is below `count`, so this is an entry inside the mapping.
            let entry = unsafe { self.entries.add(at) };
            let (flags, _, _) = self.fields(entry);
            flags.load(Ordering::Acquire) & (FLAG_DIRTY | FLAG_RESET) == FLAG_DIRTY
        })
    }

    /// The three fields of an entry of this ring.
    fn fields(&self, entry: NonNull<kvm_dirty_gfn>) -> (&AtomicU32, *const u32, *const u64) {
        let entry = entry.as_ptr();
        // SAFETY: a field's address inside an entry that lies inside the mapping.
        let flags = unsafe { &raw mut (*entry).flags };
        // SAFETY: as above.
        let slot = unsafe { &raw const (*entry).slot };
        // SAFETY: as above.
        let page = unsafe { &raw const (*entry).offset };
        // SAFETY: aligned as a u32 field of a mapped structure; the reference borrows the
        // ring and so ends before the mapping does; the kernel writes it atomically.
        let flags = unsafe { AtomicU32::from_ptr(flags) };
        (flags, slot, page)
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping that `map` made, and nobody uses it any more. Its failure
        // would leave it mapped, which harms nobody.
        unsafe { libc::munmap(self.entries.as_ptr().cast(), self.bytes) };
    }
}

/// Where the page of a ring's entry lies in RAM.
fn locate(table: &SlotTable, slot: u32, page: u64) -> Result<(RamOffset, ByteLen), KvmError> {
    let unknown = KvmError::ReadDirtyRing { slot, page };
    let has_it = |known: &&RegisteredSlot| known.slot() == slot && page < known.pages();
    let Some(known) = table.slots().iter().find(has_it) else {
        return Err(unknown);
    };
    let bytes = table.page_bytes();
    let offset = RamOffset::new(known.ram_offset().get() + page * bytes);
    Ok((offset, ByteLen::new(bytes)))
}
