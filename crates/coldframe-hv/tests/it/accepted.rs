//! An accepted state is of one host, and owns what was compared.

use coldframe_hv::{Comparison, Difference, ItemKind, Machine, OtherHost, Verdict};
use coldframe_testkit::hv::{FakeMachine, FakeMachineError, sample_state};

#[test]
fn a_state_accepted_for_another_host_is_refused_and_nothing_is_written() {
    let state = sample_state(1);
    let mut elsewhere = state.host.clone();
    elsewhere.tsc_khz = Some(1);
    let comparison = Comparison::of(&state, (&elsewhere).into());
    let waivers: Vec<&str> = comparison
        .differences()
        .iter()
        .map(|one| one.item.as_str())
        .collect();
    let accepted = comparison.accept(&waivers).unwrap();
    assert_eq!(accepted.check(&state.host), Err(OtherHost));
    assert!(accepted.waives("tsc.khz") && !accepted.waives_msr(0x7777));
    let mut machine = FakeMachine::new(sample_state(1));
    let refused = accepted.restore(&mut machine).unwrap_err();
    assert_eq!(refused, FakeMachineError::Accept { source: OtherHost });
    assert_eq!(*machine.state(), sample_state(1), "nothing was written");
}

#[test]
fn what_is_restored_is_what_was_compared() {
    let mut state = sample_state(2);
    let compared = state.clone();
    let accepted = Comparison::of(&state, (&state.host).into())
        .accept(&[])
        .unwrap();
    // The caller's own copy may change: it is not what was looked at.
    state.vcpus[0].items.get_mut(&ItemKind::REGS).unwrap()[7] ^= 1;
    assert_eq!(*accepted.state(), compared);
    let mut machine = FakeMachine::new(sample_state(1));
    let _generation = machine.restore(&accepted).unwrap().generation();
    assert_eq!(machine.state().vcpus, compared.vcpus);
}

#[test]
fn one_accepted_state_makes_several_machines_each_a_new_run() {
    let state = sample_state(1);
    let accepted = Comparison::of(&state, (&state.host).into())
        .accept(&[])
        .unwrap();
    let mut machine = FakeMachine::new(sample_state(1));
    let first = accepted.restore(&mut machine).unwrap().generation();
    let second = accepted.restore(&mut machine).unwrap().generation();
    assert_ne!(first, second);
}

/// An adapter's own items count like the others, and can only be added.
#[test]
fn items_of_an_adapter_have_to_be_waived_too() {
    let state = sample_state(1);
    let of = |verdict| {
        let item = Difference {
            item: "mine.firmware".into(),
            saved: "7".into(),
            host: "8".into(),
            verdict,
        };
        Comparison::of(&state, (&state.host).into()).with([item])
    };
    let refused = of(Verdict::MustBeWaived).accept(&[]).unwrap_err();
    assert_eq!(refused.items[0].item, "mine.firmware");
    assert!(of(Verdict::MustBeWaived).accept(&["mine.firmware"]).is_ok());
    assert!(of(Verdict::Impossible).accept(&["mine.firmware"]).is_err());
    assert!(of(Verdict::Compatible).accept(&[]).is_ok());
}
