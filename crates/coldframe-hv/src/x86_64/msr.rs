//! Model-specific registers: which step of a restore writes each, which of them make KVM write
//! guest memory, and what is held against the saved values afterwards.
//!
//! Invariant: each register is written in exactly one step ([`restored_in`]), and a register that
//! does not hold its saved value after all of them is named by [`lost`].
//!
//! Source: Linux arch/x86/kvm/x86.c (`kvm_set_msr_common`), arch/x86/kvm/pmu.c
//! (`kvm_pmu_refresh`), arch/x86/kvm/hyperv.c (`kvm_hv_set_msr_common`).

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

/// The time-stamp counter.
pub const TSC: u32 = 0x10;
/// The moment at which the LAPIC's timer fires, in deadline mode.
pub const TSC_DEADLINE: u32 = 0x6e0;
/// The wall clock that KVM writes into guest memory, by its first number.
pub const WALL_CLOCK: u32 = 0x11;
/// The same register by its second number.
pub const WALL_CLOCK_NEW: u32 = 0x4b56_4d00;
/// Feature control: locks what VMX and SGX may do.
pub const FEATURE_CONTROL: u32 = 0x3a;

/// Registers of features that every host may have in `KVM_GET_MSR_FEATURE_INDEX_LIST`: microcode
/// revision, platform information, architecture capabilities, performance capabilities, VMX
/// capabilities, AMD's decode configuration. A host's own list is added to them.
pub const FEATURES: &[u32] = &[
    FEATURE_CONTROL,
    0x8b,
    0xce,
    0x10a,
    0x345,
    0x480,
    0x481,
    0x482,
    0x483,
    0x484,
    0x485,
    0x486,
    0x487,
    0x488,
    0x489,
    0x48a,
    0x48b,
    0x48c,
    0x48d,
    0x48e,
    0x48f,
    0x490,
    0x491,
    0x492,
    0x493,
    0xc001_1029,
];

/// When KVM writes guest memory on account of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WritesMemory {
    /// In the call that sets the register.
    AtTheWrite,
    /// When the vCPU next enters the guest, and ever again while it runs.
    AtEntry,
}

/// A register that holds an address in guest memory which KVM writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryMsr {
    /// Its number.
    pub index: u32,
    /// Its name in Linux.
    pub name: &'static str,
    /// When KVM writes to memory.
    pub when: WritesMemory,
    /// What a restore does, so that restored memory is what was saved.
    pub rule: &'static str,
}

const fn memory_msr(
    index: u32,
    name: &'static str,
    when: WritesMemory,
    rule: &'static str,
) -> MemoryMsr {
    MemoryMsr {
        index,
        name,
        when,
        rule,
    }
}

const BEFORE_MEMORY: &str = "WallClock: set before memory is mapped, or not at all";
const HOST_OWNED: &str = "Msrs: the page is KVM's to update at every entry, frozen or not";
const SAME_BYTES: &str = "Msrs: writes the same bytes as are there";

/// Every register that makes KVM write guest memory.
#[rustfmt::skip]
pub const MEMORY_MSRS: &[MemoryMsr] = {
    use WritesMemory::{AtEntry, AtTheWrite};
    &[
        // kvm_write_wall_clock: version and boot time, 12 bytes.
        memory_msr(WALL_CLOCK, "MSR_KVM_WALL_CLOCK", AtTheWrite, BEFORE_MEMORY),
        memory_msr(WALL_CLOCK_NEW, "MSR_KVM_WALL_CLOCK_NEW", AtTheWrite, BEFORE_MEMORY),
        // kvm_guest_time_update.
        memory_msr(0x12, "MSR_KVM_SYSTEM_TIME", AtEntry, HOST_OWNED),
        memory_msr(0x4b56_4d01, "MSR_KVM_SYSTEM_TIME_NEW", AtEntry, HOST_OWNED),
        // kvm_arch_async_page_present: the set wakes whoever waits for a page of the old host.
        memory_msr(0x4b56_4d02, "MSR_KVM_ASYNC_PF_EN", AtEntry, HOST_OWNED),
        // record_steal_time adds to what the page has.
        memory_msr(0x4b56_4d03, "MSR_KVM_STEAL_TIME", AtEntry, HOST_OWNED),
        // apic_sync_pv_eoi_to_guest; cleared again at each exit.
        memory_msr(0x4b56_4d04, "MSR_KVM_PV_EOI_EN", AtEntry, HOST_OWNED),
        // kvm_hv_set_msr_pw: the call instruction of this host's CPU.
        memory_msr(0x4000_0001, "HV_X64_MSR_HYPERCALL", AtTheWrite, SAME_BYTES),
        // kvm_hv_setup_tsc_page.
        memory_msr(0x4000_0021, "HV_X64_MSR_REFERENCE_TSC", AtEntry, HOST_OWNED),
        // kvm_hv_set_msr clears the word that each exit has cleared already.
        memory_msr(0x4000_0073, "HV_X64_MSR_VP_ASSIST_PAGE", AtTheWrite, SAME_BYTES),
    ]
};

/// The step of a restore that writes a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MsrStep {
    /// Before the machine has memory, by the VMM, or not at all.
    WallClock,
    /// What switches features on: first of all.
    Features,
    /// All but what the other steps write.
    Msrs,
    /// The time-stamp counter, of all vCPUs at once.
    Tsc,
    /// The deadline timer, after the counter.
    TscDeadline,
}

/// The step of a restore that writes register `index`; `features` are those that the host
/// lists beside [`FEATURES`].
///
/// What a register resets is written after it: since Linux 6.8 a new value of
/// IA32_PERF_CAPABILITIES (0x345) clears every counter and event selector.
#[must_use]
pub fn restored_in(index: u32, features: &BTreeSet<u32>) -> MsrStep {
    match index {
        WALL_CLOCK | WALL_CLOCK_NEW => MsrStep::WallClock,
        TSC => MsrStep::Tsc,
        TSC_DEADLINE => MsrStep::TscDeadline,
        index if FEATURES.contains(&index) || features.contains(&index) => MsrStep::Features,
        _ => MsrStep::Msrs,
    }
}

/// Whether a register belongs to Hyper-V's interface: KVM keeps such state only for a guest whose
/// CPUID has that interface, and makes room for it when one is read.
#[must_use]
pub const fn is_hyper_v(index: u32) -> bool {
    matches!(index, 0x4000_0000..=0x4000_01ff)
}

/// Whether a register goes on by itself, or is written in a step that computes another value:
/// TSC and its deadline, Hyper-V's run time, reference counter and timers.
#[must_use]
pub const fn is_volatile(index: u32) -> bool {
    matches!(
        index,
        TSC | TSC_DEADLINE | 0x4000_0010 | 0x4000_0020 | 0x4000_00b0..=0x4000_00b7
    )
}

/// A register that does not hold its saved value after a restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostMsr {
    /// Its number.
    pub index: u32,
    /// What was saved.
    pub saved: u64,
    /// What it holds; `None` if it cannot be read.
    pub found: Option<u64>,
}

/// Registers that hold something else than was saved, but for those that go on by themselves and
/// the wall clock, which has a step of its own.
#[must_use]
pub fn lost(saved: &BTreeMap<u32, u64>, found: &BTreeMap<u32, u64>) -> Vec<LostMsr> {
    let is_compared =
        |index: u32| !is_volatile(index) && !matches!(index, WALL_CLOCK | WALL_CLOCK_NEW);
    let rows = saved.iter().map(|(index, saved)| LostMsr {
        index: *index,
        saved: *saved,
        found: found.get(index).copied(),
    });
    rows.filter(|row| is_compared(row.index) && row.found != Some(row.saved))
        .collect()
}
