//! What each register of each CPUID leaf is to a guest, and the names of its bits.
//!
//! Invariant: a register that says several things is never held against another as one number: it
//! is bits, or fields of a stated width. Names are those of Linux (arch/x86/include/asm/
//! cpufeatures.h) and do not change, since waivers are written down by them.
//!
//! Source: Intel SDM volume 2, CPUID; AMD APM volume 3, appendix E; every leaf in which Linux KVM
//! defines features (arch/x86/kvm/cpuid.c, reverse_cpuid.h).

use alloc::format;
use alloc::string::{String, ToString};

/// EAX, the first of the four registers of a leaf.
const EAX: usize = 0;
/// EBX.
const EBX: usize = 1;
/// ECX.
const ECX: usize = 2;
/// EDX.
const EDX: usize = 3;

/// The registers of a leaf, in the order of [`CpuidLeaf`](crate::CpuidLeaf).
pub(crate) const REGISTERS: [&str; 4] = ["eax", "ebx", "ecx", "edx"];

/// How one register of one leaf is held against another.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Held {
    /// Names the moment or the place: never compared.
    Volatile,
    /// Describes a CPU; the guest goes on seeing what it saw.
    Descriptive,
    /// A table's own length or signature: a guest has its own table.
    Table(FieldRule),
    /// Bits that are promises; those of the mask are given by KVM or the VMM whatever the CPU.
    Features(u32),
    /// Several things in one register; bits in no field are not compared.
    Fields(&'static [Field]),
    /// Must be equal.
    Exact,
}

/// What a part of a register is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FieldRule {
    /// The host must have at least as much.
    AtLeast,
    /// As [`Self::AtLeast`], and 0 says nothing.
    AtLeastIfSaid,
    /// Must be equal.
    Equal,
    /// Bits are promises.
    Bits,
    /// A bit that is set says that something is not there.
    Absent,
}

/// One part of a register.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    shift: u32,
    width: u32,
    pub(crate) rule: FieldRule,
}

impl Field {
    pub(crate) const fn of(self, register: u32) -> u32 {
        let mask = if self.width >= 32 {
            u32::MAX
        } else {
            (1 << self.width) - 1
        };
        register >> self.shift & mask
    }
}

const fn field(name: &'static str, shift: u32, width: u32, rule: FieldRule) -> Field {
    Field {
        name,
        shift,
        width,
        rule,
    }
}

use FieldRule::{Absent, AtLeast, AtLeastIfSaid, Bits, Equal};

/// Smaller lines than the guest was told would leave some out of its loops.
const CLFLUSH: &[Field] = &[field("clflush", 8, 8, AtLeast)];
const WIDTHS: &[Field] = &[
    field("phys_bits", 0, 8, AtLeast),
    field("linear_bits", 8, 8, AtLeast),
    field("guest_phys_bits", 16, 8, AtLeastIfSaid),
];
const INVLPGB: &[Field] = &[
    field("invlpgb_max", 0, 16, AtLeast),
    field("rdpru_max", 16, 16, AtLeast),
];
const PMU: &[Field] = &[
    field("pmu_version", 0, 8, AtLeast),
    field("pmu_counters", 8, 8, AtLeast),
    field("pmu_width", 16, 8, AtLeast),
    field("pmu_events", 24, 8, AtLeast),
];
const PMU_EVENTS: &[Field] = &[field("pmu_absent_events", 0, 32, Absent)];
const PMU_FIXED: &[Field] = &[
    field("pmu_fixed_counters", 0, 5, AtLeast),
    field("pmu_fixed_width", 5, 8, AtLeast),
];
const PMU_AMD: &[Field] = &[
    field("pmu_core_counters", 0, 4, AtLeast),
    field("lbr_depth", 4, 6, AtLeast),
    field("pmu_nb_counters", 10, 6, AtLeast),
];
const SGX_SIZES: &[Field] = &[
    field("enclave_max_32", 0, 8, AtLeast),
    field("enclave_max_64", 8, 8, AtLeast),
];
const PT_RANGES: &[Field] = &[
    field("pt_ranges", 0, 3, AtLeast),
    field("pt_mtc_periods", 16, 16, Bits),
];
const AVX10: &[Field] = &[
    field("avx10_version", 0, 8, AtLeast),
    field("avx10_lengths", 16, 3, Bits),
];
const LBR: &[Field] = &[
    field("lbr_depths", 0, 8, Bits),
    field("lbr_deep_c_state_reset", 30, 1, Equal),
    field("lbr_ip_is_lip", 31, 1, Equal),
];
const C_BIT: &[Field] = &[
    field("c_bit", 0, 6, Equal),
    field("c_bit_phys_reduction", 6, 6, Equal),
];
const SVM_REVISION: &[Field] = &[field("svm_revision", 0, 8, AtLeast)];
const NASID: &[Field] = &[field("nasid", 0, 32, AtLeast)];
const XSAVE_SIZE: &[Field] = &[field("xsave_max", 0, 32, AtLeast)];
const RAP: &[Field] = &[field("rap_size", 16, 8, AtLeast)];
const PALETTES: &[Field] = &[field("tile_palettes", 0, 32, AtLeast)];

/// OSXSAVE is the guest's own switch; the hypervisor bit is set by VMMs whatever the host.
const VMM_1_ECX: u32 = 1 << 27 | 1 << 31;
/// HTT says how many logical CPUs there are.
const VMM_1_EDX: u32 = 1 << 28;
/// OSPKE is the guest's own switch.
const VMM_7_ECX: u32 = 1 << 4;
/// Extended destination ids and migration control are offered by the VMM, not by KVM.
const VMM_KVM_EAX: u32 = 1 << 15 | 1 << 17;

/// What a register is.
pub(crate) fn held(function: u32, index: u32, register: usize) -> Held {
    use Held::{Descriptive, Exact, Features, Fields, Table, Volatile};
    match (function, index, register) {
        (0x8000_0000.., ..) => held_extended(function, index, register),
        (0x4000_0000..=0x4fff_ffff, ..) => held_hypervisor(function, register),
        // Highest leaf, vendor.
        (0x0, _, EAX) => Table(AtLeast),
        (0x0, ..) => Table(Equal),
        // Signature: compared as family, model and stepping.
        (0x1, _, EAX) => Volatile,
        (0x1, _, EBX) => Fields(CLFLUSH),
        (0x1, _, ECX) => Features(VMM_1_ECX),
        (0x1, _, EDX) => Features(VMM_1_EDX),
        // Caches, TLBs, monitor line, direct cache access, SoC vendor, address translation.
        (0x2 | 0x4 | 0x5 | 0x9 | 0x17 | 0x18, ..) => Descriptive,
        (0x3, ..) => Volatile,
        // Thermal thresholds; what core type a CPU is.
        (0x6, _, EBX) | (0x1a, ..) => Descriptive,
        (0x7 | 0x14 | 0x24, 0, EAX) => Table(AtLeast),
        (0x7, 0, ECX) => Features(VMM_7_ECX),
        (0xa, _, EAX) => Fields(PMU),
        (0xa, _, EBX) => Fields(PMU_EVENTS),
        (0xa, _, ECX) => Features(0),
        (0xa, _, EDX) => Fields(PMU_FIXED),
        // Topology, with this CPU's own id in EDX.
        (0xb | 0x1f, ..) => Volatile,
        // Extended state: EBX of sub-leaves 0 and 1 is the size in use now, ECX the largest; of
        // the others size, offset and kind of a component.
        (0xd, 0 | 1, EBX) => Volatile,
        (0xd, 0, ECX) => Fields(XSAVE_SIZE),
        (0xd, 0 | 1, _) => Features(0),
        (0xd, _, EDX) => Descriptive,
        (0xd, ..) => Exact,
        // Sections of the enclave page cache are the VMM's.
        (0x12, 0, EDX) => Fields(SGX_SIZES),
        (0x12, 2.., _) => Descriptive,
        (0x14, 1, EAX) => Fields(PT_RANGES),
        // Rates: compared as such.
        (0x15 | 0x16, ..) => Volatile,
        (0x1c, _, EAX) => Fields(LBR),
        (0x1d, 0, EAX) => Fields(PALETTES),
        (0x24, 0, EBX) => Fields(AVX10),
        (0x6 | 0x7 | 0xf | 0x10 | 0x12 | 0x14 | 0x19 | 0x1b | 0x1c, ..) => Features(0),
        (0x1e, 1.., _) | (0x20 | 0x23 | 0x24 | 0x29, ..) => Features(0),
        _ => Exact,
    }
}

fn held_hypervisor(function: u32, register: usize) -> Held {
    match (function, register) {
        (0x4000_0000, EAX) => Held::Table(AtLeast),
        (0x4000_0000, _) => Held::Table(Equal),
        // Paravirtual features; EDX has hints that the VMM gives.
        (0x4000_0001, EAX) => Held::Features(VMM_KVM_EAX),
        (0x4000_0001, _) => Held::Descriptive,
        // Rates.
        (0x4000_0010, _) => Held::Volatile,
        _ => Held::Table(Equal),
    }
}

fn held_extended(function: u32, index: u32, register: usize) -> Held {
    use Held::{Descriptive, Exact, Features, Fields, Table, Volatile};
    match (function, index, register) {
        (0x8000_0000 | 0xc000_0000, _, EAX) => Table(AtLeast),
        (0x8000_0000 | 0xc000_0000, ..) => Table(Equal),
        // Signature; package type.
        (0x8000_0001, _, EAX) => Volatile,
        (0x8000_0001, _, EBX) => Descriptive,
        (0x8000_0001, ..) => Features(0),
        // Brand, caches, TLBs.
        (0x8000_0002..=0x8000_0006 | 0x8000_0019 | 0x8000_001a | 0x8000_001d, ..) => Descriptive,
        // RAS features; ECX is a period.
        (0x8000_0007, _, EBX | EDX) => Features(0),
        (0x8000_0007, ..) => Descriptive,
        (0x8000_0008, _, EAX) => Fields(WIDTHS),
        (0x8000_0008, _, EBX) => Features(0),
        (0x8000_0008, _, ECX) => Volatile,
        (0x8000_0008, _, EDX) => Fields(INVLPGB),
        (0x8000_000a, _, EAX) => Fields(SVM_REVISION),
        (0x8000_000a, _, EBX) => Fields(NASID),
        (0x8000_000a, ..) => Features(0),
        // Extended APIC id, node, topology.
        (0x8000_001e | 0x8000_0026, ..) => Volatile,
        (0x8000_001f, _, EAX) => Features(0),
        (0x8000_001f, _, EBX) => Fields(C_BIT),
        // Numbers of encrypted guests.
        (0x8000_001f, ..) => Descriptive,
        (0x8000_0021, _, EBX) => Fields(RAP),
        (0x8000_0022, _, EBX) => Fields(PMU_AMD),
        (0x8000_001b | 0x8000_001c | 0x8000_0020..=0x8000_0022, ..) => Features(0),
        (0xc000_0001, _, EDX) => Features(0),
        (0xc000_0001..=0xc000_0004, ..) => Descriptive,
        _ => Exact,
    }
}

/// The name of a leaf in an item: `7` or `7.1`.
pub(crate) fn leaf_name(function: u32, index: u32) -> String {
    match index {
        0 => format!("{function:x}"),
        index => format!("{function:x}.{index:x}"),
    }
}

/// The name of a feature bit, such as `avx512f`, or `bit13` where it has none.
pub(crate) fn bit_name(function: u32, index: u32, register: usize, bit: u32) -> String {
    let position = usize::try_from(bit).unwrap_or(usize::MAX);
    let names = BITS
        .iter()
        .find(|row| (row.0, row.1, row.2) == (function, index, register));
    let name = names.and_then(|row| row.3.split_ascii_whitespace().nth(position));
    match name {
        Some(name) if name != "-" => name.to_string(),
        _ => format!("bit{bit}"),
    }
}

/// Names of the bits from 0 on; `-` has none.
#[rustfmt::skip]
const BITS: &[(u32, u32, usize, &str)] = &[
    (0x1, 0, ECX, "sse3 pclmulqdq dtes64 monitor ds_cpl vmx smx est tm2 ssse3 cid sdbg fma cx16 \
        xtpr pdcm - pcid dca sse4_1 sse4_2 x2apic movbe popcnt tsc_deadline_timer aes xsave \
        osxsave avx f16c rdrand hypervisor"),
    (0x1, 0, EDX, "fpu vme de pse tsc msr pae mce cx8 apic - sep mtrr pge mca cmov pat pse36 pn \
        clflush - dts acpi mmx fxsr sse sse2 ss ht tm ia64 pbe"),
    (0x7, 0, EBX, "fsgsbase tsc_adjust sgx bmi1 hle avx2 fdp_excptn_only smep bmi2 erms invpcid \
        rtm cqm zero_fcs_fds mpx rdt_a avx512f avx512dq rdseed adx smap avx512ifma - clflushopt \
        clwb intel_pt avx512pf avx512er avx512cd sha_ni avx512bw avx512vl"),
    (0x7, 0, ECX, "prefetchwt1 avx512vbmi umip pku ospke waitpkg avx512_vbmi2 shstk gfni vaes \
        vpclmulqdq avx512_vnni avx512_bitalg tme avx512_vpopcntdq - la57 - - - - - rdpid \
        key_locker bus_lock_detect cldemote - movdiri movdir64b enqcmd sgx_lc pks"),
    (0x7, 0, EDX, "- sgx_keys avx512_4vnniw avx512_4fmaps fsrm uintr - - avx512_vp2intersect \
        srbds_ctrl md_clear rtm_always_abort - tsx_force_abort serialize hybrid_cpu tsxldtrk - \
        pconfig arch_lbr ibt - amx_bf16 avx512_fp16 amx_tile amx_int8 spec_ctrl intel_stibp \
        flush_l1d arch_capabilities core_capabilities spec_ctrl_ssbd"),
    (0x7, 1, EAX, "sha512 sm3 sm4 rao_int avx_vnni avx512_bf16 lass cmpccxadd arch_perfmon_ext - \
        fzrm fsrs fsrc - - - - fred lkgs wrmsrns nmi_src amx_fp16 hreset avx_ifma - - lam msrlist \
        - - - movrs"),
    (0x7, 1, EDX, "- - - - avx_vnni_int8 avx_ne_convert - - amx_complex - avx_vnni_int16 - - utmr \
        prefetchiti user_msr - uiret_uif cet_sss avx10 - apx_f - mwait slsm"),
    (0x7, 2, EDX, "intel_psfd ipred_ctrl rrsba_ctrl ddpd_u bhi_ctrl mcdt_no"),
    (0xd, 1, EAX, "xsaveopt xsavec xgetbv1 xsaves xfd"),
    (0x12, 0, EAX, "sgx1 sgx2 - - - enclv encls - - - - sgx_edeccssa"),
    (0x1e, 1, EAX, "amx_int8_alias amx_bf16_alias amx_complex_alias amx_fp16_alias amx_fp8 \
        amx_transpose amx_tf32 amx_avx512 amx_movrs"),
    (0x4000_0001, 0, EAX, "clocksource nop_io_delay mmu_op clocksource2 async_pf steal_time \
        pv_eoi pv_unhalt - pv_tlb_flush async_pf_vmexit pv_send_ipi poll_control pv_sched_yield \
        async_pf_int msi_ext_dest_id hc_map_gpa_range migration_control - - - - - - \
        clocksource_stable"),
    (0x8000_0001, 0, ECX, "lahf_lm cmp_legacy svm extapic cr8_legacy abm sse4a misalignsse \
        3dnowprefetch osvw ibs xop skinit wdt - lwp fma4 tce - nodeid_msr - tbm topoext \
        perfctr_core perfctr_nb - bpext ptsc perfctr_llc mwaitx"),
    (0x8000_0001, 0, EDX, "fpu vme de pse tsc msr pae mce cx8 apic - syscall mtrr pge mca cmov \
        pat pse36 - mp nx - mmxext mmx fxsr fxsr_opt pdpe1gb rdtscp - lm 3dnowext 3dnow"),
    (0x8000_0007, 0, EBX, "overflow_recov succor - smca"),
    (0x8000_0007, 0, EDX, "- - - - - - - - constant_tsc"),
    (0x8000_0008, 0, EBX, "clzero irperf xsaveerptr - rdpru - - - - wbnoinvd - - amd_ibpb - \
        amd_ibrs amd_stibp - amd_stibp_always_on - amd_ibrs_same_mode - - - amd_ppin amd_ssbd \
        virt_ssbd amd_ssb_no cppc amd_psfd btc_no ibpb_ret"),
    (0x8000_000a, 0, EDX, "npt lbrv svm_lock nrip_save tsc_scale vmcb_clean flushbyasid \
        decodeassists - - pausefilter - pfthreshold avic - v_vmsave_vmload vgif - x2avic - \
        v_spec_ctrl - - - - vnmi - - svme_addr_chk"),
    (0x8000_001f, 0, EAX, "sme sev vm_page_flush sev_es sev_snp v_tsc_aux - - - - sme_coherent - \
        - - debug_swap"),
    (0x8000_0021, 0, EAX, "no_nested_data_bp wrmsr_xx_base_ns lfence_rdtsc - - verw_clear \
        null_sel_clr_base - autoibrs no_smm_ctl_msr fsrs fsrc - prefetchctl - - - - \
        gp_on_user_cpuid \
        - prefetchi - - - - - - sbpb ibpb_brtype srso_no srso_user_kernel_no srso_bp_spec_reduce"),
    (0x8000_0021, 0, ECX, "- tsa_sq_no tsa_l1_no"),
    (0x8000_0022, 0, EAX, "perfmon_v2 amd_lbr_v2 amd_lbr_pmc_freeze"),
    (0xc000_0001, 0, EDX, "- - xstore xstore_en xcrypt xcrypt_en ace2 ace2_en phe phe_en pmm \
        pmm_en"),
];
