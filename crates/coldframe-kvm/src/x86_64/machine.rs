//! A paused machine, held by its descriptors.

use coldframe_hv::{Acceptance, Machine, MachineState, Thawed};
use kvm_ioctls::{VcpuFd, VmFd};

use super::{KvmHost, restore, save};
use crate::error::KvmError;
use crate::thaw;

/// A machine all of whose vCPUs are out of `KVM_RUN`.
///
/// The descriptors are borrowed for as long as this lives: a VMM whose vCPU threads keep them in
/// mutexes takes the guards first. vCPU `i` of the iterator is the one made with number `i`.
#[derive(Debug)]
pub struct KvmMachine<'a> {
    pub(super) host: &'a KvmHost,
    pub(super) vm: &'a VmFd,
    pub(super) vcpus: Vec<&'a VcpuFd>,
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
        }
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
    /// [`KvmError::GetItem`] or [`KvmError::GetMsrs`] naming what the kernel refused.
    fn save(&self) -> Result<MachineState, KvmError> {
        save::save(self)
    }

    /// Writes a state into a machine that was made as the saved one was (same irqchip and timer,
    /// same number of vCPUs) and whose vCPUs have not run.
    ///
    /// The guest's clocks go on where they stopped: it does not see the time between.
    ///
    /// # Errors
    /// [`KvmError::SetItem`] or [`KvmError::SetMsr`] naming what the kernel refused;
    /// [`KvmError::CheckState`], [`KvmError::MatchVcpus`], [`KvmError::FindItem`],
    /// [`KvmError::MatchItem`] if the state is no state of such a machine. A machine is half
    /// restored after an error: drop it.
    fn restore(
        &mut self,
        state: &MachineState,
        acceptance: Acceptance,
    ) -> Result<Thawed, KvmError> {
        restore::restore(self, state, &acceptance)?;
        thaw::thawed()
    }
}
