//! Which system registers are saved, and how sure the framework is to have them.
//!
//! Not saved: MIDR_EL1 (the CPU's own), registers of EL2 (no nested guests), CNTP_TVAL_EL0 (follows
//! from the compare value). Source: Apple Hypervisor framework, `hv_sys_reg_t`; that the others can
//! be read and written back was found by the limina project.

use coldframe_hv::aarch64::SysReg;

/// ID_AA64PFR1_EL1, which says whether there is SME.
pub(crate) const ID_AA64PFR1_EL1: SysReg = SysReg::new(3, 0, 0, 4, 1);

/// Registers that every release has.
pub(crate) const ALWAYS: &[SysReg] = &[
    // MDCCINT, MDSCR.
    SysReg::new(2, 0, 0, 2, 0),
    SysReg::new(2, 0, 0, 2, 2),
    SysReg::MPIDR_EL1,
    // ID_AA64PFR0, PFR1, DFR0, DFR1, ISAR0, ISAR1, MMFR0, MMFR1, MMFR2.
    SysReg::new(3, 0, 0, 4, 0),
    ID_AA64PFR1_EL1,
    SysReg::new(3, 0, 0, 5, 0),
    SysReg::new(3, 0, 0, 5, 1),
    SysReg::new(3, 0, 0, 6, 0),
    SysReg::new(3, 0, 0, 6, 1),
    SysReg::new(3, 0, 0, 7, 0),
    SysReg::new(3, 0, 0, 7, 1),
    SysReg::new(3, 0, 0, 7, 2),
    // SCTLR, CPACR, TTBR0, TTBR1, TCR.
    SysReg::new(3, 0, 1, 0, 0),
    SysReg::new(3, 0, 1, 0, 2),
    SysReg::new(3, 0, 2, 0, 0),
    SysReg::new(3, 0, 2, 0, 1),
    SysReg::new(3, 0, 2, 0, 2),
    // Keys of pointer authentication: IA, IB, DA, DB, GA; low and high.
    SysReg::new(3, 0, 2, 1, 0),
    SysReg::new(3, 0, 2, 1, 1),
    SysReg::new(3, 0, 2, 1, 2),
    SysReg::new(3, 0, 2, 1, 3),
    SysReg::new(3, 0, 2, 2, 0),
    SysReg::new(3, 0, 2, 2, 1),
    SysReg::new(3, 0, 2, 2, 2),
    SysReg::new(3, 0, 2, 2, 3),
    SysReg::new(3, 0, 2, 3, 0),
    SysReg::new(3, 0, 2, 3, 1),
    SysReg::SPSR_EL1,
    SysReg::ELR_EL1,
    SysReg::SP_EL0,
    SysReg::SP_EL1,
    // AFSR0, AFSR1, ESR, FAR, PAR, MAIR, AMAIR, VBAR.
    SysReg::new(3, 0, 5, 1, 0),
    SysReg::new(3, 0, 5, 1, 1),
    SysReg::new(3, 0, 5, 2, 0),
    SysReg::new(3, 0, 6, 0, 0),
    SysReg::new(3, 0, 7, 4, 0),
    SysReg::new(3, 0, 10, 2, 0),
    SysReg::new(3, 0, 10, 3, 0),
    SysReg::new(3, 0, 12, 0, 0),
    // CONTEXTIDR, TPIDR_EL1, CNTKCTL, CSSELR, TPIDR_EL0, TPIDRRO_EL0.
    SysReg::new(3, 0, 13, 0, 1),
    SysReg::new(3, 0, 13, 0, 4),
    SysReg::new(3, 0, 14, 1, 0),
    SysReg::new(3, 2, 0, 0, 0),
    SysReg::new(3, 3, 13, 0, 2),
    SysReg::new(3, 3, 13, 0, 3),
    SysReg::CNTV_CTL_EL0,
    SysReg::CNTV_CVAL_EL0,
];

/// Registers that some releases or hosts do not have: absent in the state then. ACTLR_EL1, and the
/// physical timer, which is there only with the framework's interrupt controller.
pub(crate) const IF_OFFERED: &[SysReg] = &[
    SysReg::new(3, 0, 1, 0, 1),
    SysReg::CNTP_CTL_EL0,
    SysReg::CNTP_CVAL_EL0,
];

/// Every register that is saved, and whether the framework may lack it.
pub(crate) fn saved() -> impl Iterator<Item = (SysReg, bool)> {
    // DBGBVR, DBGBCR, DBGWVR, DBGWCR, 16 of each.
    let debug = (0..16).flat_map(|n| (4..8).map(move |op2| SysReg::new(2, 0, 0, n, op2)));
    let always = debug.chain(ALWAYS.iter().copied());
    let offered = IF_OFFERED.iter().copied();
    always
        .map(|register| (register, false))
        .chain(offered.map(|register| (register, true)))
}

/// Registers of the CPU interface in the order of writing. The framework has one register of
/// active priorities for each group, as with 5 bits of priority.
pub(crate) fn interface() -> Vec<SysReg> {
    coldframe_hv::aarch64::interface_order(5)
}

/// What ICC_RPR_EL1 reads when no interrupt is in service.
pub(crate) const IDLE_PRIORITY: u64 = 0xff;
