//! A paused machine, held by its descriptors.

use coldframe_hv::aarch64::GuestTime;
use coldframe_hv::{Accepted, Machine, MachineState, Thawed};
use kvm_bindings::kvm_vcpu_init;
use kvm_ioctls::{VcpuFd, VmFd};

use super::{KvmGic, KvmHost, restore, save};
use crate::error::KvmError;

/// A machine all of whose vCPUs are out of `KVM_RUN`.
///
/// The descriptors are borrowed for as long as this lives: a VMM whose vCPU threads keep them in
/// mutexes takes the guards first. vCPU `i` of the iterator is the one made with number `i`.
///
/// A machine to restore into has its vCPUs made and initialised with the same target and features,
/// none of them finalised, and its interrupt controller made after that.
#[derive(Debug)]
pub struct KvmMachine<'a> {
    pub(super) host: &'a KvmHost,
    pub(super) vm: &'a VmFd,
    pub(super) vcpus: Vec<&'a VcpuFd>,
    /// What each vCPU was initialised with: the kernel does not tell it again.
    pub(super) init: kvm_vcpu_init,
    pub(super) gic: KvmGic<'a>,
    pub(super) time: GuestTime,
}

impl<'a> KvmMachine<'a> {
    /// The machine of these descriptors. `init` is what its vCPUs were initialised with
    /// (`KVM_ARM_VCPU_INIT`); the bit that says that a vCPU starts switched off does not matter.
    #[must_use]
    pub fn new(
        host: &'a KvmHost,
        vm: &'a VmFd,
        vcpus: impl IntoIterator<Item = &'a VcpuFd>,
        init: kvm_vcpu_init,
        gic: KvmGic<'a>,
    ) -> Self {
        Self {
            host,
            vm,
            vcpus: vcpus.into_iter().collect(),
            init,
            gic,
            time: GuestTime::Continue,
        }
    }

    /// Where the guest's counters go on after a restore, if not where they stopped.
    #[must_use]
    pub const fn with_time(mut self, time: GuestTime) -> Self {
        self.time = time;
        self
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
    /// The kernel writes the tables of the interrupt controller into guest memory: dirty pages are
    /// harvested, and memory is copied, after this.
    ///
    /// # Errors
    /// [`KvmError::ListRegisters`], [`KvmError::GetRegister`], [`KvmError::GetItem`],
    /// [`KvmError::GetGic`] or [`KvmError::ControlGic`] naming what the kernel refused.
    fn save(&self) -> Result<MachineState, KvmError> {
        save::save(self)
    }

    /// Writes a state into a machine that was made as the saved one was (same features, same
    /// interrupt controller at the same addresses, same number of vCPUs), whose memory is in place
    /// and whose vCPUs have not run.
    ///
    /// # Errors
    /// [`KvmError::UnknownRegisters`] if this kernel does not have some of the saved registers:
    /// name each as [`register_item`](coldframe_hv::aarch64::register_item) does to go on without
    /// it; [`KvmError::SetRegister`], [`KvmError::SetItem`], [`KvmError::SetGic`] or
    /// [`KvmError::ControlGic`] naming what the kernel refused; [`KvmError::CheckState`],
    /// [`KvmError::CheckAarch64`], [`KvmError::MatchVcpus`], [`KvmError::MatchGic`],
    /// [`KvmError::FindItem`], [`KvmError::MatchItem`] if the state is no state of such a machine.
    /// A machine is half restored after an error: drop it.
    fn restore(&mut self, accepted: &Accepted) -> Result<Thawed, KvmError> {
        restore::restore(self, accepted)?;
        crate::restore::thawed()
    }
}
