//! A paused machine, held by its descriptors.

use coldframe_hv::{Accepted, GuestTime, Machine, MachineState, Thawed};
use kvm_ioctls::{VcpuFd, VmFd};

use super::{KvmHost, restore, save};
use crate::error::KvmError;

/// A machine all of whose vCPUs are out of `KVM_RUN`.
///
/// The descriptors are borrowed for as long as this lives: a VMM whose vCPU threads keep them in
/// mutexes takes the guards first. vCPU `i` of the iterator is the one made with number `i`.
#[derive(Debug)]
pub struct KvmMachine<'a> {
    pub(super) host: &'a KvmHost,
    pub(super) vm: &'a VmFd,
    pub(super) vcpus: Vec<&'a VcpuFd>,
    pub(super) time: GuestTime,
}

impl<'a> KvmMachine<'a> {
    /// The machine of these descriptors.
    #[must_use]
    pub fn new(
        host: &'a KvmHost,
        vm: &'a VmFd,
        vcpus: impl IntoIterator<Item = &'a VcpuFd>,
    ) -> Self {
        Self {
            host,
            vm,
            vcpus: vcpus.into_iter().collect(),
            time: GuestTime::Continue,
        }
    }

    /// Where the guest's TSC and paravirtual clock go on after a restore, if not where they
    /// stopped. With [`GuestTime::Advance`] both are that much ahead, so a deadline that passes
    /// meanwhile fires at once.
    #[must_use]
    pub const fn with_time(mut self, time: GuestTime) -> Self {
        self.time = time;
        self
    }

    /// Sets the registers through which the guest asks for the wall clock
    /// ([`VmmOp::WallClock`](coldframe_hv::VmmOp::WallClock)): KVM answers such a write by writing
    /// 12 bytes of guest memory, so this must be done before the machine has any memory.
    /// [`Machine::restore`] never sets them. A VMM that does not call this restores memory as it
    /// was saved; its guest reads 0 from the registers until it sets them again, as Linux does
    /// each time it asks.
    ///
    /// # Errors
    /// [`KvmError::SetMsr`] or [`KvmError::SetMsrs`].
    pub fn restore_wall_clock(&self, state: &MachineState) -> Result<(), KvmError> {
        restore::wall_clock(self, state)
    }

    /// Each vCPU with its number.
    pub(super) fn numbered(&self) -> impl Iterator<Item = (u32, &'a VcpuFd)> {
        (0..).zip(self.vcpus.iter().copied())
    }
}

impl Machine for KvmMachine<'_> {
    type Error = KvmError;

    /// Reads the machine's whole state; [`complete_pending_io`](crate::complete_pending_io) must
    /// have been done on each vCPU that exited for I/O.
    ///
    /// # Errors
    /// [`KvmError::Unsupported`] before anything is read, naming what a state cannot hold;
    /// [`KvmError::GetItem`], [`KvmError::GetMsrs`] or [`KvmError::GetListed`] naming what the
    /// kernel refused.
    fn save(&self) -> Result<MachineState, KvmError> {
        save::save(self)
    }

    /// Writes a state into a machine that was made as the saved one was (same irqchip and timer,
    /// same number of vCPUs) and whose vCPUs have not run.
    ///
    /// The guest's clocks go on where they stopped, or as [`KvmMachine::with_time`] says. The state
    /// must have been accepted for the host of this machine.
    ///
    /// # Errors
    /// [`KvmError::Accept`] before anything is written; [`KvmError::SetItem`],
    /// [`KvmError::SetMsr`] or [`KvmError::SetListed`] naming what the kernel refused;
    /// [`KvmError::KeepMsr`] naming a register that lost its value again;
    /// [`KvmError::CheckState`], [`KvmError::MatchVcpus`], [`KvmError::FindItem`],
    /// [`KvmError::MatchItem`] if the state is no state of such a machine. A machine is half
    /// restored after an error: drop it.
    fn restore(&mut self, accepted: &Accepted) -> Result<Thawed, KvmError> {
        restore::restore(self, accepted)?;
        crate::restore::thawed()
    }
}
