//! The ports' saved state, with inputs and without.

use coldframe_minivmm::{
    Config, DeviceStateError, Guest, Inputs, MiniVmError, Recorder, SimVm, Workload,
};

/// A machine that has not run yet.
fn machine() -> SimVm {
    SimVm::boot(&Config::for_workload(Workload::Input, Config::RAM_MIN, 1)).unwrap()
}

/// A recorded one, on which something was typed.
fn typed() -> (SimVm, tempfile::TempDir) {
    let dir = coldframe_testkit::scratch::on_disk();
    let recorder = Recorder::create(&dir.path().join("journal")).unwrap();
    let mut vm = machine();
    vm.ports().attach(Inputs::recorded(recorder));
    assert_eq!(vm.ports().feed(b"hello").unwrap(), 5);
    (vm, dir)
}

// Spec: MINI-3
#[test]
fn a_state_without_inputs_is_written_as_before() {
    let mut vm = machine();
    vm.ports().attach(Inputs::live());
    let mut expected = vec![1, 0, 0, 0];
    expected.resize(32, 0);
    assert_eq!(vm.device_state(), expected);
}

// Spec: MINI-4
#[test]
fn what_was_typed_and_the_recording_go_over() {
    let (mut one, _dir) = typed();
    let state = one.device_state();
    let id = one.ports().recording().unwrap();
    let mut expected = vec![2, 0, 0, 0];
    expected.resize(32, 0);
    expected.extend_from_slice(&id);
    expected.extend_from_slice(&[5, 0, 0, 0, 0, 0, 0, 0]);
    expected.extend_from_slice(b"hello");
    assert_eq!(state, expected);
    let mut other = machine();
    other.restore_device(&state).unwrap();
    assert_eq!(other.device_state(), state);
    assert_eq!(other.ports().recording(), Some(id));
}

// Spec: MINI-4
#[test]
fn a_damaged_state_with_inputs_is_refused_and_changes_nothing() {
    let (one, _dir) = typed();
    let good = one.device_state();
    let mut vm = machine();
    let before = vm.device_state();
    for len in 0..good.len() {
        let refused = vm.restore_device(&good[..len]);
        assert!(matches!(refused, Err(MiniVmError::DeviceState(_))));
    }
    for at in [24, 48] {
        let mut huge = good.clone();
        huge[at..at + 8].fill(0xff);
        assert!(vm.restore_device(&huge).is_err());
    }
    let mut empty = good[..56].to_vec();
    empty[32..56].fill(0);
    let refused = vm.restore_device(&empty).unwrap_err();
    assert!(matches!(
        refused,
        MiniVmError::DeviceState(DeviceStateError::NoInputs)
    ));
    assert_eq!(vm.device_state(), before);
}

#[test]
fn the_console_keeps_so_much_that_was_not_read() {
    let mut vm = machine();
    let much = vec![7; (1 << 20) + 1];
    assert_eq!(vm.ports().feed(&much).unwrap(), 1 << 20);
    assert_eq!(vm.ports().feed(b"more").unwrap(), 0);
}
