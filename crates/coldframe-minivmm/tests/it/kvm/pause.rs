//! A guest that is paused and resumed never learns of it.

use std::time::Duration;

use coldframe_minivmm::{Event, Guest, MiniVm, MiniVmError, Stops, Workload};
use coldframe_testkit::rng::Rng;

use super::{no_kvm, run, short};

#[test]
fn pausing_at_random_times_does_not_change_the_end() {
    if no_kvm() {
        return;
    }
    let mut rng = Rng::new(11);
    let mut pauses = 0;
    for workload in Workload::ALL {
        let config = short(workload);
        let (end, console) = run(&config);
        let mut vm = MiniVm::boot(&config).unwrap();
        loop {
            vm.resume(Stops::NONE).unwrap();
            let event = vm.wait(Duration::from_micros(rng.below(4000))).unwrap();
            if matches!(event, Event::Ended(_)) {
                break;
            }
            assert_eq!(event, Event::TimedOut);
            // The registers can be read, and RAM too.
            vm.end_state().unwrap();
            pauses += 1;
        }
        assert_eq!((vm.end_state().unwrap(), vm.console()), (end, console));
    }
    assert!(pauses > 5, "paused {pauses} times");
}

#[test]
fn marks_stop_the_guest_at_the_same_states_each_time() {
    if no_kvm() {
        return;
    }
    let config = short(Workload::Hash);
    let states = || {
        let mut vm = MiniVm::boot(&config).unwrap();
        let mut states = Vec::new();
        while let Event::Mark(round) = vm.run_until_event(Stops::MARKS).unwrap() {
            states.push((round, vm.end_state().unwrap()));
        }
        assert_eq!(vm.marks(), states.len() as u64);
        states
    };
    let first = states();
    assert_eq!(first.len(), 16);
    assert_eq!(first[1].0, 16);
    assert_eq!(states(), first);
}

#[test]
fn the_guest_stops_after_so_many_exits() {
    if no_kvm() {
        return;
    }
    let config = short(Workload::Idle);
    let mut vm = MiniVm::boot(&config).unwrap();
    let stops = Stops {
        marks: false,
        exits: Some(30),
    };
    assert_eq!(vm.run_until_event(stops).unwrap(), Event::Exits(30));
    assert_eq!(vm.run_until_event(stops).unwrap(), Event::Exits(60));
    assert_eq!(vm.exits(), 60);
    assert!(matches!(
        vm.run_until_event(Stops::NONE).unwrap(),
        Event::Ended(_)
    ));
    assert_eq!(vm.end_state().unwrap(), run(&config).0);
    assert!(matches!(
        vm.resume(Stops::NONE),
        Err(MiniVmError::AlreadyEnded)
    ));
}

#[test]
fn descriptors_are_handed_out_only_while_paused() {
    if no_kvm() {
        return;
    }
    let mut vm = MiniVm::boot(&short(Workload::Smp)).unwrap();
    assert_eq!(vm.vcpus().unwrap().len(), 2);
    vm.resume(Stops::NONE).unwrap();
    assert!(matches!(vm.vcpus(), Err(MiniVmError::NotPaused)));
    assert!(matches!(vm.end_state(), Err(MiniVmError::NotPaused)));
    vm.pause().unwrap();
    assert_eq!(vm.vcpus().unwrap().len(), 2);
    // Dropped in the middle: the threads are joined.
}
