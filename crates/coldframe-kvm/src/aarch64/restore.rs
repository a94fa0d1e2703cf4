//! Writing a machine, in the order of the restore plan.

use std::io;

use coldframe_hv::aarch64::{GicModel, PowerState, RegStep, check as check_aarch64};
use coldframe_hv::{Accepted, ItemKind, MachineState, Op, VcpuState};
use kvm_bindings::kvm_mp_state;
use kvm_ioctls::VcpuFd;

use super::save::PVTIME;
use super::{KvmMachine, counters, events, gic, init, regs};
use crate::error::{KvmError, Place};
use crate::plan::aarch64::{RESTORE, RestoreVcpu, RestoreVm};
use crate::sys;

/// Writes the whole state.
pub(super) fn restore(machine: &KvmMachine<'_>, accepted: &Accepted) -> Result<(), KvmError> {
    let state = accepted.state();
    check(machine, state)?;
    let checked = accepted.check(machine.host.identity());
    checked.map_err(|source| KvmError::Accept { source })?;
    for step in RESTORE.steps() {
        match step.op {
            Op::Vmm(_) => {}
            Op::Vm(op) => restore_vm(machine, op, state)?,
            Op::Vcpu(op) => {
                for ((_, vcpu), one) in machine.numbered().zip(&state.vcpus) {
                    restore_vcpu(machine, vcpu, op, (state, one), accepted)?;
                }
            }
            Op::AllVcpus(none) => match none {},
        }
    }
    Ok(())
}

/// Before anything is written: the shape of the state, its vCPUs, and its interrupt controller.
fn check(machine: &KvmMachine<'_>, state: &MachineState) -> Result<(), KvmError> {
    crate::restore::check(state, machine.vcpus.len())?;
    check_aarch64(state).map_err(|source| KvmError::CheckAarch64 { source })?;
    let (saved, here) = (GicModel::of(&state.vm), machine.gic.model());
    if saved != Some(here) {
        return Err(KvmError::MatchGic { saved, here });
    }
    state
        .vcpus
        .iter()
        .try_for_each(|vcpu| init::of(vcpu).map(drop))
}

fn restore_vm(
    machine: &KvmMachine<'_>,
    op: RestoreVm,
    state: &MachineState,
) -> Result<(), KvmError> {
    let gic = &machine.gic;
    let item = |item: ItemKind| state.vm.items.get(&item);
    match op {
        RestoreVm::CounterOffset => counters::restore(machine, state),
        RestoreVm::GicDistributor => {
            if let Some(rows) = item(ItemKind::GIC_DISTRIBUTOR) {
                gic.restore_distributor(rows)?;
            }
            item(ItemKind::GIC_LINES).map_or(Ok(()), |rows| gic.restore_lines(rows, None))
        }
        RestoreVm::ItsRegs | RestoreVm::ItsControl => {
            let restore = |rows: &Vec<u8>| gic.restore_its(op == RestoreVm::ItsControl, rows);
            item(ItemKind::GIC_ITS).map_or(Ok(()), restore)
        }
        RestoreVm::ItsTables => gic.restore_its_tables(),
    }
}

fn restore_vcpu(
    machine: &KvmMachine<'_>,
    vcpu: &VcpuFd,
    op: RestoreVcpu,
    (machine_state, state): (&MachineState, &VcpuState),
    accepted: &Accepted,
) -> Result<(), KvmError> {
    let item = |item: ItemKind| state.items.get(&item);
    match op {
        RestoreVcpu::VcpuInit => init::restore(vcpu, state),
        RestoreVcpu::VcpuFinalize => {
            init::finalize(vcpu, state)?;
            regs::check_known(vcpu, state, accepted)
        }
        RestoreVcpu::SveLengths => regs::restore(vcpu, RegStep::SveLengths, state, accepted),
        RestoreVcpu::CoreRegs => regs::restore(vcpu, RegStep::Core, state, accepted),
        RestoreVcpu::SystemRegs => regs::restore(vcpu, RegStep::System, state, accepted),
        RestoreVcpu::TimerRegs => {
            let adapted = counters::adapt_timers(machine, machine_state, state)?;
            regs::restore(vcpu, RegStep::Timers, &adapted, accepted)
        }
        RestoreVcpu::MpState => restore_power(vcpu, state),
        RestoreVcpu::PvTime => restore_pvtime(vcpu, state),
        RestoreVcpu::VcpuEvents => events::restore(vcpu, state),
        RestoreVcpu::GicRedistributors => {
            if let Some(rows) = item(ItemKind::GIC_REDISTRIBUTOR) {
                machine.gic.restore_redistributor(state.index, rows)?;
            }
            let affinity = gic::affinity(machine, state.index)?;
            let lines = machine_state.vm.items.get(&ItemKind::GIC_LINES);
            lines.map_or(Ok(()), |rows| {
                machine.gic.restore_lines(rows, Some(affinity))
            })
        }
        RestoreVcpu::GicCpuInterface => item(ItemKind::GIC_CPU_INTERFACE).map_or(Ok(()), |rows| {
            machine.gic.restore_interface(state.index, rows)
        }),
    }
}

fn restore_power(vcpu: &VcpuFd, state: &VcpuState) -> Result<(), KvmError> {
    let (item, place) = (ItemKind::MP_STATE, Place::Vcpu(state.index));
    let power = PowerState::of(state).ok_or(KvmError::FindItem { item, place })?;
    let mp_state = kvm_mp_state {
        mp_state: power.code(),
    };
    vcpu.set_mp_state(mp_state)
        .map_err(|error| KvmError::SetItem {
            item,
            place,
            source: io::Error::from_raw_os_error(error.errno()),
        })
}

fn restore_pvtime(vcpu: &VcpuFd, state: &VcpuState) -> Result<(), KvmError> {
    let (item, place) = (ItemKind::PVTIME, Place::Vcpu(state.index));
    let Some(bytes) = state.items.get(&item) else {
        return Ok(());
    };
    let address = bytes.as_slice().try_into().map(u64::from_le_bytes);
    let address = address.map_err(|_| KvmError::MatchItem {
        item,
        place,
        found: bytes.len(),
        expected: size_of::<u64>(),
    })?;
    let Err(source) = sys::set_attribute(vcpu, PVTIME, address) else {
        return Ok(());
    };
    // The kernel takes the address once: a VMM may have set the same one when it made the vCPU.
    let is_set = source.raw_os_error() == Some(libc::EEXIST)
        && sys::get_attribute(vcpu, PVTIME).is_ok_and(|here| here == address);
    if is_set {
        return Ok(());
    }
    Err(KvmError::SetItem {
        item,
        place,
        source,
    })
}
