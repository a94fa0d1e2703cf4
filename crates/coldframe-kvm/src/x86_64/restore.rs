//! Writing a machine, in the order of the restore plan.

use std::io;

use coldframe_hv::x86_64::msr::{MsrStep, is_hyper_v, restored_in};
use coldframe_hv::x86_64::xsave_in_use;
use coldframe_hv::{Accepted, GuestTime, ItemKind, MachineState, Op, VcpuState, VmState};
use kvm_bindings::{CpuId, kvm_cpuid_entry2};
use kvm_ioctls::VcpuFd;

use super::item::{self, Row};
use super::wide::{self, XsaveBuffer};
use super::{KvmMachine, clocks, cpuid, listed, msr, save};
use crate::error::{KvmError, Place};
use crate::plan::x86_64::{Chip, Counters, RESTORE, RestoreVcpu};

/// Writes the whole state.
pub(super) fn restore(machine: &KvmMachine<'_>, accepted: &Accepted) -> Result<(), KvmError> {
    let state = accepted.state();
    check(machine, state)?;
    let checked = accepted.check(machine.host.identity());
    checked.map_err(|source| KvmError::Accept { source })?;
    for step in RESTORE.steps() {
        match step.op {
            Op::Vmm(_) => {}
            Op::Vm(chip) => restore_chip(machine, chip, &state.vm)?,
            Op::Vcpu(op) => {
                for ((_, vcpu), state) in machine.numbered().zip(&state.vcpus) {
                    restore_vcpu(machine, vcpu, op, state, accepted)?;
                }
            }
            Op::AllVcpus(Counters::Tsc) => clocks::write_counters(machine, state, accepted)?,
        }
    }
    Ok(())
}

/// Before anything is written: the shape of the state, its vCPUs, and what no vCPU can lack.
fn check(machine: &KvmMachine<'_>, state: &MachineState) -> Result<(), KvmError> {
    crate::restore::check(state, machine.vcpus.len())?;
    for vcpu in &state.vcpus {
        for item in [
            ItemKind::REGS,
            ItemKind::SREGS,
            ItemKind::XSAVE,
            ItemKind::VCPU_EVENTS,
        ] {
            if !vcpu.items.contains_key(&item) {
                return Err(KvmError::FindItem {
                    item,
                    place: Place::Vcpu(vcpu.index),
                });
            }
        }
    }
    Ok(())
}

fn restore_chip(machine: &KvmMachine<'_>, chip: Chip, state: &VmState) -> Result<(), KvmError> {
    if chip == Chip::Clock {
        return restore_clock(machine, state);
    }
    let row = save::row_of(chip);
    match state.items.get(&row.kind) {
        Some(bytes) => row.set(machine.vm, Place::Vm, bytes),
        None => Ok(()),
    }
}

/// Flags 0: the clock goes on from the value given, which is nanoseconds; the time in between is
/// what the VMM says, not what the hosts' clocks (`KVM_CLOCK_REALTIME`) differ by, and the TSC
/// advances by as much (api.rst, `KVM_SET_CLOCK`).
fn restore_clock(machine: &KvmMachine<'_>, state: &VmState) -> Result<(), KvmError> {
    // struct kvm_clock_data: clock u64, flags u32, and what only flags give a meaning to.
    const AFTER_CLOCK: usize = 8;
    let Some(saved) = state.items.get(&ItemKind::CLOCK) else {
        return Ok(());
    };
    let mut bytes = saved.clone();
    bytes
        .iter_mut()
        .skip(AFTER_CLOCK)
        .for_each(|byte| *byte = 0);
    if let (GuestTime::Advance { nanos }, Some(clock)) =
        (machine.time, bytes.first_chunk_mut::<AFTER_CLOCK>())
    {
        let passed = u64::from_le_bytes(*clock).saturating_add(nanos);
        *clock = passed.to_le_bytes();
    }
    item::CLOCK.set(machine.vm, Place::Vm, &bytes)
}

fn restore_vcpu(
    machine: &KvmMachine<'_>,
    vcpu: &VcpuFd,
    op: RestoreVcpu,
    state: &VcpuState,
    accepted: &Accepted,
) -> Result<(), KvmError> {
    match op {
        RestoreVcpu::TscKhz => clocks::write_rate(vcpu, state, accepted),
        RestoreVcpu::Cpuid => restore_cpuid(vcpu, state),
        RestoreVcpu::FeatureMsrs => {
            msr::set_machine_checks(vcpu, state)?;
            restore_msrs(machine, vcpu, MsrStep::Features, state, accepted)
        }
        RestoreVcpu::Msrs => restore_msrs(machine, vcpu, MsrStep::Msrs, state, accepted),
        RestoreVcpu::MpState => restore_row(vcpu, item::MP_STATE, state),
        RestoreVcpu::Regs => restore_row(vcpu, item::REGS, state),
        RestoreVcpu::Sregs => {
            let newer = state.items.contains_key(&ItemKind::SREGS2) && save::has_sregs2(machine);
            let row = if newer { item::SREGS2 } else { item::SREGS };
            restore_row(vcpu, row, state)
        }
        RestoreVcpu::NestedState => restore_nested(vcpu, state),
        RestoreVcpu::Xsave => restore_xsave(machine, vcpu, state),
        RestoreVcpu::Xcrs => restore_row(vcpu, item::XCRS, state),
        RestoreVcpu::DebugRegs => restore_row(vcpu, item::DEBUGREGS, state),
        RestoreVcpu::Lapic => restore_row(vcpu, item::LAPIC, state),
        RestoreVcpu::ListedRegs => listed::restore(vcpu, state, accepted),
        RestoreVcpu::CheckMsrs => msr::check(vcpu, state, accepted),
        RestoreVcpu::TscDeadline => clocks::write_deadline(vcpu, state, accepted),
        RestoreVcpu::VcpuEvents => restore_row(vcpu, item::EVENTS, state),
        RestoreVcpu::KvmclockCtrl => kvmclock_ctrl(vcpu, state),
    }
}

fn restore_row(vcpu: &VcpuFd, row: Row, state: &VcpuState) -> Result<(), KvmError> {
    match state.items.get(&row.kind) {
        Some(bytes) => row.set(vcpu, Place::Vcpu(state.index), bytes),
        None => Ok(()),
    }
}

/// The registers that this step of the plan writes.
fn restore_msrs(
    machine: &KvmMachine<'_>,
    vcpu: &VcpuFd,
    step: MsrStep,
    state: &VcpuState,
    accepted: &Accepted,
) -> Result<(), KvmError> {
    let features = machine.host.feature_msrs();
    let has_hyper_v = cpuid::has_hyper_v(state);
    let is_written = |register: u32| {
        restored_in(register, features) == step && (has_hyper_v || !is_hyper_v(register))
    };
    let values = state.msrs.iter().filter(|row| is_written(*row.0));
    let values: Vec<_> = values
        .map(|(register, value)| (*register, *value))
        .collect();
    msr::write(vcpu, state.index, &values, Some(accepted))
}

/// See [`KvmMachine::restore_wall_clock`]: the registers are the machine's, so one vCPU will do.
pub(super) fn wall_clock(machine: &KvmMachine<'_>, state: &MachineState) -> Result<(), KvmError> {
    let (Some((index, vcpu)), Some(saved)) = (machine.numbered().next(), state.vcpus.first())
    else {
        return Ok(());
    };
    let features = machine.host.feature_msrs();
    let values = saved
        .msrs
        .iter()
        .map(|(register, value)| (*register, *value));
    let is_clock = |row: &(u32, u64)| restored_in(row.0, features) == MsrStep::WallClock;
    let values: Vec<_> = values.filter(is_clock).collect();
    msr::write(vcpu, index, &values, None)
}

fn set_error(item: ItemKind, state: &VcpuState) -> impl FnOnce(io::Error) -> KvmError {
    let place = Place::Vcpu(state.index);
    move |source| KvmError::SetItem {
        item,
        place,
        source,
    }
}

/// `KVM_SET_CPUID2` (api.rst, section of that name). A vCPU that was never given one keeps none.
fn restore_cpuid(vcpu: &VcpuFd, state: &VcpuState) -> Result<(), KvmError> {
    const ENTRY_BYTES: usize = size_of::<kvm_cpuid_entry2>();
    let item = ItemKind::CPUID2;
    let bytes = state
        .items
        .get(&item)
        .map(Vec::as_slice)
        .unwrap_or_default();
    if bytes.is_empty() {
        return Ok(());
    }
    let wrong_length = || KvmError::MatchItem {
        item,
        place: Place::Vcpu(state.index),
        found: bytes.len(),
        expected: bytes.len().next_multiple_of(ENTRY_BYTES),
    };
    let (rows, rest) = bytes.as_chunks::<ENTRY_BYTES>();
    if !rest.is_empty() {
        return Err(wrong_length());
    }
    let entries: Vec<_> = rows.iter().map(cpuid_entry).collect();
    let cpuid = CpuId::from_entries(&entries).map_err(|_| wrong_length())?;
    vcpu.set_cpuid2(&cpuid)
        .map_err(|error| set_error(item, state)(io::Error::from_raw_os_error(error.errno())))
}

fn cpuid_entry(row: &[u8; size_of::<kvm_cpuid_entry2>()]) -> kvm_cpuid_entry2 {
    let (words, _) = row.as_chunks::<4>();
    let word = |position: usize| {
        words
            .get(position)
            .map_or(0, |word| u32::from_le_bytes(*word))
    };
    kvm_cpuid_entry2 {
        function: word(0),
        index: word(1),
        flags: word(2),
        eax: word(3),
        ebx: word(4),
        ecx: word(5),
        edx: word(6),
        ..Default::default()
    }
}

/// A host whose area is larger reads zeros behind the saved bytes: components that were not there
/// are in their initial state, as their bit in the header says. A smaller one cannot hold it.
fn restore_xsave(
    machine: &KvmMachine<'_>,
    vcpu: &VcpuFd,
    state: &VcpuState,
) -> Result<(), KvmError> {
    let item = ItemKind::XSAVE;
    let mut buffer = XsaveBuffer::new(machine.vm);
    let saved = state
        .items
        .get(&item)
        .map(|bytes| xsave_in_use(bytes))
        .unwrap_or_default();
    let expected = buffer.bytes_mut().len();
    let Some(target) = buffer.bytes_mut().get_mut(..saved.len()) else {
        return Err(KvmError::MatchItem {
            item,
            place: Place::Vcpu(state.index),
            found: saved.len(),
            expected,
        });
    };
    target.copy_from_slice(saved);
    wide::write_xsave(vcpu, item::XSAVE_SET, &buffer).map_err(set_error(item, state))
}

fn restore_nested(vcpu: &VcpuFd, state: &VcpuState) -> Result<(), KvmError> {
    let item = ItemKind::NESTED_STATE;
    match state.items.get(&item) {
        Some(bytes) => wide::write_nested(vcpu, bytes).map_err(set_error(item, state)),
        None => Ok(()),
    }
}

/// `KVM_KVMCLOCK_CTRL` (api.rst, section of that name): EINVAL where the guest has no such clock.
fn kvmclock_ctrl(vcpu: &VcpuFd, state: &VcpuState) -> Result<(), KvmError> {
    match vcpu.kvmclock_ctrl() {
        Ok(()) => Ok(()),
        Err(error) if error.errno() == libc::EINVAL => Ok(()),
        Err(error) => Err(KvmError::KvmclockCtrl {
            vcpu: state.index,
            source: io::Error::from_raw_os_error(error.errno()),
        }),
    }
}
