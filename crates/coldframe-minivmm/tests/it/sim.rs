//! The simulated machine keeps the promises of the real one.

use coldframe_hv::{Machine, MachineState};
use coldframe_minivmm::{
    Backing, Config, EndReason, EndState, Event, Guest, MiniVmError, SimVm, Stops, Workload,
    allocate_ram, ram_layout,
};
use coldframe_units::{ByteLen, PageIndex};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

/// A run of `workload` on 16 MiB.
fn config(workload: Workload) -> Config {
    Config::for_workload(workload, ByteLen::new(16 << 20), 7)
}

/// Runs to the end.
#[track_caller]
fn finish(mut vm: SimVm) -> (EndState, Vec<u8>) {
    let event = vm.run_until_event(Stops::NONE).unwrap();
    assert_eq!(event, Event::Ended(EndReason::Code(0)));
    assert!(matches!(
        vm.resume(Stops::NONE),
        Err(MiniVmError::AlreadyEnded)
    ));
    (vm.end_state().unwrap(), vm.console())
}

/// A machine in the state of `vm`, on a copy of its RAM.
fn thaw(vm: &SimVm, config: &Config) -> SimVm {
    let ram = allocate_ram(&ram_layout(config.ram).unwrap(), Backing::Anonymous).unwrap();
    for region in vm.memory().iter() {
        let mut bytes = vec![0; region.len() as usize];
        let at = GuestAddress(region.start_addr().0);
        vm.memory().read_slice(&mut bytes, at).unwrap();
        ram.write_slice(&bytes, at).unwrap();
    }
    let mut thawed = SimVm::with_memory(vm.shape(), ram).unwrap();
    let state = vm.save().unwrap();
    state.check().unwrap();
    let report = thawed.compare(&state);
    let accepted = report.accept(&[]).unwrap();
    let generation = thawed.restore(&accepted).unwrap().generation();
    assert_ne!(generation.as_bytes(), &[0; 16]);
    thawed.restore_device(&vm.device_state()).unwrap();
    thawed
}

#[test]
fn a_thawed_machine_ends_as_one_that_was_never_stopped() {
    for workload in Workload::ALL {
        let config = config(workload);
        let uninterrupted = finish(SimVm::boot(&config).unwrap());
        assert!(uninterrupted.1.ends_with(b"END\n"));
        let mut vm = SimVm::boot(&config).unwrap();
        let mut marks = 0;
        while let Event::Mark(_) = vm.run_until_event(Stops::MARKS).unwrap() {
            marks += 1;
            if marks % 10 == 0 {
                let thawed = finish(thaw(&vm, &config));
                assert_eq!(thawed, uninterrupted, "{workload} at mark {marks}");
            }
        }
        assert_eq!(marks, 32, "{workload}");
        assert_eq!((vm.end_state().unwrap(), vm.console()), uninterrupted);
    }
}

#[test]
fn every_page_written_is_marked() {
    for workload in Workload::ALL {
        let mut vm = SimVm::boot(&config(workload)).unwrap();
        let read = |vm: &SimVm| {
            let mut bytes = vec![0; 16 << 20];
            vm.memory().read_slice(&mut bytes, GuestAddress(0)).unwrap();
            bytes
        };
        vm.run_until_event(Stops::MARKS).unwrap();
        let before = read(&vm);
        vm.dirty().take().commit();
        vm.run_until_event(Stops::MARKS).unwrap();
        let after = read(&vm);
        let pages = before.chunks(4096).zip(after.chunks(4096));
        for (page, (before, after)) in (0..).zip(pages) {
            let marked = vm.dirty().is_dirty(PageIndex::new(page));
            assert!(marked || before == after, "{workload}: page {page}");
        }
        assert!(vm.dirty().count() < 4096 / 4, "{workload}");
    }
}

#[test]
fn the_guest_stops_after_so_many_exits() {
    let mut vm = SimVm::boot(&config(Workload::Idle)).unwrap();
    let stops = Stops {
        marks: false,
        exits: Some(30),
    };
    let Event::Exits(first) = vm.run_until_event(stops).unwrap() else {
        panic!("no stop");
    };
    assert!((30..60).contains(&first));
    assert_eq!(vm.exits(), first);
}

#[test]
fn a_state_of_another_shape_is_refused() {
    let one = SimVm::boot(&config(Workload::Hash)).unwrap();
    let mut two = SimVm::boot(&config(Workload::Smp)).unwrap();
    let before = two.end_state().unwrap();
    let accepted = |state: &MachineState| two.compare(state).accept(&[]).unwrap();
    let other = one.save().unwrap();
    let accepted_other = accepted(&other);
    assert!(matches!(
        two.restore(&accepted_other),
        Err(MiniVmError::RestoreSimulated)
    ));
    let mut short = two.save().unwrap();
    short.vcpus[1].regs.remove(&3);
    let accepted_short = two.compare(&short).accept(&[]).unwrap();
    assert!(two.restore(&accepted_short).is_err());
    assert_eq!(two.end_state().unwrap(), before);
}
