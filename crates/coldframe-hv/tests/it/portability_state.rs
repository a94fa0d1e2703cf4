//! What the state itself asks of a host, and what a host of another page size, system or
//! interrupt controller is to it.

use coldframe_hv::aarch64::{GicModel, RegId, SysReg};
use coldframe_hv::{
    Comparison, HostIdentity, Hypervisor, ItemKind, MachineState, Offer, VcpuState, Verdict,
    VmState,
};
use coldframe_units::{Arch, PageSize};

const ISAR0: SysReg = SysReg::new(3, 0, 0, 6, 0);

fn pages(bytes: u64) -> PageSize {
    PageSize::new(bytes).unwrap()
}

/// A machine with an interrupt controller, on a host of a few facts.
fn saved(hypervisor: Hypervisor, gic: GicModel) -> MachineState {
    let mut host = HostIdentity::bare(Arch::Aarch64, hypervisor);
    host.cpu.vendor = "0x61".to_owned();
    host.kernel = "24A335".to_owned();
    host.counter_hz = Some(24_000_000);
    host.page_size = pages(16 << 10);
    let isar0 = RegId::from_system(ISAR0).code();
    host.id_registers = [(isar0, 0x0021_1111_0021_2120)].into();
    let mut vm = VmState::default();
    gic.store(&mut vm);
    MachineState {
        arch: Arch::Aarch64,
        hypervisor,
        host,
        vm,
        vcpus: vec![VcpuState::default(), VcpuState::default()],
    }
}

#[track_caller]
fn check(state: &MachineState, offer: Offer<'_>, item: &str, expected: Option<Verdict>) {
    let report = Comparison::of(state, offer);
    let mut items = report.differences().iter();
    let found = items.find(|one| one.item == item);
    let verdict = found.map(|one| one.verdict);
    assert_eq!(verdict, expected, "{item}: {report:#?}");
    let stands = expected >= Some(Verdict::MustBeWaived);
    assert_eq!(report.accept(&[]).is_err(), stands, "{item}");
    let waived = report.accept(&[item]);
    assert_eq!(waived.is_err(), expected == Some(Verdict::Impossible));
}

type Edit = fn(&mut HostIdentity);

// Parity: H1
#[test]
fn each_difference_of_two_macs_is_named_by_its_item() {
    let state = saved(Hypervisor::HVF, GicModel::Apple);
    let edits: [(&str, Option<Verdict>, Edit); 7] = [
        ("kernel", Some(Verdict::MustBeWaived), |here| {
            here.kernel = "25A1".to_owned();
        }),
        ("counter.hz", Some(Verdict::MustBeWaived), |here| {
            here.counter_hz = Some(1_000_000_000);
        }),
        ("cpu.vendor", Some(Verdict::MustBeWaived), |here| {
            here.cpu.vendor = "0x41".to_owned();
        }),
        ("page.size", Some(Verdict::MustBeWaived), |here| {
            here.page_size = pages(64 << 10);
        }),
        ("page.size", Some(Verdict::Compatible), |here| {
            here.page_size = pages(4 << 10);
        }),
        (
            "idreg.0x603000000013c030",
            Some(Verdict::MustBeWaived),
            |here| here.id_registers.clear(),
        ),
        ("arch", Some(Verdict::Impossible), |here| {
            here.arch = Arch::X86_64;
        }),
    ];
    check(&state, (&state.host).into(), "kernel", Some(Verdict::Same));
    for (item, verdict, edit) in edits {
        let mut here = state.host.clone();
        edit(&mut here);
        check(&state, (&here).into(), item, verdict);
    }
}

// Parity: H1
#[test]
fn interrupt_controllers_do_not_turn_into_each_other() {
    let both = [GicModel::V2, GicModel::V3];
    let kinds = |hypervisor, gic, gics| {
        let state = saved(hypervisor, gic);
        let identity = &state.host;
        let offer = Offer {
            gics,
            ..identity.into()
        };
        let report = Comparison::of(&state, offer);
        let mut items = report.differences().iter();
        let item = items.find(|one| one.item == "gic.kind").unwrap();
        (item.saved.clone(), item.host.clone(), item.verdict)
    };
    let texts = |saved: &str, host: &str, verdict| (saved.to_owned(), host.to_owned(), verdict);
    assert_eq!(
        kinds(Hypervisor::KVM, GicModel::V3, Some(&both)),
        texts("GICv3", "GICv3", Verdict::Same)
    );
    assert_eq!(
        kinds(Hypervisor::KVM, GicModel::V3, Some(&both[..1])),
        texts("GICv3", "GICv2", Verdict::Impossible)
    );
    assert_eq!(
        kinds(Hypervisor::KVM, GicModel::V2, None),
        texts("GICv2", "not asked", Verdict::Compatible)
    );
    assert_eq!(
        kinds(Hypervisor::KVM, GicModel::Apple, None),
        texts("Apple's", "", Verdict::Impossible)
    );
    assert_eq!(
        kinds(Hypervisor::HVF, GicModel::Apple, None),
        texts("Apple's", "Apple's", Verdict::Same)
    );
    assert_eq!(
        kinds(Hypervisor::HVF, GicModel::V3, Some(&both)),
        texts("GICv3", "Apple's", Verdict::Impossible)
    );
}

#[test]
fn a_controller_that_nobody_knows_is_impossible_and_a_machine_without_one_has_no_item() {
    let mut state = saved(Hypervisor::KVM, GicModel::V3);
    state.vm.items.insert(ItemKind::GIC_MODEL, vec![9, 9]);
    let here = state.host.clone();
    check(
        &state,
        (&here).into(),
        "gic.kind",
        Some(Verdict::Impossible),
    );
    state.vm.items.clear();
    check(&state, (&here).into(), "gic.kind", None);
}

// Parity: H1
#[test]
fn a_vector_length_that_one_vcpu_had_must_be_there() {
    let mut state = saved(Hypervisor::KVM, GicModel::V3);
    let code = RegId::SVE_LENGTHS.code();
    let lengths = |bits: u8| [vec![bits], vec![0; 63]].concat();
    state.vcpus[0].regs.insert(code, lengths(0b0001));
    state.vcpus[1].regs.insert(code, lengths(0b1011));
    let here = state.host.clone();
    let offer = |lengths| Offer {
        sve_lengths: lengths,
        ..(&here).into()
    };
    let item = "sve.lengths";
    check(&state, offer(None), item, Some(Verdict::Compatible));
    let offered = lengths(0b1111);
    check(
        &state,
        offer(Some(&offered)),
        item,
        Some(Verdict::Compatible),
    );
    let offered = lengths(0b1011);
    check(&state, offer(Some(&offered)), item, Some(Verdict::Same));
    let offered = lengths(0b0011);
    check(
        &state,
        offer(Some(&offered)),
        item,
        Some(Verdict::Impossible),
    );
    check(&state, offer(Some(&[])), item, Some(Verdict::Impossible));
    let report = Comparison::of(&state, offer(Some(&[])));
    let found = report.differences().iter().find(|one| one.item == item);
    assert_eq!(found.unwrap().saved, "128 256 512");
}

// Parity: H1
#[test]
fn extended_state_is_as_long_as_the_longest_of_all_vcpus() {
    let host = HostIdentity {
        xsave_bytes: 832,
        ..HostIdentity::bare(Arch::X86_64, Hypervisor::KVM)
    };
    let vcpu = |bytes| VcpuState {
        items: [(ItemKind::XSAVE, vec![0; bytes])].into(),
        ..VcpuState::default()
    };
    let state = MachineState {
        arch: Arch::X86_64,
        hypervisor: Hypervisor::KVM,
        host: host.clone(),
        vm: VmState::default(),
        vcpus: vec![vcpu(832), vcpu(4096)],
    };
    let item = "xsave.bytes";
    check(&state, (&host).into(), item, Some(Verdict::Impossible));
    let here = HostIdentity {
        xsave_bytes: 11008,
        ..host
    };
    check(&state, (&here).into(), item, Some(Verdict::Compatible));
}

// Parity: H1
#[test]
fn a_capability_that_nobody_here_knows_must_be_waived() {
    let mut state = saved(Hypervisor::KVM, GicModel::V3);
    state.host.capabilities = [(170, 0), (9999, 1)].into();
    let mut here = state.host.clone();
    here.capabilities.remove(&9999);
    check(
        &state,
        (&here).into(),
        "capability.9999",
        Some(Verdict::MustBeWaived),
    );
    here.capabilities.insert(9999, 0);
    check(
        &state,
        (&here).into(),
        "capability.9999",
        Some(Verdict::MustBeWaived),
    );
    here.capabilities = [(9999, 2)].into();
    // A flag, a count or a mask: what is not known has to be more in each sense.
    check(
        &state,
        (&here).into(),
        "capability.9999",
        Some(Verdict::MustBeWaived),
    );
    here.capabilities = [(9999, 3)].into();
    check(
        &state,
        (&here).into(),
        "capability.170",
        Some(Verdict::Compatible),
    );
}

// Parity: H1
#[test]
fn what_is_the_same_is_in_the_report_too() {
    let state = saved(Hypervisor::HVF, GicModel::Apple);
    let report = Comparison::of(&state, (&state.host).into());
    assert_eq!(report.verdict(), Verdict::Same);
    let names: Vec<&str> = report
        .differences()
        .iter()
        .map(|one| one.item.as_str())
        .collect();
    for item in ["arch", "idreg.0x603000000013c030", "gic.kind", "page.size"] {
        assert!(names.contains(&item), "{item}: {names:?}");
    }
}
