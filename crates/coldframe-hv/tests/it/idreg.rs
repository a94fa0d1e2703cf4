//! Identification registers of aarch64 hosts held against each other.

use coldframe_hv::aarch64::{RegId, SysReg, has_memory_tags};
use coldframe_hv::{HostIdentity, Hypervisor, PortabilityReport, Verdict};
use coldframe_units::Arch;

const PFR0: SysReg = SysReg::new(3, 0, 0, 4, 0);
const ISAR0: SysReg = SysReg::new(3, 0, 0, 6, 0);
const MMFR0: SysReg = SysReg::new(3, 0, 0, 7, 0);
const CTR: SysReg = SysReg::new(3, 3, 0, 0, 1);
const DCZID: SysReg = SysReg::new(3, 3, 0, 0, 7);

fn host(hypervisor: Hypervisor) -> HostIdentity {
    let mut host = HostIdentity::bare(Arch::Aarch64, hypervisor);
    host.counter_hz = Some(24_000_000);
    host.kernel = "24A335".to_string();
    let registers = [
        (SysReg::MIDR_EL1, 0x611f_0221),
        (PFR0, 0x1111_0000_0011_0011),
        (ISAR0, 0x0021_1111_0021_2120),
        (MMFR0, 0x1000_0010_0f10_0003),
        (CTR, 0x8444_c004),
        (DCZID, 4),
    ];
    host.id_registers = registers
        .map(|(register, value)| (RegId::from_system(register).code(), value))
        .into();
    host
}

/// What becomes of one register with another value here.
#[track_caller]
fn check(register: SysReg, value: u64, expected: Option<Verdict>) {
    let saved = host(Hypervisor::KVM);
    let mut here = saved.clone();
    let code = RegId::from_system(register).code();
    here.id_registers.insert(code, value);
    let report = PortabilityReport::compare(&saved, &here);
    let item = format!("idreg.{code:#018x}");
    let mut found = report.differences().iter().filter(|one| one.item == item);
    assert_eq!(found.next().map(|one| one.verdict), expected, "{register}");
    let waived = report.check(&[&item]).is_ok();
    assert_eq!(waived, expected != Some(Verdict::Impossible));
}

#[test]
fn equal_registers_are_reported_as_the_same() {
    check(ISAR0, 0x0021_1111_0021_2120, Some(Verdict::Same));
}

#[test]
fn more_features_are_welcome_and_fewer_must_be_waived() {
    check(ISAR0, 0x1021_1111_0021_2120, Some(Verdict::Compatible));
    check(ISAR0, 0x0021_1111_0011_2120, Some(Verdict::MustBeWaived));
    // One more does not pay for one less.
    check(ISAR0, 0x1021_1111_0011_2120, Some(Verdict::MustBeWaived));
}

#[test]
fn in_signed_fields_all_ones_is_nothing() {
    // TGran4: 0 is there, 1 is more, 0xf is none; it was there.
    check(MMFR0, 0x1000_0010_1f10_0003, Some(Verdict::Compatible));
    check(MMFR0, 0x1000_0010_ff10_0003, Some(Verdict::MustBeWaived));
    // TGran64 was not there.
    check(MMFR0, 0x1000_0010_0010_0003, Some(Verdict::Compatible));
}

#[test]
fn a_host_without_the_mode_of_the_guest_is_impossible() {
    check(PFR0, 0x1111_0000_0011_0001, Some(Verdict::Impossible));
    check(PFR0, 0x1111_0000_00ff_0011, Some(Verdict::Impossible));
}

#[test]
fn cache_lines_may_grow_and_not_shrink() {
    check(CTR, 0x8445_c005, Some(Verdict::Compatible));
    check(CTR, 0x8443_c004, Some(Verdict::MustBeWaived));
    check(CTR, 0x8444_8004, Some(Verdict::MustBeWaived));
    check(DCZID, 5, Some(Verdict::MustBeWaived));
}

#[test]
fn another_cpu_must_be_waived() {
    check(SysReg::MIDR_EL1, 0x611f_0321, Some(Verdict::MustBeWaived));
}

#[test]
fn a_register_that_the_host_lacks_reads_as_zero() {
    let saved = host(Hypervisor::KVM);
    let mut here = saved.clone();
    let code = RegId::from_system(ISAR0).code();
    here.id_registers.remove(&code);
    let refused = PortabilityReport::compare(&saved, &here).check(&[]);
    assert_eq!(refused.unwrap_err().items[0].saved, "0x0021111100212120");
    let report = PortabilityReport::compare(&here, &saved);
    assert_eq!(report.verdict(), Verdict::Compatible);
}

#[test]
fn another_rate_of_the_counter_must_be_waived() {
    let saved = host(Hypervisor::KVM);
    let mut here = saved.clone();
    here.counter_hz = Some(1_050_000_000);
    let report = PortabilityReport::compare(&saved, &here);
    assert_eq!(report.verdict(), Verdict::MustBeWaived);
    assert!(report.check(&["counter.hz"]).is_ok());
}

#[test]
fn another_build_of_apples_system_must_be_waived_and_another_linux_not() {
    for (hypervisor, verdict) in [
        (Hypervisor::HVF, Verdict::MustBeWaived),
        (Hypervisor::KVM, Verdict::Compatible),
    ] {
        let saved = host(hypervisor);
        let mut here = saved.clone();
        here.kernel = "24B83".to_string();
        let report = PortabilityReport::compare(&saved, &here);
        assert_eq!(report.verdict(), verdict);
        assert!(report.check(&["kernel"]).is_ok());
    }
}

#[test]
fn allocation_tags_are_those_of_mte_2_and_later_whatever_else_is_there() {
    for other in [0, !0xf00, 0x21] {
        for (mte, has_tags) in [(0, false), (1, false), (2, true), (3, true), (15, true)] {
            assert_eq!(
                has_memory_tags(other | mte << 8),
                has_tags,
                "{other:#x} {mte}"
            );
        }
    }
}
