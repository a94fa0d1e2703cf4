//! Names of registers: one number for each, on every hypervisor.
//!
//! Invariant: the number is KVM's id of the register (Linux arch/arm64/include/uapi/asm/kvm.h), but
//! a system register has its architectural encoding. KVM's ids of the virtual timer's compare value
//! and counter are each other's encoding, by a mistake of its first version that became interface.

use alloc::string::String;
use core::fmt;

use crate::VcpuState;

/// A system register by its encoding: op0, op1, CRn, CRm, op2 in 2, 3, 4, 4 and 3 bits.
///
/// KVM and Hypervisor.framework have the same numbers for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SysReg(u16);

impl SysReg {
    /// Main identification register.
    pub const MIDR_EL1: Self = Self::new(3, 0, 0, 0, 0);
    /// Affinity of the vCPU.
    pub const MPIDR_EL1: Self = Self::new(3, 0, 0, 0, 5);
    /// Saved program status of EL1.
    pub const SPSR_EL1: Self = Self::new(3, 0, 4, 0, 0);
    /// Exception link register of EL1.
    pub const ELR_EL1: Self = Self::new(3, 0, 4, 0, 1);
    /// Stack pointer of EL0.
    pub const SP_EL0: Self = Self::new(3, 0, 4, 1, 0);
    /// Stack pointer of EL1.
    pub const SP_EL1: Self = Self::new(3, 4, 4, 1, 0);
    /// Rate of the counters.
    pub const CNTFRQ_EL0: Self = Self::new(3, 3, 14, 0, 0);
    /// Physical counter.
    pub const CNTPCT_EL0: Self = Self::new(3, 3, 14, 0, 1);
    /// Virtual counter.
    pub const CNTVCT_EL0: Self = Self::new(3, 3, 14, 0, 2);
    /// Physical timer: what is left, derived from the compare value.
    pub const CNTP_TVAL_EL0: Self = Self::new(3, 3, 14, 2, 0);
    /// Physical timer: control.
    pub const CNTP_CTL_EL0: Self = Self::new(3, 3, 14, 2, 1);
    /// Physical timer: compare value.
    pub const CNTP_CVAL_EL0: Self = Self::new(3, 3, 14, 2, 2);
    /// Virtual timer: what is left, derived from the compare value.
    pub const CNTV_TVAL_EL0: Self = Self::new(3, 3, 14, 3, 0);
    /// Virtual timer: control.
    pub const CNTV_CTL_EL0: Self = Self::new(3, 3, 14, 3, 1);
    /// Virtual timer: compare value.
    pub const CNTV_CVAL_EL0: Self = Self::new(3, 3, 14, 3, 2);
    /// Running priority of the CPU interface: read-only.
    pub const ICC_RPR_EL1: Self = Self::new(3, 0, 12, 11, 3);
    /// Priority mask of the CPU interface.
    pub const ICC_PMR_EL1: Self = Self::new(3, 0, 4, 6, 0);
    /// Binary point of group 0.
    pub const ICC_BPR0_EL1: Self = Self::new(3, 0, 12, 8, 3);
    /// Active priorities of group 0.
    pub const ICC_AP0R0_EL1: Self = Self::new(3, 0, 12, 8, 4);
    /// Active priorities of group 1.
    pub const ICC_AP1R0_EL1: Self = Self::new(3, 0, 12, 9, 0);
    /// Binary point of group 1.
    pub const ICC_BPR1_EL1: Self = Self::new(3, 0, 12, 12, 3);
    /// Control of the CPU interface.
    pub const ICC_CTLR_EL1: Self = Self::new(3, 0, 12, 12, 4);
    /// Whether the CPU interface is reached by system registers.
    pub const ICC_SRE_EL1: Self = Self::new(3, 0, 12, 12, 5);
    /// Switch of group 0.
    pub const ICC_IGRPEN0_EL1: Self = Self::new(3, 0, 12, 12, 6);
    /// Switch of group 1.
    pub const ICC_IGRPEN1_EL1: Self = Self::new(3, 0, 12, 12, 7);

    /// From the five parts of the encoding; bits that a part does not have are dropped.
    #[must_use]
    pub const fn new(op0: u16, op1: u16, crn: u16, crm: u16, op2: u16) -> Self {
        Self((op0 & 3) << 14 | (op1 & 7) << 11 | (crn & 15) << 7 | (crm & 15) << 3 | (op2 & 7))
    }

    /// From the encoding in one number; any is taken.
    #[must_use]
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// The encoding in one number.
    #[must_use]
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// Whether it tells what the CPU is: the range that the architecture keeps for that.
    #[must_use]
    pub const fn is_identification(self) -> bool {
        let (op0, op1, crn) = (self.0 >> 14, self.0 >> 11 & 7, self.0 >> 7 & 15);
        let is_affinity = self.0 == Self::MPIDR_EL1.0;
        // CSSELR_EL1, in the middle of the range, is no identification: it selects one.
        op0 == 3 && crn == 0 && !is_affinity && matches!(op1, 0 | 1 | 3)
    }
}

impl fmt::Display for SysReg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(bits) = self;
        let (op0, op1, crn) = (bits >> 14, bits >> 11 & 7, bits >> 7 & 15);
        let (crm, op2) = (bits >> 3 & 15, bits & 7);
        write!(f, "s{op0}_{op1}_c{crn}_c{crm}_{op2}")
    }
}

/// The step of a restore that writes a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RegStep {
    /// Vector lengths, before the vector registers exist.
    SveLengths,
    /// General, floating-point and vector registers.
    Core,
    /// System registers but those of timers and counters.
    System,
    /// Timers: compare values and controls, once the counter is right.
    Timers,
    /// Counters, which are set by an offset.
    Counter,
}

/// What a register is, as far as its restore goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RegClass {
    /// General registers, program counter, status, and what KVM counts among them.
    Core,
    /// Floating point and SIMD.
    Simd,
    /// Lengths of the vectors: they decide which other registers there are.
    VectorLengths,
    /// SVE registers.
    Vector,
    /// Affinity: by it the interrupt controller finds the vCPU.
    Affinity,
    /// What the guest is told that its CPU is.
    Identification,
    /// System registers of no other class.
    System,
    /// What the firmware in the kernel offers to the guest.
    Firmware,
    /// Geometry of the caches.
    Cache,
    /// Compare value or control of a timer.
    Timer,
    /// A counter, which goes on by itself: restored as an offset.
    Counter,
    /// Follows from other registers: neither saved nor restored.
    Derived,
    /// None that this version knows; it is written with the system registers.
    Unknown,
}

/// The number of a register of aarch64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegId(u64);

const ARM64: u64 = 0x6000_0000_0000_0000;
const SIZE_SHIFT: u32 = 52;
const SIZE_U32: u64 = 2;
const SIZE_U64: u64 = 3;
const SIZE_U128: u64 = 4;
const SIZE_U512: u64 = 6;
const KIND_CORE: u64 = 0x10;
const KIND_CACHE: u64 = 0x11;
const KIND_SYSTEM: u64 = 0x13;
const KIND_FIRMWARE: u64 = 0x14;
const KIND_VECTOR: u64 = 0x15;
const KIND_FIRMWARE_FEATURES: u64 = 0x16;
/// Where core registers stand in `struct kvm_regs`, in words of 32 bits.
const CORE_SP_EL0: u64 = 62;
const CORE_PC: u64 = 64;
const CORE_PSTATE: u64 = 66;
const CORE_SP_EL1: u64 = 68;
const CORE_ELR_EL1: u64 = 70;
const CORE_SPSR_EL1: u64 = 72;
const CORE_SIMD: u64 = 84;
const CORE_FPSR: u64 = 212;
const CORE_FPCR: u64 = 213;

const fn id(size: u64, kind: u64, index: u64) -> RegId {
    RegId(ARM64 | size << SIZE_SHIFT | kind << 16 | index)
}

impl RegId {
    /// Stack pointer of EL0.
    pub const SP_EL0: Self = id(SIZE_U64, KIND_CORE, CORE_SP_EL0);
    /// Program counter.
    pub const PC: Self = id(SIZE_U64, KIND_CORE, CORE_PC);
    /// Program status.
    pub const PSTATE: Self = id(SIZE_U64, KIND_CORE, CORE_PSTATE);
    /// Stack pointer of EL1.
    pub const SP_EL1: Self = id(SIZE_U64, KIND_CORE, CORE_SP_EL1);
    /// Exception link register of EL1.
    pub const ELR_EL1: Self = id(SIZE_U64, KIND_CORE, CORE_ELR_EL1);
    /// Saved program status of EL1.
    pub const SPSR_EL1: Self = id(SIZE_U64, KIND_CORE, CORE_SPSR_EL1);
    /// Floating-point status, 32 bits.
    pub const FPSR: Self = id(SIZE_U32, KIND_CORE, CORE_FPSR);
    /// Floating-point control, 32 bits.
    pub const FPCR: Self = id(SIZE_U32, KIND_CORE, CORE_FPCR);
    /// The vector lengths that a vCPU has (`KVM_REG_ARM64_SVE_VLS`), 512 bits.
    pub const SVE_LENGTHS: Self = id(SIZE_U512, KIND_VECTOR, 0xffff);
    /// Affinity of the vCPU.
    pub const MPIDR_EL1: Self = Self::system(SysReg::MPIDR_EL1);

    /// General register `number`; `None` above 30.
    #[must_use]
    pub const fn general(number: u8) -> Option<Self> {
        match number {
            0..=30 => Some(id(SIZE_U64, KIND_CORE, number as u64 * 2)),
            _ => None,
        }
    }

    /// SIMD register `number`, 128 bits; `None` above 31.
    #[must_use]
    pub const fn simd(number: u8) -> Option<Self> {
        match number {
            0..=31 => Some(id(SIZE_U128, KIND_CORE, CORE_SIMD + number as u64 * 4)),
            _ => None,
        }
    }

    /// A system register by its true encoding, which is its key whatever the hypervisor calls it.
    const fn system(register: SysReg) -> Self {
        id(SIZE_U64, KIND_SYSTEM, register.bits() as u64)
    }

    /// A system register as Hypervisor.framework and the architecture name it. Those that KVM
    /// counts among the core registers have their place there.
    #[must_use]
    pub const fn from_system(register: SysReg) -> Self {
        match register {
            SysReg::SP_EL0 => Self::SP_EL0,
            SysReg::SP_EL1 => Self::SP_EL1,
            SysReg::ELR_EL1 => Self::ELR_EL1,
            SysReg::SPSR_EL1 => Self::SPSR_EL1,
            other => Self::system(other),
        }
    }

    /// The system register that it is to Hypervisor.framework; `None` if it is none.
    #[must_use]
    pub const fn as_system(self) -> Option<SysReg> {
        match self {
            Self::SP_EL0 => Some(SysReg::SP_EL0),
            Self::SP_EL1 => Some(SysReg::SP_EL1),
            Self::ELR_EL1 => Some(SysReg::ELR_EL1),
            Self::SPSR_EL1 => Some(SysReg::SPSR_EL1),
            other if other.kind() == KIND_SYSTEM => Some(SysReg(other.index())),
            _ => None,
        }
    }

    /// From the id that KVM uses, in which two timer registers are swapped.
    ///
    /// Source: Linux arch/arm64/include/uapi/asm/kvm.h, `KVM_REG_ARM_TIMER_CVAL`: "The historical
    /// numbers are swapped".
    #[must_use]
    pub const fn from_kvm(id: u64) -> Self {
        Self(swap_timers(id))
    }

    /// The id that KVM uses.
    #[must_use]
    pub const fn to_kvm(self) -> u64 {
        swap_timers(self.0)
    }

    /// From the number that files store; any number is carried.
    #[must_use]
    pub const fn from_code(code: u64) -> Self {
        Self(code)
    }

    /// The number that files store.
    #[must_use]
    pub const fn code(self) -> u64 {
        self.0
    }

    /// How many bytes its value has; `None` if the number names no register of aarch64.
    #[must_use]
    pub const fn bytes(self) -> Option<usize> {
        let size = self.0 >> SIZE_SHIFT & 0xf;
        let is_arm64 = self.0 & 0xff00_0000_0000_0000 == ARM64;
        // KVM knows sizes up to 2048 bits.
        if is_arm64 && size <= 8 {
            Some(1 << size)
        } else {
            None
        }
    }

    /// What it is.
    #[must_use]
    pub const fn class(self) -> RegClass {
        if self.bytes().is_none() {
            return RegClass::Unknown;
        }
        match self.kind() {
            KIND_CORE if self.0 & 0xffff >= CORE_SIMD => RegClass::Simd,
            KIND_CORE => RegClass::Core,
            KIND_CACHE => RegClass::Cache,
            KIND_FIRMWARE | KIND_FIRMWARE_FEATURES => RegClass::Firmware,
            KIND_VECTOR if self.0 == Self::SVE_LENGTHS.0 => RegClass::VectorLengths,
            KIND_VECTOR => RegClass::Vector,
            KIND_SYSTEM => class_of_system(SysReg(self.index())),
            _ => RegClass::Unknown,
        }
    }

    /// The step of a restore that writes it on KVM and Hypervisor.framework; `None` for what is
    /// never written. (On Hypervisor.framework affinity has a step of its own before.)
    #[must_use]
    pub const fn restored_in(self) -> Option<RegStep> {
        match self.class() {
            RegClass::Core | RegClass::Simd | RegClass::Vector => Some(RegStep::Core),
            RegClass::VectorLengths => Some(RegStep::SveLengths),
            RegClass::Timer => Some(RegStep::Timers),
            RegClass::Counter => Some(RegStep::Counter),
            RegClass::Derived => None,
            RegClass::Affinity
            | RegClass::Identification
            | RegClass::System
            | RegClass::Firmware
            | RegClass::Cache
            | RegClass::Unknown => Some(RegStep::System),
        }
    }

    const fn kind(self) -> u64 {
        self.0 >> 16 & 0xfff
    }

    const fn index(self) -> u16 {
        (self.0 & 0xffff) as u16
    }
}

const fn class_of_system(register: SysReg) -> RegClass {
    match register {
        SysReg::MPIDR_EL1 => RegClass::Affinity,
        SysReg::CNTVCT_EL0 | SysReg::CNTPCT_EL0 => RegClass::Counter,
        SysReg::CNTV_CTL_EL0
        | SysReg::CNTV_CVAL_EL0
        | SysReg::CNTP_CTL_EL0
        | SysReg::CNTP_CVAL_EL0 => RegClass::Timer,
        SysReg::CNTV_TVAL_EL0 | SysReg::CNTP_TVAL_EL0 | SysReg::ICC_RPR_EL1 => RegClass::Derived,
        other if other.is_identification() => RegClass::Identification,
        _ => RegClass::System,
    }
}

/// Its own inverse.
const fn swap_timers(id: u64) -> u64 {
    const COMPARE: u64 = RegId::system(SysReg::CNTV_CVAL_EL0).0;
    const COUNTER: u64 = RegId::system(SysReg::CNTVCT_EL0).0;
    match id {
        COMPARE => COUNTER,
        COUNTER => COMPARE,
        other => other,
    }
}

/// The name by which a register that this host does not have, or does not take, is waived.
#[must_use]
pub fn register_item(code: u64) -> String {
    alloc::format!("register.{code:#018x}")
}

impl fmt::Display for RegId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_system() {
            Some(register) => write!(f, "{register}"),
            None => write!(f, "register {:#018x}", self.0),
        }
    }
}

impl fmt::Debug for RegId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RegId({self})")
    }
}

impl VcpuState {
    /// The value of a register of at most 64 bits; `None` if it is absent or longer.
    #[must_use]
    pub fn reg(&self, id: RegId) -> Option<u64> {
        let bytes = self.regs.get(&id.code())?;
        let mut value = [0; 8];
        value.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(u64::from_le_bytes(value))
    }

    /// Sets a register of at most 64 bits, in as many bytes as its number says; false if it has
    /// more or the number names none.
    pub fn set_reg(&mut self, id: RegId, value: u64) -> bool {
        let bytes = value.to_le_bytes();
        let Some(bytes) = id.bytes().and_then(|len| bytes.get(..len)) else {
            return false;
        };
        self.regs.insert(id.code(), bytes.to_vec());
        true
    }
}
