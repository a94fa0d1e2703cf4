//! What is of aarch64: GICv3 and translation service, first registers, the end's digest.
//!
//! Invariant: ports, controller and service lie in the GiB that RAM leaves to devices.

mod gic;

use coldframe_hv::Machine;
use coldframe_hv::MachineState;
use coldframe_hv::aarch64::{RegClass, RegId, SysReg};
use coldframe_kvm::{KvmGic, KvmHost, KvmMachine};
use kvm_bindings::{KVM_ARM_VCPU_POWER_OFF, KVM_ARM_VCPU_SVE, KVM_MP_STATE_STOPPED, kvm_vcpu_init};
use kvm_ioctls::{DeviceFd, Kvm, VcpuFd, VmFd};

use crate::boot;
use crate::config::{Entry, Shape};
use crate::error::MiniVmError;
use crate::kvm::failed::vcpu_error;
use crate::kvm::tracked::adapter;
use crate::load::{LoadError, Start};

/// Where the ports are: as many addresses as there are ports.
const PORTS: u64 = 0xc000_0000;

/// Left out of the digest: QEMU emulates it by doing nothing, so that what KVM reads there is what
/// a register of the host's kernel happened to hold. No guest of ours uses it.
const MDCCINT_EL1: RegId = RegId::from_system(SysReg::new(2, 0, 0, 2, 0));

/// What the machine has besides vCPUs.
pub(super) struct Chips {
    init: kvm_vcpu_init,
    gic: DeviceFd,
    its: DeviceFd,
}

impl Chips {
    /// Makes what must be there before the vCPUs: nothing.
    pub(super) const fn before_vcpus(_vm: &VmFd, _shape: Shape) -> Result<(), MiniVmError> {
        Ok(())
    }

    /// Makes vCPU `index`, with all that the host offers. All but the first are switched off, and
    /// none is finalised: a restore does that.
    pub(super) fn new_vcpu(
        _kvm: &Kvm,
        vm: &VmFd,
        host: &KvmHost,
        index: u8,
    ) -> Result<VcpuFd, MiniVmError> {
        let fd = vm
            .create_vcpu(u64::from(index))
            .map_err(|e| vcpu_error("KVM_CREATE_VCPU", index, e))?;
        let mut init = host.vcpu_init();
        if index > 0 {
            init.features[0] |= 1 << KVM_ARM_VCPU_POWER_OFF;
        }
        fd.vcpu_init(&init)
            .map_err(|e| vcpu_error("KVM_ARM_VCPU_INIT", index, e))?;
        Ok(fd)
    }

    /// Makes what must be there after the vCPUs.
    pub(super) fn after_vcpus(vm: &VmFd, host: &KvmHost, vcpus: u8) -> Result<Self, MiniVmError> {
        Ok(Self {
            init: host.vcpu_init(),
            gic: gic::new(vm, vcpus)?,
            its: gic::new_its(vm)?,
        })
    }

    /// Nothing has to be set before the machine has memory.
    pub(super) fn before_memory(
        &self,
        _host: &KvmHost,
        _vm: &VmFd,
        _vcpus: &[VcpuFd],
        _state: &MachineState,
    ) -> Result<(), MiniVmError> {
        Ok(())
    }

    /// The machine of these descriptors.
    pub(super) fn machine<'a>(
        &'a self,
        host: &'a KvmHost,
        vm: &'a VmFd,
        vcpus: impl IntoIterator<Item = &'a VcpuFd>,
    ) -> KvmMachine<'a> {
        let gic = KvmGic::V3 {
            gic: &self.gic,
            its: vec![&self.its],
        };
        KvmMachine::new(host, vm, vcpus, self.init, gic)
    }

    /// Finalises the vCPUs of a machine that boots, and gives the first its first registers; the
    /// others begin where it says when it switches them on.
    pub(super) fn set_start<'a>(
        &self,
        vcpus: impl IntoIterator<Item = &'a VcpuFd>,
        start: Start,
    ) -> Result<(), MiniVmError> {
        /// AArch64 at EL1 with its own stack pointer, all interrupts masked.
        const PSTATE: u64 = 0x3c5;
        if start.entry != Entry::El1 {
            return Err(MiniVmError::Load(LoadError::NoSuchEntry));
        }
        for (index, fd) in (0u8..).zip(vcpus) {
            if self.init.features[0] & 1 << KVM_ARM_VCPU_SVE != 0 {
                let feature = i32::try_from(KVM_ARM_VCPU_SVE).unwrap_or(0);
                fd.vcpu_finalize(&feature)
                    .map_err(|e| vcpu_error("KVM_ARM_VCPU_FINALIZE", index, e))?;
            }
            let first = [
                (RegId::PC, start.addr),
                (RegId::PSTATE, PSTATE),
                (RegId::SP_EL1, boot::STACK),
            ];
            for (register, value) in first.iter().filter(|_| index == 0) {
                fd.set_one_reg(register.to_kvm(), &value.to_le_bytes())
                    .map_err(|e| vcpu_error("KVM_SET_ONE_REG", index, e))?;
            }
        }
        Ok(())
    }

    /// The registers of all vCPUs for the end's digest: all that the kernel has, but those that a
    /// clock moves.
    pub(super) fn registers<'a>(
        &'a self,
        host: &'a KvmHost,
        vm: &'a VmFd,
        vcpus: impl IntoIterator<Item = &'a VcpuFd>,
    ) -> Result<Vec<u8>, MiniVmError> {
        let state = self.machine(host, vm, vcpus).save();
        let state = state.map_err(adapter("read the machine's registers"))?;
        let mut out = Vec::new();
        for vcpu in &state.vcpus {
            for (code, value) in &vcpu.regs {
                let register = RegId::from_code(*code);
                if register.class() != RegClass::Timer && register != MDCCINT_EL1 {
                    out.extend(code.to_le_bytes());
                    out.extend(value);
                }
            }
        }
        Ok(out)
    }
}

/// Whether a vCPU in this state has switched itself off, or was never switched on.
pub(super) const fn is_resting(mp_state: u32) -> bool {
    mp_state == KVM_MP_STATE_STOPPED
}

/// The port at an address.
pub(super) fn port_at(addr: u64) -> Option<u16> {
    u16::try_from(addr.checked_sub(PORTS)?).ok()
}
