//! The guest's counters: saved once for the machine, restored by one offset for all its vCPUs.
//!
//! Invariant: after a restore neither counter shows less than the guest could read before. Where
//! the kernel can (`KVM_CAP_COUNTER_OFFSET`, Linux 6.4) the physical counter goes on too; where it
//! cannot, the physical timer's compare value moves with the host's counter instead.
//!
//! Source: Linux Documentation/virt/kvm/api.rst, KVM_ARM_SET_COUNTER_OFFSET; arch/arm64/kvm/
//! arch_timer.c, kvm_arm_timer_set_reg: since 6.4 a write on one vCPU moves the whole machine's
//! counter, before it did so as well for the virtual one.

use coldframe_hv::aarch64::{Counters, RegId, SysReg};
use coldframe_hv::{ItemKind, MachineState, VcpuState, VmState};
use kvm_bindings::KVM_CAP_COUNTER_OFFSET;
use kvm_ioctls::VcpuFd;

use super::{KvmMachine, regs};
use crate::error::{KvmError, Place};
use crate::sys::{self, Request};

const VIRTUAL: RegId = RegId::from_system(SysReg::CNTVCT_EL0);
const PHYSICAL: RegId = RegId::from_system(SysReg::CNTPCT_EL0);
const PHYSICAL_COMPARE: RegId = RegId::from_system(SysReg::CNTP_CVAL_EL0);

/// `KVM_ARM_SET_COUNTER_OFFSET`, `struct kvm_arm_counter_offset`.
const SET_OFFSET: Request = Request::write(0xb5, 16);

/// Reads both counters of the first vCPU: they are the machine's.
pub(super) fn save(machine: &KvmMachine<'_>, state: &mut VmState) -> Result<(), KvmError> {
    let Some(vcpu) = machine.vcpus.first() else {
        return Ok(());
    };
    // The virtual one first: two counters with one offset then never seem to be apart backwards.
    let guest = regs::get_u64(vcpu, 0, VIRTUAL)?;
    let physical = physical(machine, vcpu)?;
    let hz = hz(machine);
    Counters {
        guest,
        physical,
        hz,
    }
    .store(state);
    Ok(())
}

fn hz(machine: &KvmMachine<'_>) -> u64 {
    machine.host.identity().counter_hz.unwrap_or(0)
}

/// The counters of a state at the rate that its guest knows: what passes for it is counted so,
/// also where another rate of this host was waived.
fn saved_counters(machine: &KvmMachine<'_>, state: &MachineState) -> Option<Counters> {
    let rate = state.host.counter_hz.filter(|rate| *rate > 0);
    Counters::of(&state.vm, rate.unwrap_or_else(|| hz(machine)))
}

fn has_offset(machine: &KvmMachine<'_>) -> bool {
    machine
        .vm
        .check_extension_raw(KVM_CAP_COUNTER_OFFSET.into())
        > 0
}

/// The physical counter as the guest reads it: without offsets it is the host's, and no register.
fn physical(machine: &KvmMachine<'_>, vcpu: &VcpuFd) -> Result<u64, KvmError> {
    if has_offset(machine) {
        regs::get_u64(vcpu, 0, PHYSICAL)
    } else {
        Ok(sys::host_counter())
    }
}

/// Whether the counters differ by no more than it takes to read one after the other.
const fn has_one_offset(counters: &Counters) -> bool {
    const READ_TIME_PER_SEC: u64 = 100;
    counters.physical.wrapping_sub(counters.guest) <= counters.hz / READ_TIME_PER_SEC
}

/// Lets the counters go on.
pub(super) fn restore(machine: &KvmMachine<'_>, state: &MachineState) -> Result<(), KvmError> {
    let (Some(saved), Some(vcpu)) = (saved_counters(machine, state), machine.vcpus.first()) else {
        return Ok(());
    };
    if has_offset(machine) && has_one_offset(&saved) {
        // In a machine that has just been made the physical counter is the host's.
        let host = physical(machine, vcpu)?;
        let mut request = [0; SET_OFFSET.bytes()];
        request[..8].copy_from_slice(&saved.offset_at(host, machine.time).to_le_bytes());
        return sys::write(machine.vm, SET_OFFSET, &request).map_err(|source| KvmError::SetItem {
            item: ItemKind::GUEST_COUNTER,
            place: Place::Vm,
            source,
        });
    }
    let write = |register, from: u64| {
        let counters = Counters {
            guest: from,
            ..saved
        };
        let value = 0u64.wrapping_sub(counters.offset_at(0, machine.time));
        regs::set(vcpu, 0, register, &value.to_le_bytes())
    };
    write(VIRTUAL, saved.guest)?;
    if has_offset(machine) {
        write(PHYSICAL, saved.physical)?;
    }
    Ok(())
}

/// The timers' registers as they are to be written here: where the physical counter cannot go on,
/// its timer's compare value is as far ahead of the host's counter as it was of the saved one.
pub(super) fn adapt_timers(
    machine: &KvmMachine<'_>,
    machine_state: &MachineState,
    state: &VcpuState,
) -> Result<VcpuState, KvmError> {
    let mut adapted = state.clone();
    let counters = saved_counters(machine, machine_state);
    let compare = state.reg(PHYSICAL_COMPARE);
    if let (false, Some(saved), Some(compare), Some(vcpu)) = (
        has_offset(machine),
        counters,
        compare,
        machine.vcpus.first(),
    ) {
        let host = physical(machine, vcpu)?;
        let moved = saved.physical_compare_at(host, compare, machine.time);
        adapted.set_reg(PHYSICAL_COMPARE, moved);
    }
    Ok(adapted)
}
