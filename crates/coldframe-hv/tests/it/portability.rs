//! What two hosts differ in, and who agreed to it.

use coldframe_hv::{CpuidLeaf, HostIdentity, Hypervisor, PortabilityReport, Verdict};
use coldframe_units::Arch;

fn host() -> HostIdentity {
    let leaf = |function, index, [eax, ebx, ecx, edx]: [u32; 4]| CpuidLeaf {
        function,
        index,
        flags: 1,
        eax,
        ebx,
        ecx,
        edx,
    };
    let mut host = HostIdentity::bare(Arch::X86_64, Hypervisor::KVM);
    host.cpu.vendor = "GenuineIntel".to_string();
    host.cpuid = vec![
        leaf(0, 0, [0x1b, 0, 0, 0]),
        leaf(1, 0, [0x806f8, 0x0100_0800, 0x7ffa_3203, 0x078b_fbff]),
        leaf(7, 0, [1, 0x0011_0000, 0, 0]),
        leaf(0xb, 0, [1, 2, 0x100, 5]),
        leaf(0xd, 0, [7, 0x340, 0x340, 0]),
        leaf(0x15, 0, [2, 100, 0, 0]),
        leaf(
            0x4000_0000,
            0,
            [0x4000_0001, 0x4b4d_564b, 0x564b_4d56, 0x4d],
        ),
    ];
    host.msr_indexes = [0x10, 0x174].into();
    host.xsave_bytes = 832;
    host.tsc_khz = Some(2_000_000);
    host.capabilities = [(131, 1)].into();
    host.kernel = "6.1.0".to_string();
    host
}

/// Changes this host and says what came of one item.
#[track_caller]
fn check(change: impl FnOnce(&mut HostIdentity), item: &str, expected: Option<Verdict>) {
    let mut here = host();
    change(&mut here);
    let report = PortabilityReport::compare(&host(), &here);
    let found = report
        .differences()
        .iter()
        .find(|difference| difference.item == item);
    assert_eq!(
        found.map(|difference| difference.verdict),
        expected,
        "{report:#?}"
    );
    let waived = report.check(&[item]).is_ok();
    assert_eq!(waived, expected != Some(Verdict::Impossible));
    let accepted = report.check(&[]).is_ok();
    assert_eq!(
        accepted,
        expected.is_none_or(|verdict| verdict <= Verdict::Compatible)
    );
}

#[test]
fn a_host_is_the_same_as_itself() {
    let report = PortabilityReport::compare(&host(), &host());
    assert_eq!(report.verdict(), Verdict::Same);
    assert!(report.check(&[]).is_ok());
}

#[test]
fn features_that_are_lacking_must_be_waived_and_more_are_welcome() {
    check(
        |here| here.cpuid[2].ebx = 0x0001_0000,
        "cpuid.7.ebx.smap",
        Some(Verdict::MustBeWaived),
    );
    check(
        |here| here.cpuid[2].ebx = 0xffff_ffff,
        "cpuid.7.ebx",
        Some(Verdict::Compatible),
    );
}

#[test]
fn a_leaf_that_is_not_listed_reads_as_zero() {
    let mut here = host();
    here.cpuid.remove(2);
    let refused = PortabilityReport::compare(&host(), &here).check(&[]);
    let items: Vec<_> = refused
        .unwrap_err()
        .items
        .into_iter()
        .map(|item| item.item)
        .collect();
    assert_eq!(
        items,
        ["cpuid.7.eax", "cpuid.7.ebx.avx512f", "cpuid.7.ebx.smap"]
    );
}

#[test]
fn leaves_that_name_moment_or_place_are_not_compared() {
    let not_reported = |change: fn(&mut HostIdentity), item| check(change, item, None);
    not_reported(|here| here.cpuid[1].ebx = 0x7e01_0800, "cpuid.1.ebx");
    not_reported(|here| here.cpuid[3].edx = 77, "cpuid.b.edx");
    not_reported(|here| here.cpuid[4].ebx = 0x240, "cpuid.d.ebx");
    not_reported(|here| here.cpuid[5].ebx = 99, "cpuid.15.ebx");
}

#[test]
fn another_signature_of_the_hypervisor_must_be_waived() {
    let item = "cpuid.40000000.ebx";
    check(
        |here| here.cpuid[6].ebx = 0,
        item,
        Some(Verdict::MustBeWaived),
    );
}

#[test]
fn the_tsc_may_differ_by_250_ppm_or_be_scaled() {
    let near = |here: &mut HostIdentity| here.tsc_khz = Some(2_000_500);
    let far = |here: &mut HostIdentity| here.tsc_khz = Some(2_000_501);
    check(near, "tsc.khz", Some(Verdict::Compatible));
    check(far, "tsc.khz", Some(Verdict::MustBeWaived));
    let scaled = |here: &mut HostIdentity| {
        here.tsc_khz = Some(3_000_000);
        here.capabilities.insert(60, 1);
    };
    check(scaled, "tsc.khz", Some(Verdict::Compatible));
}

#[test]
fn msrs_and_capabilities_that_are_lacking_must_be_waived() {
    let item = "msr.0x00000174";
    check(
        |here| here.msr_indexes = [0x10].into(),
        item,
        Some(Verdict::MustBeWaived),
    );
    check(
        |here| here.msr_indexes.extend([0x33]),
        "msr.0x00000033",
        Some(Verdict::Compatible),
    );
    check(
        |here| here.capabilities.clear(),
        "capability.131",
        Some(Verdict::MustBeWaived),
    );
}

// Parity: F3
#[test]
fn a_smaller_extended_state_or_another_architecture_is_impossible() {
    check(
        |here| here.xsave_bytes = 512,
        "xsave.bytes",
        Some(Verdict::Impossible),
    );
    check(
        |here| here.xsave_bytes = 2696,
        "xsave.bytes",
        Some(Verdict::Compatible),
    );
    check(
        |here| here.arch = Arch::Aarch64,
        "arch",
        Some(Verdict::Impossible),
    );
    check(
        |here| here.hypervisor = Hypervisor::HVF,
        "hypervisor",
        Some(Verdict::Impossible),
    );
}

#[test]
fn another_kernel_is_reported_and_does_no_harm() {
    check(
        |here| here.kernel = "7.0".to_string(),
        "kernel",
        Some(Verdict::Compatible),
    );
}

#[test]
fn a_refusal_names_every_item_that_stands() {
    let mut here = host();
    here.cpu.vendor = "AuthenticAMD".to_string();
    here.tsc_khz = None;
    let report = PortabilityReport::compare(&host(), &here);
    let refused = report.check(&["tsc.khz"]).unwrap_err();
    assert_eq!(refused.items.len(), 1);
    assert_eq!(refused.items[0].item, "cpu.vendor");
    assert!(report.check(&["tsc.khz", "cpu.vendor"]).is_ok());
    let text = report.check(&[]).unwrap_err().to_string();
    assert_eq!(
        text,
        "2 items of the saved host cannot be had here: cpu.vendor, tsc.khz"
    );
}

#[test]
fn waiving_a_name_that_is_in_no_report_changes_nothing() {
    let mut here = host();
    here.tsc_khz = None;
    let report = PortabilityReport::compare(&host(), &here);
    assert!(report.check(&["tsc", "TSC.KHZ", "*"]).is_err());
}

/// A hypervisor that has no name here is compared like any other, and is none of the others.
#[test]
fn a_hypervisor_without_a_name_is_refused_elsewhere_and_taken_at_home() {
    let of = |code| Hypervisor::from_code(code).unwrap();
    let bare = |hypervisor| HostIdentity::bare(Arch::X86_64, hypervisor);
    let item = |saved: &HostIdentity, here: &HostIdentity, name: &str| {
        let report = PortabilityReport::compare(saved, here);
        let mut rows = report.differences().iter();
        let row = rows.find(|row| row.item == name).unwrap();
        (row.saved.clone(), row.host.clone(), row.verdict)
    };
    let mine = bare(of(200));
    for other in [
        Hypervisor::KVM,
        Hypervisor::HVF,
        Hypervisor::SIMULATED,
        of(201),
    ] {
        for (saved, here) in [(&mine, &bare(other)), (&bare(other), &mine)] {
            let (was, is, verdict) = item(saved, here, "hypervisor");
            assert_eq!(verdict, Verdict::Impossible);
            assert_eq!(
                (was, is),
                (saved.hypervisor.to_string(), here.hypervisor.to_string())
            );
            let refused = PortabilityReport::compare(saved, here).check(&["hypervisor"]);
            assert!(refused.unwrap_err().to_string().contains("hypervisor"));
        }
    }
    assert_eq!(item(&mine, &mine, "hypervisor").2, Verdict::Same);
    assert_eq!(item(&mine, &mine, "hypervisor").0, "hypervisor 200");
    // What else may hang on its release, only its adapter knows: somebody has to say so.
    let mut later = mine.clone();
    later.kernel = "2.0".into();
    assert_eq!(item(&mine, &later, "kernel").2, Verdict::MustBeWaived);
}

#[test]
fn numbers_of_hypervisors_are_open_and_named_once() {
    let names: std::collections::BTreeSet<_> = Hypervisor::KNOWN.iter().map(|row| row.1).collect();
    assert_eq!(names.len(), Hypervisor::KNOWN.len());
    for code in 1..=u8::MAX {
        let one = Hypervisor::from_code(code).unwrap();
        assert_eq!(one.code(), code);
        assert_eq!(one.name().is_some(), code <= 3);
        assert!(one.name().is_none() || code < Hypervisor::PRIVATE_MIN);
    }
    assert_eq!(Hypervisor::from_code(0), None);
    assert_eq!(format!("{:?}", Hypervisor::KVM), "Hypervisor(kvm)");
}
