//! Pages that the guest wrote, as KVM knows them: by log or by ring, behind one type.
//!
//! Invariant: a page is marked in the bitmap before the kernel is told to forget it, so that an
//! error in between repeats pages and loses none.

mod log;
mod ring;

use coldframe_dirty::DirtyBitmap;
use coldframe_hv::DirtySource;
use coldframe_units::{ByteLen, RamOffset};
use kvm_bindings::KVM_EXIT_DIRTY_RING_FULL;
use kvm_ioctls::{VcpuExit, VcpuFd};

use crate::error::KvmError;
use crate::slot::{Means, SlotTable};
use log::Log;
use ring::Rings;

/// The dirty pages of one machine.
///
/// With a ring, [`ring_full`](Self::ring_full) is the answer to a vCPU whose ring is full
/// ([`is_ring_full`]): the VMM shares this and the bitmap behind a lock with its vCPU threads.
/// With vCPUs out of the kernel the result is exact. vCPUs and slots may come later
/// ([`add_vcpu`](Self::add_vcpu), [`slots_mut`](Self::slots_mut)).
#[derive(Debug)]
pub struct KvmDirty {
    slots: SlotTable,
    source: Source,
}

#[derive(Debug)]
enum Source {
    None,
    Log(Log),
    Rings {
        rings: Rings,
        /// Pages that the kernel wrote for no vCPU.
        backup: Option<Log>,
    },
}

impl KvmDirty {
    /// Tracks the pages of all registered slots as the table's
    /// [`Tracking`](crate::Tracking) says; with a ring, by the rings of all `vcpus`.
    ///
    /// # Errors
    /// [`KvmError::MapDirtyRing`].
    pub fn new<'a>(
        slots: SlotTable,
        vcpus: impl IntoIterator<Item = &'a VcpuFd>,
    ) -> Result<Self, KvmError> {
        let source = match slots.means() {
            Means::Off => Source::None,
            Means::Log => Source::Log(Log::new(false)),
            Means::ManualLog => Source::Log(Log::new(true)),
            Means::Ring { bytes, backup } => Source::Rings {
                rings: Rings::map(vcpus, bytes)?,
                backup: backup.then(|| Log::new(false)),
            },
        };
        Ok(Self { slots, source })
    }

    /// The slots whose pages are tracked.
    #[must_use]
    pub const fn slots(&self) -> &SlotTable {
        &self.slots
    }

    /// The slots, to register or adopt more: their pages are tracked from then on.
    pub const fn slots_mut(&mut self) -> &mut SlotTable {
        &mut self.slots
    }

    /// Takes a vCPU in that was made after tracking began, before it first runs: with a ring, its
    /// pages are in its own ring alone.
    ///
    /// # Errors
    /// [`KvmError::MapDirtyRing`].
    pub fn add_vcpu(&mut self, vcpu: &VcpuFd) -> Result<(), KvmError> {
        match (&mut self.source, self.slots.means()) {
            (Source::Rings { rings, .. }, Means::Ring { bytes, .. }) => rings.add(vcpu, bytes),
            _ => Ok(()),
        }
    }

    /// The answer to a vCPU whose ring is full ([`is_ring_full`]): takes the pages of all rings,
    /// so that it can run on.
    ///
    /// # Errors
    /// [`KvmError::UnknownVcpu`] if the ring of `vcpu` is still full then, because
    /// [`Self::add_vcpu`] was not called for it: it would exit for ever. Nothing is lost: call it
    /// now. Otherwise as [`harvest`](DirtySource::harvest).
    pub fn ring_full(&mut self, vcpu: &VcpuFd, into: &DirtyBitmap) -> Result<(), KvmError> {
        self.harvest(into)?;
        match (&self.source, self.slots.means()) {
            (Source::Rings { rings, .. }, Means::Ring { bytes, .. }) => {
                rings.check_empty(vcpu, bytes)
            }
            _ => Ok(()),
        }
    }

    /// Harvests, and then deletes a slot from the machine: memory that is unplugged. The guest
    /// must not write to it meanwhile.
    ///
    /// # Errors
    /// As [`harvest`](DirtySource::harvest); [`KvmError::CheckSlot`] if there is no such slot,
    /// [`KvmError::RegisterSlot`] if the kernel refuses.
    pub fn remove_slot(&mut self, slot: u32, into: &DirtyBitmap) -> Result<(), KvmError> {
        self.harvest(into)?;
        self.slots.remove(slot)
    }
}

impl DirtySource for KvmDirty {
    type Error = KvmError;

    /// Adds the pages that vCPUs wrote since the last harvest.
    ///
    /// # Errors
    /// [`KvmError::MatchBitmap`] before anything is taken, if a slot lies outside the bitmap's RAM;
    /// otherwise [`KvmError::GetDirtyLog`], [`KvmError::ClearDirtyLog`],
    /// [`KvmError::ReadDirtyRing`], [`KvmError::OverrunDirtyRing`],
    /// [`KvmError::ResetDirtyRings`]. What had been taken is marked.
    fn harvest(&mut self, into: &DirtyBitmap) -> Result<(), KvmError> {
        let end = self.slots.end();
        if end.get() > into.ram().get() {
            return Err(KvmError::MatchBitmap {
                end,
                ram: into.ram(),
            });
        }
        match &mut self.source {
            Source::None => Ok(()),
            Source::Log(log) => log.harvest(&self.slots, into),
            Source::Rings { rings, backup } => {
                rings.harvest(&self.slots, into)?;
                match backup {
                    Some(log) => log.harvest(&self.slots, into),
                    None => Ok(()),
                }
            }
        }
    }
}

/// Whether a vCPU stopped because its dirty ring is full: call [`KvmDirty::ring_full`], then run
/// it on.
///
/// Source: Documentation/virt/kvm/api.rst, `KVM_CAP_DIRTY_LOG_RING`.
#[must_use]
pub const fn is_ring_full(exit: &VcpuExit<'_>) -> bool {
    matches!(exit, VcpuExit::Unsupported(KVM_EXIT_DIRTY_RING_FULL))
}

fn mark(into: &DirtyBitmap, offset: RamOffset, len: ByteLen) -> Result<(), KvmError> {
    into.mark(offset, len)
        .map_err(|source| KvmError::MarkDirty { source })
}
