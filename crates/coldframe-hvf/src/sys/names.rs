//! The framework's names of registers for numbers of the architecture.
//!
//! Invariant: every register that is saved has a name here (checked when it compiles).

use applevisor::gic::GicIccReg;
use applevisor::vcpu::{Reg, SimdFpReg, SysReg as Apple};
use coldframe_hv::aarch64::SysReg;

use crate::calls::CoreReg;

/// `hv_reg_t` in its own order.
#[rustfmt::skip]
const CORE: [Reg; 35] = [
    Reg::X0, Reg::X1, Reg::X2, Reg::X3, Reg::X4, Reg::X5, Reg::X6, Reg::X7,
    Reg::X8, Reg::X9, Reg::X10, Reg::X11, Reg::X12, Reg::X13, Reg::X14, Reg::X15,
    Reg::X16, Reg::X17, Reg::X18, Reg::X19, Reg::X20, Reg::X21, Reg::X22, Reg::X23,
    Reg::X24, Reg::X25, Reg::X26, Reg::X27, Reg::X28, Reg::X29, Reg::X30, Reg::PC,
    Reg::FPCR, Reg::FPSR, Reg::CPSR,
];

#[rustfmt::skip]
const SIMD: [SimdFpReg; 32] = [
    SimdFpReg::Q0, SimdFpReg::Q1, SimdFpReg::Q2, SimdFpReg::Q3, SimdFpReg::Q4, SimdFpReg::Q5,
    SimdFpReg::Q6, SimdFpReg::Q7, SimdFpReg::Q8, SimdFpReg::Q9, SimdFpReg::Q10, SimdFpReg::Q11,
    SimdFpReg::Q12, SimdFpReg::Q13, SimdFpReg::Q14, SimdFpReg::Q15, SimdFpReg::Q16, SimdFpReg::Q17,
    SimdFpReg::Q18, SimdFpReg::Q19, SimdFpReg::Q20, SimdFpReg::Q21, SimdFpReg::Q22, SimdFpReg::Q23,
    SimdFpReg::Q24, SimdFpReg::Q25, SimdFpReg::Q26, SimdFpReg::Q27, SimdFpReg::Q28, SimdFpReg::Q29,
    SimdFpReg::Q30, SimdFpReg::Q31,
];

/// Those of `hv_sys_reg_t` that are saved.
#[rustfmt::skip]
const SYSTEM: [Apple; 114] = [
    Apple::DBGBVR0_EL1, Apple::DBGBCR0_EL1, Apple::DBGWVR0_EL1,
    Apple::DBGWCR0_EL1, Apple::DBGBVR1_EL1, Apple::DBGBCR1_EL1,
    Apple::DBGWVR1_EL1, Apple::DBGWCR1_EL1, Apple::DBGBVR2_EL1,
    Apple::DBGBCR2_EL1, Apple::DBGWVR2_EL1, Apple::DBGWCR2_EL1,
    Apple::DBGBVR3_EL1, Apple::DBGBCR3_EL1, Apple::DBGWVR3_EL1,
    Apple::DBGWCR3_EL1, Apple::DBGBVR4_EL1, Apple::DBGBCR4_EL1,
    Apple::DBGWVR4_EL1, Apple::DBGWCR4_EL1, Apple::DBGBVR5_EL1,
    Apple::DBGBCR5_EL1, Apple::DBGWVR5_EL1, Apple::DBGWCR5_EL1,
    Apple::DBGBVR6_EL1, Apple::DBGBCR6_EL1, Apple::DBGWVR6_EL1,
    Apple::DBGWCR6_EL1, Apple::DBGBVR7_EL1, Apple::DBGBCR7_EL1,
    Apple::DBGWVR7_EL1, Apple::DBGWCR7_EL1, Apple::DBGBVR8_EL1,
    Apple::DBGBCR8_EL1, Apple::DBGWVR8_EL1, Apple::DBGWCR8_EL1,
    Apple::DBGBVR9_EL1, Apple::DBGBCR9_EL1, Apple::DBGWVR9_EL1,
    Apple::DBGWCR9_EL1, Apple::DBGBVR10_EL1, Apple::DBGBCR10_EL1,
    Apple::DBGWVR10_EL1, Apple::DBGWCR10_EL1, Apple::DBGBVR11_EL1,
    Apple::DBGBCR11_EL1, Apple::DBGWVR11_EL1, Apple::DBGWCR11_EL1,
    Apple::DBGBVR12_EL1, Apple::DBGBCR12_EL1, Apple::DBGWVR12_EL1,
    Apple::DBGWCR12_EL1, Apple::DBGBVR13_EL1, Apple::DBGBCR13_EL1,
    Apple::DBGWVR13_EL1, Apple::DBGWCR13_EL1, Apple::DBGBVR14_EL1,
    Apple::DBGBCR14_EL1, Apple::DBGWVR14_EL1, Apple::DBGWCR14_EL1,
    Apple::DBGBVR15_EL1, Apple::DBGBCR15_EL1, Apple::DBGWVR15_EL1,
    Apple::DBGWCR15_EL1, Apple::MDCCINT_EL1, Apple::MDSCR_EL1,
    Apple::MPIDR_EL1, Apple::ID_AA64PFR0_EL1, Apple::ID_AA64PFR1_EL1,
    Apple::ID_AA64DFR0_EL1, Apple::ID_AA64DFR1_EL1, Apple::ID_AA64ISAR0_EL1,
    Apple::ID_AA64ISAR1_EL1, Apple::ID_AA64MMFR0_EL1, Apple::ID_AA64MMFR1_EL1,
    Apple::ID_AA64MMFR2_EL1, Apple::SCTLR_EL1, Apple::CPACR_EL1,
    Apple::ACTLR_EL1, Apple::TTBR0_EL1, Apple::TTBR1_EL1,
    Apple::TCR_EL1, Apple::APIAKEYLO_EL1, Apple::APIAKEYHI_EL1,
    Apple::APIBKEYLO_EL1, Apple::APIBKEYHI_EL1, Apple::APDAKEYLO_EL1,
    Apple::APDAKEYHI_EL1, Apple::APDBKEYLO_EL1, Apple::APDBKEYHI_EL1,
    Apple::APGAKEYLO_EL1, Apple::APGAKEYHI_EL1, Apple::SPSR_EL1,
    Apple::ELR_EL1, Apple::SP_EL0, Apple::SP_EL1,
    Apple::AFSR0_EL1, Apple::AFSR1_EL1, Apple::ESR_EL1,
    Apple::FAR_EL1, Apple::PAR_EL1, Apple::MAIR_EL1,
    Apple::AMAIR_EL1, Apple::VBAR_EL1, Apple::CONTEXTIDR_EL1,
    Apple::TPIDR_EL1, Apple::CNTKCTL_EL1, Apple::CSSELR_EL1,
    Apple::TPIDR_EL0, Apple::TPIDRRO_EL0, Apple::CNTV_CTL_EL0,
    Apple::CNTV_CVAL_EL0, Apple::CNTP_CTL_EL0, Apple::CNTP_CVAL_EL0,
];

#[rustfmt::skip]
const INTERFACE: [GicIccReg; 10] = [
    GicIccReg::PMR_EL1, GicIccReg::BPR0_EL1, GicIccReg::AP0R0_EL1,
    GicIccReg::AP1R0_EL1, GicIccReg::RPR_EL1, GicIccReg::BPR1_EL1,
    GicIccReg::CTLR_EL1, GicIccReg::SRE_EL1, GicIccReg::IGRPEN0_EL1,
    GicIccReg::IGRPEN1_EL1,
];

pub(super) fn core(register: CoreReg) -> Option<Reg> {
    CORE.get(register.number() as usize).copied()
}

pub(super) fn simd(number: u8) -> Option<SimdFpReg> {
    SIMD.get(usize::from(number)).copied()
}

/// The framework's numbers are the encodings.
pub(super) fn system(register: SysReg) -> Option<Apple> {
    let bits = u32::from(register.bits());
    let mut all = SYSTEM.iter().copied();
    all.find(|name| *name as u32 == bits)
}

pub(super) fn interface(register: SysReg) -> Option<GicIccReg> {
    let bits = u32::from(register.bits());
    let mut all = INTERFACE.iter().copied();
    all.find(|name| *name as u32 == bits)
}

/// Compiles only if each register that is saved without condition or by offer has a name.
const _: () = {
    let lists = [crate::regs::ALWAYS, crate::regs::IF_OFFERED];
    let mut list = 0;
    while list < lists.len() {
        let mut at = 0;
        while at < lists[list].len() {
            let bits = lists[list][at].bits() as u32;
            let mut name = 0;
            while SYSTEM[name] as u32 != bits {
                name += 1;
            }
            at += 1;
        }
        list += 1;
    }
};
