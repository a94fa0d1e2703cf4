//! Reading a machine, in the order of the save plan.

use std::io;

use coldframe_hv::{
    Hypervisor, ItemKind, MachineState, Op, Plan, Scope, Target, VcpuState, VmState,
};
use coldframe_units::Arch;
use kvm_bindings::{KVM_ARM_VCPU_PVTIME_CTRL, KVM_ARM_VCPU_PVTIME_IPA};
use kvm_ioctls::VcpuFd;

use super::{KvmMachine, counters, events, gic, init, regs};
use crate::error::{KvmError, Place};
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
        hypervisor: Hypervisor::Kvm,
        host: machine.host.identity().clone(),
        vm: VmState::default(),
        vcpus: machine.numbered().map(empty).collect(),
    };
    machine.gic.model().store(&mut state.vm);
    for step in Plan::save(Target::KvmAarch64).adapter_steps() {
        if step.op == Op::TimerRegs {
            counters::save(machine, &mut state.vm)?;
        }
        match step.scope {
            Scope::Vm => save_vm(machine, step.op, &mut state.vm)?,
            Scope::EachVcpu | Scope::AllVcpusTogether => {
                for ((_, vcpu), state) in machine.numbered().zip(&mut state.vcpus) {
                    save_vcpu(machine, vcpu, step.op, state)?;
                }
            }
        }
    }
    state
        .check()
        .map_err(|source| KvmError::CheckState { source })?;
    Ok(state)
}

/// A step that this adapter does not know.
pub(super) fn unknown(op: Op) -> KvmError {
    KvmError::FollowPlan {
        step: op.to_string(),
    }
}

fn save_vm(machine: &KvmMachine<'_>, op: Op, state: &mut VmState) -> Result<(), KvmError> {
    let gic = &machine.gic;
    match op {
        Op::GicPendingTables => gic.save_pending_tables(),
        Op::ItsTables => gic.save_its_tables(),
        Op::GicDistributor => {
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
        Op::ItsRegs | Op::ItsControl => {
            if let Some(rows) = gic.its(op == Op::ItsControl)? {
                let item = state.items.entry(ItemKind::GIC_ITS);
                item.or_default().extend(rows);
            }
            Ok(())
        }
        other => Err(unknown(other)),
    }
}

fn save_vcpu(
    machine: &KvmMachine<'_>,
    vcpu: &VcpuFd,
    op: Op,
    state: &mut VcpuState,
) -> Result<(), KvmError> {
    let index = state.index;
    match op {
        Op::MpState => save_power(vcpu, state),
        Op::VcpuInit => {
            let bytes = init::encode(&machine.init);
            state.items.insert(ItemKind::VCPU_INIT, bytes);
            Ok(())
        }
        Op::SveLengths | Op::CoreRegs | Op::SystemRegs | Op::TimerRegs => {
            regs::save(vcpu, op, state)
        }
        Op::PvTime => save_pvtime(vcpu, state),
        Op::VcpuEvents => events::save(machine, vcpu, state),
        Op::GicRedistributors => {
            let affinity = gic::affinity(machine, index)?;
            if let Some(rows) = machine.gic.redistributor(index, affinity)? {
                state.items.insert(ItemKind::GIC_REDISTRIBUTOR, rows);
            }
            Ok(())
        }
        Op::GicCpuInterface => {
            let affinity = gic::affinity(machine, index)?;
            let rows = machine.gic.interface(index, affinity)?;
            state.items.insert(ItemKind::GIC_CPU_INTERFACE, rows);
            Ok(())
        }
        other => Err(unknown(other)),
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
