//! What is of x86_64: interrupt controllers and timer, first registers, the end's digest.

mod regs;
mod setup;

use coldframe_hv::MachineState;
use coldframe_kvm::{KvmHost, KvmMachine};
use kvm_bindings::{
    KVM_MP_STATE_HALTED, KVM_MP_STATE_INIT_RECEIVED, KVM_MP_STATE_UNINITIALIZED, kvm_pit_config,
};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};

use crate::config::Shape;
use crate::error::MiniVmError;
use crate::kvm::failed::kvm_error;
use crate::kvm::tracked::adapter;
use crate::load::Start;

/// Where KVM may keep the three pages that some Intel hosts need, among the devices' addresses.
const TSS: usize = 0xfffb_d000;

/// What the machine has besides vCPUs: nothing that has a descriptor of its own.
pub(super) struct Chips;

impl Chips {
    /// Makes what must be there before the vCPUs.
    pub(super) fn before_vcpus(vm: &VmFd, shape: Shape) -> Result<(), MiniVmError> {
        vm.set_tss_address(TSS)
            .map_err(|e| kvm_error("KVM_SET_TSS_ADDR", e))?;
        if shape.irqchip {
            vm.create_irq_chip()
                .map_err(|e| kvm_error("KVM_CREATE_IRQCHIP", e))?;
            vm.create_pit2(kvm_pit_config::default())
                .map_err(|e| kvm_error("KVM_CREATE_PIT2", e))?;
        }
        Ok(())
    }

    /// Makes vCPU `index`.
    pub(super) fn new_vcpu(
        kvm: &Kvm,
        vm: &VmFd,
        _host: &KvmHost,
        index: u8,
    ) -> Result<VcpuFd, MiniVmError> {
        setup::new_vcpu(kvm, vm, index)
    }

    /// Makes what must be there after the vCPUs.
    pub(super) fn after_vcpus(
        _vm: &VmFd,
        _host: &KvmHost,
        _vcpus: u8,
    ) -> Result<Self, MiniVmError> {
        Ok(Self)
    }

    /// Sets what must be set before the machine has memory.
    pub(super) fn before_memory(
        &self,
        host: &KvmHost,
        vm: &VmFd,
        vcpus: &[VcpuFd],
        state: &MachineState,
    ) -> Result<(), MiniVmError> {
        KvmMachine::new(host, vm, vcpus)
            .restore_wall_clock(state)
            .map_err(adapter("restore the wall clock"))
    }

    /// The machine of these descriptors.
    pub(super) fn machine<'a>(
        &'a self,
        host: &'a KvmHost,
        vm: &'a VmFd,
        vcpus: impl IntoIterator<Item = &'a VcpuFd>,
    ) -> KvmMachine<'a> {
        KvmMachine::new(host, vm, vcpus)
    }

    /// Gives the vCPUs of a machine that boots their first registers.
    pub(super) fn set_start<'a>(
        &self,
        vcpus: impl IntoIterator<Item = &'a VcpuFd>,
        start: Start,
    ) -> Result<(), MiniVmError> {
        vcpus
            .into_iter()
            .take(1)
            .try_for_each(|fd| setup::set_start(fd, start))
    }

    /// The registers of all vCPUs for the end's digest.
    pub(super) fn registers<'a>(
        &self,
        _host: &KvmHost,
        _vm: &VmFd,
        vcpus: impl IntoIterator<Item = &'a VcpuFd>,
    ) -> Result<Vec<u8>, MiniVmError> {
        let mut registers = Vec::new();
        for (index, fd) in (0u8..).zip(vcpus) {
            regs::encode(fd, index, &mut registers)?;
        }
        Ok(registers)
    }
}

/// Whether a vCPU in this state has halted, or was never started.
pub(super) const fn is_resting(mp_state: u32) -> bool {
    matches!(
        mp_state,
        KVM_MP_STATE_HALTED | KVM_MP_STATE_INIT_RECEIVED | KVM_MP_STATE_UNINITIALIZED
    )
}

/// The port at an address: ports have instructions of their own.
pub(super) const fn port_at(_addr: u64) -> Option<u16> {
    None
}
