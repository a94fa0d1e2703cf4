//! CPUID held against CPUID: fields as fields, masks as masks, and the guest's own before its
//! host's.

use coldframe_hv::{
    Comparison, CpuidLeaf, HostIdentity, Hypervisor, ItemKind, MachineState, PortabilityReport,
    VcpuState, Verdict, VmState,
};
use coldframe_units::Arch;

type Row = (u32, u32, [u32; 4]);

fn leaves(rows: &[Row]) -> Vec<CpuidLeaf> {
    let leaf = |(function, index, [eax, ebx, ecx, edx]): &Row| CpuidLeaf {
        function: *function,
        index: *index,
        flags: 1,
        eax: *eax,
        ebx: *ebx,
        ecx: *ecx,
        edx: *edx,
    };
    rows.iter().map(leaf).collect()
}

fn host(rows: &[Row]) -> HostIdentity {
    let mut host = HostIdentity::bare(Arch::X86_64, Hypervisor::KVM);
    host.cpuid = leaves(rows);
    host
}

/// A vCPU that sees these leaves.
fn vcpu(index: u32, rows: &[Row]) -> VcpuState {
    let words = rows.iter().flat_map(|(function, sub, [a, b, c, d])| {
        [*function, *sub, 1, *a, *b, *c, *d, 0, 0, 0].map(u32::to_le_bytes)
    });
    VcpuState {
        index,
        items: [(ItemKind::CPUID2, words.flatten().collect())].into(),
        ..VcpuState::default()
    }
}

fn state(host: &HostIdentity, vcpus: Vec<VcpuState>) -> MachineState {
    MachineState {
        arch: Arch::X86_64,
        hypervisor: Hypervisor::KVM,
        host: host.clone(),
        vm: VmState::default(),
        vcpus,
    }
}

/// The items that have to be waived.
fn standing(report: &PortabilityReport) -> Vec<&str> {
    let stands = report.differences().iter();
    let stands = stands.filter(|one| one.verdict >= Verdict::MustBeWaived);
    stands.map(|one| one.item.as_str()).collect()
}

#[track_caller]
fn check_hosts(leaf: u32, was: [u32; 4], is: [u32; 4], expected: &[&str]) {
    let (saved, here) = (host(&[(leaf, 0, was)]), host(&[(leaf, 0, is)]));
    let report = PortabilityReport::compare(&saved, &here);
    assert_eq!(standing(&report), expected, "{report:#?}");
}

#[test]
fn address_widths_are_three_numbers() {
    const LEAF: u32 = 0x8000_0008;
    let widths = |was, is, expected: &[&str]| {
        check_hosts(LEAF, [was, 0, 0, 0], [is, 0, 0, 0], expected);
    };
    let phys = "cpuid.80000008.eax.phys_bits";
    let linear = "cpuid.80000008.eax.linear_bits";
    let guest = "cpuid.80000008.eax.guest_phys_bits";
    // More of one does not make up for less of another.
    widths(0x3030, 0x392e, &[phys]);
    widths(0x392e, 0x3030, &[linear]);
    widths(0x3034, 0x2e_302e, &[phys]);
    widths(0x30_3030, 0x2e_3030, &[guest]);
    // A kernel that says nothing of the guest's width is not one that has none.
    widths(0x30_3030, 0x3030, &[]);
    widths(0x3030, 0x30_3030, &[]);
    widths(0x3030, 0x3934, &[]);
}

#[test]
fn every_number_of_a_register_is_held_by_itself() {
    let counters = |was, is, expected: &[&str]| {
        check_hosts(0xa, [was, 0, 0, 0], [is, 0, 0, 0], expected);
    };
    counters(0x0730_0402, 0x0830_0802, &[]);
    counters(0x0730_0802, 0x0830_0405, &["cpuid.a.eax.pmu_counters"]);
    counters(0x0730_0402, 0x0730_0800, &["cpuid.a.eax.pmu_version"]);
    // A bit that is set takes an event away.
    check_hosts(
        0xa,
        [2, 0, 0, 0],
        [2, 1, 0, 0],
        &["cpuid.a.ebx.pmu_absent_events"],
    );
    check_hosts(0xa, [2, 1, 0, 0], [2, 0, 0, 0], &[]);
    // A guest without a PMU misses none of it.
    check_hosts(0xa, [0, 0, 0, 0], [0x0730_0402, 0xff, 0, 0x603], &[]);
    check_hosts(0xa, [0, 0, 7, 0x603], [0, 9, 0, 0], &[]);
    check_hosts(
        0x8000_000a,
        [1, 16, 0, 0],
        [2, 8, 0, 0],
        &["cpuid.8000000a.ebx.nasid"],
    );
    let cores = "cpuid.80000022.ebx.pmu_core_counters";
    check_hosts(0x8000_0022, [1, 0x0106, 0, 0], [1, 0x0204, 0, 0], &[cores]);
    let line = "cpuid.1.ebx.clflush";
    check_hosts(1, [0, 0x0800, 0, 0], [0, 0xff04_00ff, 0, 0], &[line]);
    check_hosts(
        0xd,
        [7, 0, 0x340, 0],
        [7, 0, 0x240, 0],
        &["cpuid.d.ecx.xsave_max"],
    );
}

/// Every register in which Linux KVM defines features: one bit less is one item, more is none.
#[test]
fn every_leaf_of_features_is_compared_bit_by_bit() {
    const FEATURES: &[(u32, u32, &str, usize)] = &[
        (0x1, 0, "1.ecx", 2),
        (0x1, 0, "1.edx", 3),
        (0x6, 0, "6.eax", 0),
        (0x7, 0, "7.ebx", 1),
        (0x7, 0, "7.ecx", 2),
        (0x7, 0, "7.edx", 3),
        (0x7, 1, "7.1.eax", 0),
        (0x7, 1, "7.1.ecx", 2),
        (0x7, 1, "7.1.edx", 3),
        (0x7, 2, "7.2.edx", 3),
        (0xd, 0, "d.eax", 0),
        (0xd, 1, "d.1.eax", 0),
        (0xd, 1, "d.1.ecx", 2),
        (0x12, 0, "12.eax", 0),
        (0x12, 1, "12.1.eax", 0),
        (0x14, 0, "14.ebx", 1),
        (0x14, 0, "14.ecx", 2),
        (0x19, 0, "19.ebx", 1),
        (0x1e, 1, "1e.1.eax", 0),
        (0x24, 1, "24.1.ecx", 2),
        (0x4000_0001, 0, "40000001.eax", 0),
        (0x8000_0001, 0, "80000001.ecx", 2),
        (0x8000_0001, 0, "80000001.edx", 3),
        (0x8000_0007, 0, "80000007.ebx", 1),
        (0x8000_0007, 0, "80000007.edx", 3),
        (0x8000_0008, 0, "80000008.ebx", 1),
        (0x8000_000a, 0, "8000000a.edx", 3),
        (0x8000_001f, 0, "8000001f.eax", 0),
        (0x8000_0021, 0, "80000021.eax", 0),
        (0x8000_0021, 0, "80000021.ecx", 2),
        (0x8000_0022, 0, "80000022.eax", 0),
        (0xc000_0001, 0, "c0000001.edx", 3),
    ];
    for (function, index, name, register) in FEATURES {
        let row = |value| {
            let mut registers = [0; 4];
            registers[*register] = value;
            host(&[(*function, *index, registers)])
        };
        // Bits 2 and 5 are features in each of them; whatever stands above changes nothing.
        let report = PortabilityReport::compare(&row(0b10_0100), &row(0xffff_ff00 | 0b10_0000));
        let stands = standing(&report);
        assert_eq!(stands.len(), 1, "{name}: {stands:?}");
        assert!(
            stands[0].starts_with(&format!("cpuid.{name}.")),
            "{stands:?}"
        );
        let report = PortabilityReport::compare(&row(0b10_0100), &row(u32::MAX));
        assert_eq!(report.verdict(), Verdict::Compatible, "{name}");
        let report = PortabilityReport::compare(&row(0b10_0100), &row(0));
        let items = standing(&report);
        assert_eq!(items.len(), 2, "{name}");
        // A waiver of one bit, or of the register, hides no other.
        let register = format!("cpuid.{name}");
        assert!(report.check(&[items[0], &register]).is_err(), "{name}");
        assert!(report.check(&items).is_ok(), "{name}");
    }
}

#[test]
fn a_template_needs_no_waiver_and_what_the_guest_sees_is_told() {
    const AVX512F: u32 = 1 << 16;
    const BMI2: u32 = 1 << 8;
    let saved = host(&[(7, 0, [1, AVX512F | BMI2, 0, 0]), (7, 1, [1 << 5, 0, 0, 0])]);
    let here = host(&[(7, 0, [0, BMI2, 0, 0])]);
    let guest = |ebx| state(&saved, vec![vcpu(0, &[(7, 0, [1, ebx, 0, 0])])]);
    let report = Comparison::of(&guest(BMI2), (&here).into());
    assert_eq!(standing(&report), [""; 0]);
    let report = Comparison::of(&guest(BMI2 | AVX512F), (&here).into());
    assert_eq!(standing(&report), ["cpuid.7.ebx.avx512f"]);
    // The same host does not help a guest that was shown more than there is.
    let report = Comparison::of(&guest(BMI2 | 2), (&saved).into());
    assert_eq!(standing(&report), ["cpuid.7.ebx.tsc_adjust"]);
    // One vCPU of several is enough, and bits are told apart.
    let two = vec![
        vcpu(0, &[(7, 0, [0, BMI2, 0, 0])]),
        vcpu(1, &[(7, 0, [0, AVX512F, 0, 0])]),
    ];
    let nothing = host(&[]);
    let report = Comparison::of(&state(&saved, two), (&nothing).into());
    assert_eq!(
        standing(&report),
        ["cpuid.7.ebx.avx512f", "cpuid.7.ebx.bmi2"]
    );
}

#[test]
fn tables_and_names_of_the_guest_are_its_own() {
    let rows = [
        (0, 0, [0x20, 0x756e_6547, 0x6c65_746e, 0x4965_6e69]),
        (0x4000_0000, 0, [0x4000_0010, 1, 2, 3]),
        (0x4000_0100, 0, [0x4000_0101, 4, 5, 6]),
        (0x8000_0000, 0, [0x8000_0030, 0, 0, 0]),
    ];
    let here = host(&[(0, 0, [0x16, 7, 8, 9])]);
    let guest = state(&here, vec![vcpu(0, &rows)]);
    let report = Comparison::of(&guest, (&here).into());
    assert_eq!(report.verdict(), Verdict::Compatible, "{report:#?}");
    // Hyper-V's leaves have no twin in the host's list; KVM's own have, 0x100 below.
    let hyper_v = [
        (0x4000_0001, 0, [0x3123_7648, 0, 0, 0]),
        (0x4000_0003, 0, [0xffff_ffff, 0xffff, 0, 0]),
        (0x4000_0101, 0, [0b101, 0, 0, 0]),
    ];
    let here = host(&[(0x4000_0001, 0, [0b001, 0, 0, 0])]);
    let guest = state(&here, vec![vcpu(0, &hyper_v)]);
    let report = Comparison::of(&guest, (&here).into());
    assert_eq!(standing(&report), ["cpuid.40000101.eax.mmu_op"]);
}

#[test]
fn what_the_guest_switches_and_the_vmm_gives_is_not_the_hosts() {
    let given = [
        (1, 0, [0, 0, 1 << 27 | 1 << 31 | 1 << 24, 1 << 28]),
        (7, 0, [0, 0, 1 << 4, 0]),
        (0x4000_0001, 0, [1 << 15 | 1 << 17, 0, 0, 1]),
    ];
    let mut here = host(&[]);
    let guest = state(&here, vec![vcpu(0, &given)]);
    let report = Comparison::of(&guest, (&here).into());
    assert_eq!(standing(&report), ["cpuid.1.ecx.tsc_deadline_timer"]);
    here.capabilities.insert(72, 1);
    let report = Comparison::of(&guest, (&here).into());
    assert_eq!(standing(&report), [""; 0]);
}

#[test]
fn capabilities_are_masks_or_counts() {
    let of = |number, answer| {
        let mut host = host(&[]);
        host.capabilities = [(number, answer)].into();
        host
    };
    let verdict = |number, was, is| {
        let report = PortabilityReport::compare(&of(number, was), &of(number, is));
        report.verdict()
    };
    // KVM_CAP_ADJUST_CLOCK is a mask, KVM_CAP_NESTED_STATE a length.
    assert_eq!(verdict(39, 2, 4), Verdict::MustBeWaived);
    assert_eq!(verdict(39, 2, 6), Verdict::Compatible);
    assert_eq!(verdict(157, 3, 4), Verdict::Compatible);
    assert_eq!(verdict(157, 4, 3), Verdict::MustBeWaived);
    // A negative answer is an error, and promises nothing.
    assert_eq!(verdict(39, -22, 0), Verdict::Compatible);
    assert_eq!(verdict(39, 1, -22), Verdict::MustBeWaived);
}

#[test]
fn the_rate_is_that_of_the_guest() {
    let mut here = host(&[]);
    here.tsc_khz = Some(2_000_000);
    let guest = |khz: u32| {
        let mut vcpu = vcpu(0, &[]);
        let bytes = khz.to_le_bytes().to_vec();
        vcpu.items.insert(ItemKind::TSC_KHZ, bytes);
        state(&here, vec![vcpu])
    };
    let (scaled, plain) = (guest(3_000_000), guest(2_000_000));
    // Equal hosts, but the guest ran at another rate.
    let report = Comparison::of(&scaled, (&here).into());
    assert_eq!(standing(&report), ["tsc.khz"]);
    let mut scales = here.clone();
    scales.capabilities.insert(60, 1);
    let report = Comparison::of(&scaled, (&scales).into());
    assert_eq!(standing(&report), [""; 0]);
    // Another host whose counter runs as the guest's does.
    let mut fast = here.clone();
    fast.tsc_khz = Some(3_000_000);
    let report = Comparison::of(&scaled, (&fast).into());
    assert_eq!(standing(&report), [""; 0]);
    let report = Comparison::of(&plain, (&fast).into());
    assert_eq!(standing(&report), ["tsc.khz"]);
}

#[test]
fn extended_state_that_is_not_in_use_needs_no_room() {
    let mut saved = host(&[]);
    saved.xsave_bytes = 11_008;
    let mut here = host(&[]);
    here.xsave_bytes = 4096;
    let guest = |used: usize| {
        let mut area = vec![0; 11_008];
        area[used - 1] = 1;
        let mut vcpu = vcpu(0, &[]);
        vcpu.items.insert(ItemKind::XSAVE, area);
        state(&saved, vec![vcpu])
    };
    let verdict = |used| Comparison::of(&guest(used), (&here).into()).verdict();
    assert_eq!(verdict(1024), Verdict::Same);
    assert_eq!(verdict(4096), Verdict::Same);
    assert_eq!(verdict(4097), Verdict::Impossible);
}
