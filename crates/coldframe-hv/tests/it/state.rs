//! The shape of states, and the path from a restore to a new generation.

use std::collections::BTreeSet;

use coldframe_hv::{
    Comparison, DeviceState, ItemKind, Machine, StateError, VCPU_COUNT_MAX, Verdict, check_devices,
};
use coldframe_testkit::hv::{FakeMachine, FakeMachineError, sample_state};
use coldframe_units::Arch;

// Parity: F6
#[test]
#[cfg_attr(miri, ignore = "too slow under Miri")]
fn a_state_has_between_one_and_the_limit_of_vcpus() {
    assert_eq!(sample_state(1).check(), Ok(()));
    let most = u32::try_from(VCPU_COUNT_MAX).unwrap();
    assert_eq!(sample_state(most).check(), Ok(()));
    for count in [0, most + 1] {
        let found = usize::try_from(count).unwrap();
        let max = VCPU_COUNT_MAX;
        let refused = sample_state(count).check();
        assert_eq!(refused, Err(StateError::VcpuCount { found, max }));
    }
}

#[test]
fn vcpu_indexes_rise() {
    let mut state = sample_state(3);
    state.vcpus[2].index = 1;
    let refused = StateError::VcpuOrder {
        previous: 1,
        next: 1,
    };
    assert_eq!(state.check(), Err(refused));
}

#[test]
fn a_vcpu_without_state_is_refused() {
    let mut state = sample_state(2);
    state.vcpus[1].items.clear();
    assert_eq!(state.check(), Err(StateError::VcpuEmpty { index: 1 }));
}

// Parity: F3
#[test]
fn state_and_host_agree_on_the_architecture() {
    let mut state = sample_state(1);
    state.host.arch = Arch::Aarch64;
    assert!(matches!(
        state.check(),
        Err(StateError::ArchMismatch { .. })
    ));
}

#[test]
fn a_device_that_is_there_twice_is_refused() {
    let device = |kind: &str, instance| DeviceState {
        kind: kind.to_string(),
        instance,
        version: 1,
        bytes: vec![1, 2, 3],
    };
    assert_eq!(
        check_devices(&[device("gic", 0), device("gic", 1), device("uart", 0)]),
        Ok(())
    );
    let refused = check_devices(&[device("gic", 1), device("uart", 0), device("gic", 1)]);
    let kind = "gic".to_string();
    assert_eq!(
        refused,
        Err(StateError::DuplicateDevice { kind, instance: 1 })
    );
}

// Parity: F18
#[test]
fn registers_that_were_not_read_are_known_as_omitted() {
    let state = sample_state(1);
    assert_eq!(
        state.vcpus[0].omitted_msrs(&state.host),
        BTreeSet::from([0x1b])
    );
}

// Spec: ITEM-1, ITEM-2, ITEM-3
#[test]
fn item_numbers_are_unique_and_unknown_ones_are_carried() {
    let codes: BTreeSet<_> = ItemKind::KNOWN.iter().map(|row| row.0.code()).collect();
    let names: BTreeSet<_> = ItemKind::KNOWN.iter().map(|row| row.1).collect();
    assert_eq!(codes.len(), ItemKind::KNOWN.len());
    assert_eq!(names.len(), ItemKind::KNOWN.len());
    let unknown = ItemKind::from_code(0xdead);
    assert_eq!((unknown.code(), unknown.name()), (0xdead, None));
    assert_eq!(unknown.to_string(), "item 0xdead");
    assert_eq!(ItemKind::from_code(0x0108), ItemKind::LAPIC);
}

#[test]
fn each_restore_hands_out_another_generation() {
    let state = sample_state(2);
    let mut machine = FakeMachine::new(sample_state(2));
    let accept = || {
        Comparison::of(&state, (&state.host).into())
            .accept(&[])
            .unwrap()
    };
    let first = machine.restore(&accept()).unwrap().generation();
    let second = machine.restore(&accept()).unwrap().generation();
    assert_ne!(first, second);
    assert_eq!(machine.save().unwrap(), state);
}

#[test]
fn extended_state_of_another_size_is_refused() {
    let mut state = sample_state(1);
    state.vcpus[0].items.insert(ItemKind::XSAVE, vec![0; 4096]);
    let report = Comparison::of(&state, (&state.host).into());
    assert_eq!(report.verdict(), Verdict::Impossible);
    // A machine that has less room than its host's identity says refuses it by itself.
    state.host.xsave_bytes = 4096;
    let host = state.host.clone();
    let accepted = Comparison::of(&state, (&host).into()).accept(&[]).unwrap();
    let mut small = sample_state(1);
    small.host.xsave_bytes = 576;
    let refused = FakeMachine::new(small).restore(&accepted).unwrap_err();
    assert!(matches!(refused, FakeMachineError::Accept { .. }));
}

#[test]
fn extended_state_that_the_report_does_not_know_of_is_refused_by_the_machine() {
    let mut state = sample_state(1);
    let items = &mut state.vcpus[0].items;
    items.insert(ItemKind::XSAVE, vec![0; 512]);
    let accepted = Comparison::of(&state, (&state.host).into())
        .accept(&[])
        .unwrap();
    let refused = FakeMachine::new(sample_state(1))
        .restore(&accepted)
        .unwrap_err();
    assert!(matches!(
        refused,
        FakeMachineError::XsaveSize {
            found: 512,
            expected: 576,
            ..
        }
    ));
}
