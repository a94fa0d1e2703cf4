//! Identification registers held against each other, field by field.
//!
//! Invariant: a field is served if the host has at least what was saved. What that means depends on
//! the field: most count features up from 0, some are signed (0xf: not there), some are sizes in
//! which more is not better. Source: Arm DDI 0487, D23.1 "Principles of the ID scheme for fields in
//! ID registers", and the register descriptions.

use super::SysReg;

/// What a host's identification register is to a guest that was saved with another value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IdVerdict {
    /// They say the same.
    Same,
    /// The host has all that was saved, and more or other things that a guest cannot miss.
    Served,
    /// The host lacks something that the guest was told it has.
    Lacks,
    /// The guest cannot run without what the host lacks: the mode that it runs in.
    Impossible,
}

const ID_AA64PFR0_EL1: SysReg = SysReg::new(3, 0, 0, 4, 0);
const ID_AA64DFR0_EL1: SysReg = SysReg::new(3, 0, 0, 5, 0);
const ID_AA64MMFR0_EL1: SysReg = SysReg::new(3, 0, 0, 7, 0);
const CLIDR_EL1: SysReg = SysReg::new(3, 1, 0, 0, 1);
const CCSIDR_EL1: SysReg = SysReg::new(3, 1, 0, 0, 0);
const CTR_EL0: SysReg = SysReg::new(3, 3, 0, 0, 1);
const DCZID_EL0: SysReg = SysReg::new(3, 3, 0, 0, 7);

/// Compares one register.
#[must_use]
pub fn compare_id(register: SysReg, saved: u64, host: u64) -> IdVerdict {
    if saved == host {
        return IdVerdict::Same;
    }
    match register {
        CTR_EL0 => cache_type(saved, host),
        // The size that a guest clears at a time, which it reads before each use.
        DCZID_EL0 => IdVerdict::Lacks,
        // What caches look like: a guest goes on with what it has read.
        CLIDR_EL1 | CCSIDR_EL1 => IdVerdict::Served,
        other if is_feature_register(other) => {
            let shifts = (0..64).step_by(4);
            let verdicts = shifts.map(|shift| feature(other, shift, saved, host));
            verdicts.max().unwrap_or(IdVerdict::Same)
        }
        // The CPU's name and revision.
        _ => IdVerdict::Lacks,
    }
}

/// ID_*_EL1: op0 3, op1 0, CRn 0, CRm 1 to 7.
const fn is_feature_register(register: SysReg) -> bool {
    let bits = register.bits();
    let crm = bits >> 3 & 15;
    bits >> 7 == SysReg::MIDR_EL1.bits() >> 7 && crm >= 1 && crm <= 7
}

fn feature(register: SysReg, shift: u32, saved: u64, host: u64) -> IdVerdict {
    let field = |value: u64| value >> shift & 0xf;
    let (was, is) = (field(saved), field(host));
    if was == is {
        return IdVerdict::Same;
    }
    let enough = if is_signed(register, shift) {
        signed(is) >= signed(was)
    } else {
        is >= was
    };
    match (enough, register, shift) {
        (true, ..) => IdVerdict::Served,
        // EL0 and EL1: the guest is in AArch64 or AArch32, and 0 is neither.
        (false, ID_AA64PFR0_EL1, 0 | 4) if is == 0 => IdVerdict::Impossible,
        // Floating point and SIMD, that every program uses.
        (false, ID_AA64PFR0_EL1, 16 | 20) if is == 0xf => IdVerdict::Impossible,
        _ => IdVerdict::Lacks,
    }
}

/// Fields in which 0xf says that there is nothing.
const fn is_signed(register: SysReg, shift: u32) -> bool {
    match register {
        // FP, AdvSIMD.
        ID_AA64PFR0_EL1 => matches!(shift, 16 | 20),
        // PMUVer, DoubleLock.
        ID_AA64DFR0_EL1 => matches!(shift, 8 | 36),
        // TGran64, TGran4.
        ID_AA64MMFR0_EL1 => matches!(shift, 24 | 28),
        _ => false,
    }
}

const fn signed(field: u64) -> i64 {
    // Four bits: the value fits whatever its sign.
    (field as i64) << 60 >> 60
}

/// A guest cleans caches line by line at the size that it was told: a host with smaller lines
/// would have some left out. DIC and IDC promise that it need not clean at all.
const fn cache_type(saved: u64, host: u64) -> IdVerdict {
    const I_LINE: u64 = 0xf;
    const D_LINE: u64 = 0xf << 16;
    const POLICY: u64 = 3 << 14;
    const PROMISES: u64 = 3 << 28;
    let lines = host & I_LINE >= saved & I_LINE && host & D_LINE >= saved & D_LINE;
    let promises = saved & PROMISES & !host == 0;
    if lines && promises && host & POLICY == saved & POLICY {
        IdVerdict::Served
    } else {
        IdVerdict::Lacks
    }
}

/// Whether a guest with this ID_AA64PFR1_EL1 has allocation tags, which are outside of the bytes of
/// its memory: field MTE, bits 11 to 8, is 2 or more (Arm DDI 0487, D23.2.76). With 1 there are the
/// instructions alone.
#[must_use]
pub const fn has_memory_tags(id_aa64pfr1: u64) -> bool {
    id_aa64pfr1 >> 8 & 0xf >= 2
}
