//! A state from another CPU is refused, unless each difference is waived by its name.

use coldframe_hv::{Comparison, CpuidLeaf, Machine};
use coldframe_testkit::hv::{FakeMachine, sample_state};

use crate::support::{Home, Vm};

fn leaf(ebx: u32) -> CpuidLeaf {
    CpuidLeaf {
        function: 7,
        index: 0,
        flags: 1,
        eax: 1,
        ebx,
        ecx: 0,
        edx: 0,
    }
}

#[test]
fn a_state_from_another_cpu_is_refused_unless_waived_by_name() {
    let home = Home::new();
    let mut vm = Vm::new(4);
    let mut elsewhere = sample_state(2);
    elsewhere.host.cpuid = vec![leaf(0b1111)];
    elsewhere.host.tsc_khz = Some(3_000_000);
    vm.cpu.machine = FakeMachine::new(elsewhere);
    let snapshot = vm.full(&home.at("full"));

    let saved = snapshot.machine().unwrap();
    let mut here = saved.host.clone();
    here.cpuid = vec![leaf(0b0101)];
    here.tsc_khz = Some(2_000_000);
    let report = Comparison::of(&saved, (&here).into());
    let refused = report.accept(&[]).unwrap_err();
    let items: Vec<_> = refused
        .items
        .iter()
        .map(|item| item.item.as_str())
        .collect();
    assert_eq!(
        items,
        ["cpuid.7.ebx.bmi1", "cpuid.7.ebx.tsc_adjust", "tsc.khz"]
    );
    let text = refused.to_string();
    assert!(items.iter().all(|item| text.contains(item)), "{text}");
    assert!(report.accept(&["tsc.khz"]).is_err());
    assert!(report.accept(&["tsc.khz", "cpuid.7.ebx.bmi1"]).is_err());
    let accepted = report.accept(&items).unwrap();

    let mut state = saved.clone();
    state.host = here;
    let mut machine = FakeMachine::new(state);
    let thawed = machine.restore(&accepted).unwrap();
    assert_ne!(thawed.generation().as_bytes(), &[0; 16]);
}
