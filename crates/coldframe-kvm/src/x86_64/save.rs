//! Reading a machine, in the order of the save plan.

use std::io;

use coldframe_hv::x86_64::xsave_in_use;
use coldframe_hv::{Hypervisor, ItemKind, MachineState, Op, VcpuState, VmState};
use coldframe_units::Arch;
use kvm_bindings as kvm;
use kvm_ioctls::{Cap, VcpuFd};

use super::item::{self, Row};
use super::wide::{self, XsaveBuffer};
use super::{KvmMachine, clocks, listed, msr, refuse};
use crate::error::{KvmError, Place};
use crate::plan::x86_64::{Chip, Counters, SAVE, SaveVcpu};

/// Reads the whole state.
pub(super) fn save(machine: &KvmMachine<'_>) -> Result<MachineState, KvmError> {
    refuse::check(machine)?;
    let empty = |(index, _): (u32, &VcpuFd)| VcpuState {
        index,
        ..VcpuState::default()
    };
    let mut state = MachineState {
        arch: Arch::X86_64,
        hypervisor: Hypervisor::KVM,
        host: machine.host.identity().clone(),
        vm: VmState::default(),
        vcpus: machine.numbered().map(empty).collect(),
    };
    for step in SAVE.steps() {
        match step.op {
            Op::Vmm(_) => {}
            Op::Vm(chip) => save_chip(machine, chip, &mut state.vm)?,
            Op::Vcpu(op) => {
                for ((_, vcpu), state) in machine.numbered().zip(&mut state.vcpus) {
                    save_vcpu(machine, vcpu, op, state)?;
                }
            }
            Op::AllVcpus(Counters::Tsc) => {
                for ((_, vcpu), state) in machine.numbered().zip(&mut state.vcpus) {
                    let offset = clocks::read_offset(vcpu, state.index)?;
                    insert(state, ItemKind::TSC_OFFSET, offset);
                }
            }
        }
    }
    state
        .check()
        .map_err(|source| KvmError::CheckState { source })?;
    Ok(state)
}

/// The structure of one part of the machine.
pub(super) const fn row_of(chip: Chip) -> Row {
    match chip {
        Chip::Pit => item::PIT2,
        Chip::Clock => item::CLOCK,
        Chip::PicMaster => item::PIC_MASTER,
        Chip::PicSlave => item::PIC_SLAVE,
        Chip::Ioapic => item::IOAPIC,
    }
}

fn save_chip(machine: &KvmMachine<'_>, chip: Chip, state: &mut VmState) -> Result<(), KvmError> {
    let row = row_of(chip);
    if let Some(bytes) = row.get(machine.vm, Place::Vm)? {
        state.items.insert(row.kind, bytes);
    }
    Ok(())
}

fn save_vcpu(
    machine: &KvmMachine<'_>,
    vcpu: &VcpuFd,
    op: SaveVcpu,
    state: &mut VcpuState,
) -> Result<(), KvmError> {
    match op {
        SaveVcpu::MpState => save_row(vcpu, item::MP_STATE, state),
        SaveVcpu::Regs => save_row(vcpu, item::REGS, state),
        SaveVcpu::Sregs => {
            // Both, so that a host without the second form can restore the first.
            save_row(vcpu, item::SREGS, state)?;
            if has_sregs2(machine) {
                save_row(vcpu, item::SREGS2, state)?;
            }
            Ok(())
        }
        SaveVcpu::NestedState => save_nested(machine, vcpu, state),
        SaveVcpu::Xsave => save_xsave(machine, vcpu, state),
        SaveVcpu::Xcrs => save_row(vcpu, item::XCRS, state),
        SaveVcpu::DebugRegs => save_row(vcpu, item::DEBUGREGS, state),
        SaveVcpu::Lapic => save_row(vcpu, item::LAPIC, state),
        SaveVcpu::TscKhz => {
            insert(state, ItemKind::TSC_KHZ, clocks::read_rate(vcpu));
            Ok(())
        }
        SaveVcpu::Cpuid => save_cpuid(vcpu, state),
        SaveVcpu::Msrs => {
            state.msrs = msr::read_all(vcpu, state, machine.host)?;
            Ok(())
        }
        SaveVcpu::ListedRegs => listed::save(vcpu, state),
        SaveVcpu::VcpuEvents => save_row(vcpu, item::EVENTS, state),
    }
}

/// Whether this host has `KVM_GET_SREGS2`.
pub(super) fn has_sregs2(machine: &KvmMachine<'_>) -> bool {
    machine.vm.check_extension_raw(kvm::KVM_CAP_SREGS2.into()) > 0
}

fn insert(state: &mut VcpuState, item: ItemKind, bytes: Option<Vec<u8>>) {
    if let Some(bytes) = bytes {
        state.items.insert(item, bytes);
    }
}

fn save_row(vcpu: &VcpuFd, row: Row, state: &mut VcpuState) -> Result<(), KvmError> {
    let bytes = row.get(vcpu, Place::Vcpu(state.index))?;
    insert(state, row.kind, bytes);
    Ok(())
}

fn get_error(item: ItemKind, state: &VcpuState) -> impl FnOnce(io::Error) -> KvmError {
    let place = Place::Vcpu(state.index);
    move |source| KvmError::GetItem {
        item,
        place,
        source,
    }
}

fn save_xsave(
    machine: &KvmMachine<'_>,
    vcpu: &VcpuFd,
    state: &mut VcpuState,
) -> Result<(), KvmError> {
    let mut buffer = XsaveBuffer::new(machine.vm);
    let longer = machine.vm.check_extension_raw(kvm::KVM_CAP_XSAVE2.into()) > 0;
    let request = if longer {
        item::XSAVE2_GET
    } else {
        item::XSAVE_GET
    };
    wide::read_xsave(vcpu, request, &mut buffer).map_err(get_error(ItemKind::XSAVE, state))?;
    let mut bytes = buffer.into_bytes();
    bytes.truncate(xsave_in_use(&bytes).len());
    insert(state, ItemKind::XSAVE, Some(bytes));
    Ok(())
}

fn save_nested(
    machine: &KvmMachine<'_>,
    vcpu: &VcpuFd,
    state: &mut VcpuState,
) -> Result<(), KvmError> {
    // The capability's answer is the largest size there is.
    let most = usize::try_from(machine.vm.check_extension_int(Cap::NestedState)).unwrap_or(0);
    if most == 0 {
        return Ok(());
    }
    let mut bytes = vec![0; most.max(wide::NESTED_HEADER_BYTES)];
    let item = ItemKind::NESTED_STATE;
    wide::read_nested(vcpu, &mut bytes).map_err(get_error(item, state))?;
    let size = u32::from_le_bytes(clocks::fixed(item, Place::Vcpu(state.index), &bytes[4..8])?);
    bytes.truncate(
        usize::try_from(size)
            .unwrap_or(usize::MAX)
            .max(wide::NESTED_HEADER_BYTES),
    );
    insert(state, item, Some(bytes));
    Ok(())
}

/// The entries of `KVM_GET_CPUID2` one after the other (api.rst, section of that name).
fn save_cpuid(vcpu: &VcpuFd, state: &mut VcpuState) -> Result<(), KvmError> {
    let entries = vcpu
        .get_cpuid2(kvm::KVM_MAX_CPUID_ENTRIES)
        .map_err(|error| {
            let source = io::Error::from_raw_os_error(error.errno());
            get_error(ItemKind::CPUID2, state)(source)
        })?;
    let words = entries.as_slice().iter().flat_map(|e| {
        [
            e.function, e.index, e.flags, e.eax, e.ebx, e.ecx, e.edx, 0, 0, 0,
        ]
    });
    let bytes = words.flat_map(u32::to_le_bytes).collect();
    insert(state, ItemKind::CPUID2, Some(bytes));
    Ok(())
}
