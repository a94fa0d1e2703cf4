//! An acceptance is of one state and one host, and of no other.

use coldframe_hv::{ItemKind, Machine, MachineState, NotAccepted, PortabilityReport};
use coldframe_testkit::hv::{FakeMachine, FakeMachineError, sample_state};

#[track_caller]
fn check(state: &MachineState, report: &PortabilityReport, expected: NotAccepted) {
    let waivers: Vec<&str> = report
        .differences()
        .iter()
        .map(|one| one.item.as_str())
        .collect();
    let acceptance = report.accept(&waivers).unwrap();
    let host = sample_state(1).host;
    assert_eq!(acceptance.check(state, &host), Err(expected));
    let mut machine = FakeMachine::new(sample_state(1));
    let refused = machine.restore(state, acceptance).unwrap_err();
    assert_eq!(refused, FakeMachineError::Accept { source: expected });
    assert_eq!(*machine.state(), sample_state(1), "nothing was written");
}

#[test]
fn an_acceptance_of_two_hosts_is_of_no_state() {
    let state = sample_state(1);
    let report = PortabilityReport::compare(&state.host, &state.host);
    check(&state, &report, NotAccepted::OfHosts);
}

#[test]
fn an_acceptance_of_another_state_or_host_is_refused() {
    let state = sample_state(1);
    let edits: [fn(&mut MachineState); 5] = [
        |state| *state.vcpus[0].msrs.get_mut(&0x10).unwrap() += 1,
        |state| state.vcpus[0].items.get_mut(&ItemKind::REGS).unwrap()[7] ^= 1,
        |state| drop(state.vm.items.remove(&ItemKind::CLOCK)),
        |state| state.host.kernel.push('1'),
        |state| drop(state.vcpus[0].regs.insert(1, vec![1])),
    ];
    for edit in edits {
        let mut other = state.clone();
        edit(&mut other);
        let report = PortabilityReport::of(&other, (&state.host).into());
        check(&state, &report, NotAccepted::OtherState);
    }
    let mut elsewhere = state.host.clone();
    elsewhere.tsc_khz = Some(1);
    let report = PortabilityReport::of(&state, (&elsewhere).into());
    check(&state, &report, NotAccepted::OtherHost);
}

#[test]
fn an_acceptance_of_this_state_and_host_is_taken() {
    let state = sample_state(2);
    let report = PortabilityReport::of(&state, (&state.host).into());
    let acceptance = report.accept(&[]).unwrap();
    let mut machine = FakeMachine::new(sample_state(1));
    let _generation = machine.restore(&state, acceptance).unwrap().generation();
    assert_eq!(machine.state().vcpus, state.vcpus);
}
