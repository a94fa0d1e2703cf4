//! Reading a machine, in the order of the save plan.

use std::io;

use coldframe_hv::aarch64::RegStep;
use coldframe_hv::{Hypervisor, ItemKind, MachineState, Op, VcpuState, VmState};
use coldframe_units::Arch;
use kvm_bindings::{KVM_ARM_VCPU_PVTIME_CTRL, KVM_ARM_VCPU_PVTIME_IPA};
use kvm_ioctls::VcpuFd;

use super::{KvmMachine, counters, events, gic, init, regs};
use crate::error::{KvmError, Place};
use crate::plan::aarch64::{SAVE, SaveVcpu, SaveVm};
use crate::sys::{self, Attribute};

/// Where the stolen-time record of a vCPU lies (devices/vcpu.rst, `KVM_ARM_VCPU_PVTIME_CTRL`).
pub(super) const PVTIME: Attribute = Attribute {
    group: KVM_ARM_VCPU_PVTIME_CTRL,
    attr: KVM_ARM_VCPU_PVTIME_IPA as u64,
};
/// What it reads as if the VMM has set none.
const NO_PVTIME: u64 = u64::MAX;

/// Reads the whole state.
pub(super) fn save(machine: &KvmMachine<'_>) -> Result<MachineState, KvmError> {
    events::refuse_memory_tags(machine)?;
    let empty = |(index, _): (u32, &VcpuFd)| VcpuState {
        index,
        ..VcpuState::default()
    };
    let mut state = MachineState {
        arch: Arch::Aarch64,
        hypervisor: Hypervisor::KVM,
        host: machine.host.identity().clone(),
        vm: VmState::default(),
        vcpus: machine.numbered().map(empty).collect(),
    };
    machine.gic.model().store(&mut state.vm);
    for step in SAVE.steps() {
        match step.op {
            Op::Vmm(_) => {}
            Op::Vm(op) => save_vm(machine, op, &mut state.vm)?,
            Op::Vcpu(op) => {
                if op == SaveVcpu::TimerRegs {
                    counters::save(machine, &mut state.vm)?;
                }
                for ((_, vcpu), state) in machine.numbered().zip(&mut state.vcpus) {
                    save_vcpu(machine, vcpu, op, state)?;
                }
            }
            Op::AllVcpus(none) => match none {},
        }
    }
    state
        .check()
        .map_err(|source| KvmError::CheckState { source })?;
    Ok(state)
}

fn save_vm(machine: &KvmMachine<'_>, op: SaveVm, state: &mut VmState) -> Result<(), KvmError> {
    let gic = &machine.gic;
    match op {
        SaveVm::GicPendingTables => gic.save_pending_tables(),
        SaveVm::ItsTables => gic.save_its_tables(),
        SaveVm::GicDistributor => {
            let rows = gic.distributor(machine.vcpus.len())?;
            state.items.insert(ItemKind::GIC_DISTRIBUTOR, rows);
            let affinities = (0..).zip(&machine.vcpus);
            let affinities = affinities.map(|(index, _)| gic::affinity(machine, index));
            let affinities: Vec<_> = affinities.collect::<Result<_, _>>()?;
            if let Some(rows) = gic.lines(&affinities)? {
                state.items.insert(ItemKind::GIC_LINES, rows);
            }
            Ok(())
        }
        SaveVm::ItsRegs | SaveVm::ItsControl => {
            if let Some(rows) = gic.its(op == SaveVm::ItsControl)? {
                let item = state.items.entry(ItemKind::GIC_ITS);
                item.or_default().extend(rows);
            }
            Ok(())
        }
    }
}

fn save_vcpu(
    machine: &KvmMachine<'_>,
    vcpu: &VcpuFd,
    op: SaveVcpu,
    state: &mut VcpuState,
) -> Result<(), KvmError> {
    let index = state.index;
    match op {
        SaveVcpu::MpState => save_power(vcpu, state),
        SaveVcpu::VcpuInit => {
            let bytes = init::encode(&machine.init);
            state.items.insert(ItemKind::VCPU_INIT, bytes);
            Ok(())
        }
        SaveVcpu::SveLengths => regs::save(vcpu, RegStep::SveLengths, state),
        SaveVcpu::CoreRegs => regs::save(vcpu, RegStep::Core, state),
        SaveVcpu::SystemRegs => regs::save(vcpu, RegStep::System, state),
        SaveVcpu::TimerRegs => regs::save(vcpu, RegStep::Timers, state),
        SaveVcpu::PvTime => save_pvtime(vcpu, state),
        SaveVcpu::VcpuEvents => events::save(machine, vcpu, state),
        SaveVcpu::GicRedistributors => {
            let affinity = gic::affinity(machine, index)?;
            if let Some(rows) = machine.gic.redistributor(index, affinity)? {
                state.items.insert(ItemKind::GIC_REDISTRIBUTOR, rows);
            }
            Ok(())
        }
        SaveVcpu::GicCpuInterface => {
            let affinity = gic::affinity(machine, index)?;
            let rows = machine.gic.interface(index, affinity)?;
            state.items.insert(ItemKind::GIC_CPU_INTERFACE, rows);
            Ok(())
        }
    }
}

fn save_power(vcpu: &VcpuFd, state: &mut VcpuState) -> Result<(), KvmError> {
    let item = ItemKind::MP_STATE;
    let power = vcpu.get_mp_state().map_err(|error| KvmError::GetItem {
        item,
        place: Place::Vcpu(state.index),
        source: io::Error::from_raw_os_error(error.errno()),
    })?;
    let bytes = power.mp_state.to_le_bytes().to_vec();
    state.items.insert(item, bytes);
    Ok(())
}

fn save_pvtime(vcpu: &VcpuFd, state: &mut VcpuState) -> Result<(), KvmError> {
    let item = ItemKind::PVTIME;
    let place = Place::Vcpu(state.index);
    let failed = |source| KvmError::GetItem {
        item,
        place,
        source,
    };
    if !sys::has_attribute(vcpu, PVTIME).map_err(failed)? {
        return Ok(());
    }
    let address = sys::get_attribute(vcpu, PVTIME).map_err(failed)?;
    if address != NO_PVTIME {
        state.items.insert(item, address.to_le_bytes().to_vec());
    }
    Ok(())
}
