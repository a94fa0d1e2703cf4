//! The steps of a plan on one vCPU, on its own thread.
//!
//! Invariant: nothing that was saved is left out of a restore in silence: a register that the
//! framework does not know, or does not take, is an error unless it was waived by name.

use std::collections::BTreeSet;

use coldframe_hv::aarch64::{
    Counters, GicRow, GuestTime, Mpidr, PowerState, RegClass, RegId, RegStep, SysReg, decode_rows,
    encode_rows,
};
use coldframe_hv::{ItemKind, VcpuState};

use crate::calls::{CoreReg, Line, VcpuCalls};
use crate::error::{HvfError, Place};
use crate::plan::{RestoreVcpu, SaveVcpu};
use crate::regs;

const IRQ: u8 = 1;
const FIQ: u8 = 2;

/// Reads what one step saves. `power` is what the VMM says of the vCPU.
pub(crate) fn save(
    op: SaveVcpu,
    vcpu: &dyn VcpuCalls,
    power: PowerState,
    state: &mut VcpuState,
) -> Result<(), HvfError> {
    match op {
        SaveVcpu::CoreRegs => save_core(vcpu, state),
        SaveVcpu::SystemRegs => save_system(vcpu, state, |class| class != RegClass::Timer),
        SaveVcpu::TimerRegs => save_system(vcpu, state, |class| class == RegClass::Timer),
        SaveVcpu::GicCpuInterface => save_interface(vcpu, state),
        SaveVcpu::VtimerMask => {
            let mask = vcpu.vtimer_mask();
            let mask = mask.map_err(HvfError::call("hv_vcpu_get_vtimer_mask", at(state)))?;
            let bytes = vec![u8::from(mask)];
            state.items.insert(ItemKind::HVF_VTIMER_MASK, bytes);
            Ok(())
        }
        SaveVcpu::PendingLines => {
            let mut bits = 0;
            for (line, bit) in [(Line::Irq, IRQ), (Line::Fiq, FIQ)] {
                let pending = vcpu.pending(line);
                let call = "hv_vcpu_get_pending_interrupt";
                if pending.map_err(HvfError::call(call, at(state)))? {
                    bits |= bit;
                }
            }
            state.items.insert(ItemKind::HVF_PENDING_LINES, vec![bits]);
            Ok(())
        }
        SaveVcpu::MpState => {
            power.store(state);
            Ok(())
        }
    }
}

/// What a restore knows beside the state of a vCPU.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// What is taken from the host's counter to make the guest's.
    pub offset: u64,
    /// What the counters showed when they were saved.
    pub counters: Counters,
    /// What the host's counter shows now.
    pub host: u64,
    /// How the guest's time goes on.
    pub time: GuestTime,
    /// Codes of registers that may be left out.
    pub waived: BTreeSet<u64>,
}

/// Writes what one step restores.
pub(crate) fn restore(
    op: RestoreVcpu,
    vcpu: &dyn VcpuCalls,
    target: &Target,
    state: &VcpuState,
) -> Result<(), HvfError> {
    match op {
        RestoreVcpu::Mpidr => {
            let value = state.reg(RegId::MPIDR_EL1).unwrap_or_default();
            set_system(vcpu, state, SysReg::MPIDR_EL1, value, target)
        }
        RestoreVcpu::GicCpuInterface => restore_interface(vcpu, state),
        RestoreVcpu::SystemRegs => restore_class(vcpu, state, target, RegStep::System),
        RestoreVcpu::CoreRegs => restore_core(vcpu, state, target),
        RestoreVcpu::TimerRegs => restore_timers(vcpu, state, target),
        RestoreVcpu::VtimerMask => {
            let [mask] = fixed(state, ItemKind::HVF_VTIMER_MASK)?;
            let set = vcpu.set_vtimer_mask(mask != 0);
            set.map_err(HvfError::call("hv_vcpu_set_vtimer_mask", at(state)))
        }
        RestoreVcpu::PendingLines => {
            let [bits] = fixed(state, ItemKind::HVF_PENDING_LINES)?;
            for (line, bit) in [(Line::Irq, IRQ), (Line::Fiq, FIQ)] {
                let set = vcpu.set_pending(line, bits & bit != 0);
                let call = "hv_vcpu_set_pending_interrupt";
                set.map_err(HvfError::call(call, at(state)))?;
            }
            Ok(())
        }
        // Of the VMM: what the vCPU's seat keeps of it.
        RestoreVcpu::MpState => Ok(()),
    }
}

const fn at(state: &VcpuState) -> Place {
    Place::Vcpu(state.index)
}

fn fixed<const N: usize>(state: &VcpuState, item: ItemKind) -> Result<[u8; N], HvfError> {
    let bytes = state.items.get(&item).map_or(&[][..], Vec::as_slice);
    bytes.try_into().map_err(|_| HvfError::MatchItem {
        item,
        place: at(state),
        found: bytes.len(),
        expected: N,
    })
}

/// Registers of `hv_reg_t`, by their neutral name.
fn core_regs() -> impl Iterator<Item = (RegId, CoreReg)> {
    let general = (0..=30).filter_map(|n| Some((RegId::general(n)?, CoreReg::general(n)?)));
    general.chain([
        (RegId::PC, CoreReg::PC),
        (RegId::PSTATE, CoreReg::CPSR),
        (RegId::FPCR, CoreReg::FPCR),
        (RegId::FPSR, CoreReg::FPSR),
    ])
}

fn save_core(vcpu: &dyn VcpuCalls, state: &mut VcpuState) -> Result<(), HvfError> {
    refuse_sme(vcpu, state)?;
    for (id, register) in core_regs() {
        let value = vcpu.reg(register);
        let value = value.map_err(HvfError::call("hv_vcpu_get_reg", at(state)))?;
        state.set_reg(id, value);
    }
    for (number, id) in (0..32).filter_map(|n| Some((n, RegId::simd(n)?))) {
        let value = vcpu.simd(number);
        let value = value.map_err(HvfError::call("hv_vcpu_get_simd_fp_reg", at(state)))?;
        state.regs.insert(id.code(), value.to_vec());
    }
    Ok(())
}

/// SME has registers that are not among those saved here, live whenever the guest likes: a guest
/// that was offered it is refused, rather than thawed without them.
fn refuse_sme(vcpu: &dyn VcpuCalls, state: &VcpuState) -> Result<(), HvfError> {
    const SME: u64 = 0xf << 24;
    let features = get_system(vcpu, state.index, regs::ID_AA64PFR1_EL1)?;
    if features & SME == 0 {
        Ok(())
    } else {
        Err(HvfError::SmeOffered { vcpu: state.index })
    }
}

fn get_system(vcpu: &dyn VcpuCalls, index: u32, register: SysReg) -> Result<u64, HvfError> {
    let value = vcpu.sys_reg(register);
    value.map_err(|source| HvfError::GetSystemReg {
        register,
        vcpu: index,
        source,
    })
}

fn save_system(
    vcpu: &dyn VcpuCalls,
    state: &mut VcpuState,
    wanted: impl Fn(RegClass) -> bool,
) -> Result<(), HvfError> {
    for (register, may_lack) in regs::saved() {
        let id = RegId::from_system(register);
        if !wanted(id.class()) {
            continue;
        }
        match vcpu.sys_reg(register) {
            Ok(value) => {
                state.set_reg(id, value);
            }
            Err(status) if may_lack && status.is_absent() => {}
            Err(source) => {
                return Err(HvfError::GetSystemReg {
                    register,
                    vcpu: state.index,
                    source,
                });
            }
        }
    }
    Ok(())
}

fn save_interface(vcpu: &dyn VcpuCalls, state: &mut VcpuState) -> Result<(), HvfError> {
    let call = "hv_gic_get_icc_reg";
    let running = vcpu.icc_reg(SysReg::ICC_RPR_EL1);
    let priority = running.map_err(HvfError::call(call, at(state)))?;
    if priority != regs::IDLE_PRIORITY {
        return Err(HvfError::InterruptInService {
            vcpu: state.index,
            priority,
        });
    }
    let whose = get_system(vcpu, state.index, SysReg::MPIDR_EL1)?;
    let whose = Mpidr::new(whose).vgic();
    let mut rows = Vec::new();
    for register in regs::interface() {
        let value = vcpu.icc_reg(register);
        rows.push(GicRow {
            attr: whose | u64::from(register.bits()),
            value: value.map_err(HvfError::call(call, at(state)))?,
        });
    }
    let bytes = encode_rows(&rows);
    state.items.insert(ItemKind::GIC_CPU_INTERFACE, bytes);
    Ok(())
}

fn restore_interface(vcpu: &dyn VcpuCalls, state: &VcpuState) -> Result<(), HvfError> {
    let item = ItemKind::GIC_CPU_INTERFACE;
    let bytes = state.items.get(&item).map_or(&[][..], Vec::as_slice);
    // Checked to be whole rows before anything was written.
    for row in decode_rows(bytes).unwrap_or_default() {
        // The lower half of the attribute is the encoding.
        let register = SysReg::from_bits((row.attr & 0xffff) as u16);
        let set = vcpu.set_icc_reg(register, row.value);
        set.map_err(HvfError::call("hv_gic_set_icc_reg", at(state)))?;
    }
    Ok(())
}

fn restore_core(vcpu: &dyn VcpuCalls, state: &VcpuState, target: &Target) -> Result<(), HvfError> {
    for (id, register) in core_regs() {
        let Some(value) = state.reg(id) else { continue };
        let set = vcpu.set_reg(register, value);
        set.map_err(HvfError::call("hv_vcpu_set_reg", at(state)))?;
    }
    for (number, id) in (0..32).filter_map(|n| Some((n, RegId::simd(n)?))) {
        let value = state
            .regs
            .get(&id.code())
            .map(|value| value.as_slice().try_into());
        if let Some(Ok(value)) = value {
            let set = vcpu.set_simd(number, value);
            set.map_err(HvfError::call("hv_vcpu_set_simd_fp_reg", at(state)))?;
        }
    }
    restore_class(vcpu, state, target, RegStep::Core)
}

/// Writes the system registers that belong to a step, and refuses registers that are none.
fn restore_class(
    vcpu: &dyn VcpuCalls,
    state: &VcpuState,
    target: &Target,
    step: RegStep,
) -> Result<(), HvfError> {
    let own: BTreeSet<RegId> = core_regs()
        .map(|(id, _)| id)
        .chain((0..32).filter_map(RegId::simd))
        .collect();
    for code in state.regs.keys() {
        let id = RegId::from_code(*code);
        let here = id.restored_in() == Some(step);
        if !here || own.contains(&id) || id == RegId::MPIDR_EL1 {
            continue;
        }
        match (id.as_system(), state.reg(id)) {
            (Some(register), Some(value)) => set_system(vcpu, state, register, value, target)?,
            _ if target.waived.contains(code) => {}
            _ => {
                return Err(HvfError::UnknownRegister {
                    register: id,
                    vcpu: state.index,
                });
            }
        }
    }
    Ok(())
}

/// Compare values before controls, so that nothing fires against an old one.
fn restore_timers(
    vcpu: &dyn VcpuCalls,
    state: &VcpuState,
    target: &Target,
) -> Result<(), HvfError> {
    for register in [
        SysReg::CNTV_CVAL_EL0,
        SysReg::CNTV_CTL_EL0,
        SysReg::CNTP_CVAL_EL0,
        SysReg::CNTP_CTL_EL0,
    ] {
        let Some(mut value) = state.reg(RegId::from_system(register)) else {
            continue;
        };
        if register == SysReg::CNTP_CVAL_EL0 {
            // The physical counter has no offset here, so the compare value moves instead.
            let Target {
                counters,
                host,
                time,
                ..
            } = target;
            value = counters.physical_compare_at(*host, value, *time);
        }
        set_system(vcpu, state, register, value, target)?;
    }
    Ok(())
}

/// Sets a system register; one that is refused and has the value already is as it should be.
fn set_system(
    vcpu: &dyn VcpuCalls,
    state: &VcpuState,
    register: SysReg,
    value: u64,
    target: &Target,
) -> Result<(), HvfError> {
    let Err(source) = vcpu.set_sys_reg(register, value) else {
        return Ok(());
    };
    let code = RegId::from_system(register).code();
    if vcpu.sys_reg(register) == Ok(value) || target.waived.contains(&code) {
        return Ok(());
    }
    Err(HvfError::SetSystemReg {
        register,
        vcpu: state.index,
        value,
        source,
    })
}
