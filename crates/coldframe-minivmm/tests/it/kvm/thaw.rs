//! State and RAM of a real guest, taken to another machine.

use coldframe_hv::{DirtySource, Machine};
use coldframe_minivmm::{
    Backing, Config, Event, Guest, MiniVm, Stops, Tracking, Workload, allocate_ram, ram_layout,
};
use coldframe_units::PageIndex;
use vm_memory::{Bytes, GuestAddress};

use super::{no_kvm, run, short};

/// All RAM of a machine of 16 MiB.
fn read_ram(vm: &MiniVm) -> Vec<u8> {
    let mut bytes = vec![0; 16 << 20];
    vm.memory().read_slice(&mut bytes, GuestAddress(0)).unwrap();
    bytes
}

/// A machine in the state of `vm`.
fn thaw(vm: &MiniVm, config: &Config) -> MiniVm {
    let ram = allocate_ram(&ram_layout(config.ram).unwrap(), Backing::Anonymous).unwrap();
    ram.write_slice(&read_ram(vm), GuestAddress(0)).unwrap();
    let mut thawed = MiniVm::with_memory(vm.shape(), Tracking::Off, ram).unwrap();
    let state = vm.save().unwrap();
    let accepted = thawed.compare(&state).accept(&[]).unwrap();
    let generation = thawed.restore(&state, accepted).unwrap().generation();
    assert_ne!(generation.as_bytes(), &[0; 16]);
    thawed.restore_device(&vm.device_state()).unwrap();
    thawed
}

#[test]
fn a_thawed_guest_ends_as_one_that_was_never_stopped() {
    if no_kvm() {
        return;
    }
    for workload in Workload::ALL {
        let config = short(workload);
        let uninterrupted = run(&config);
        let mut vm = MiniVm::boot(&config).unwrap();
        let mut marks = 0;
        while let Event::Mark(_) = vm.run_until_event(Stops::MARKS).unwrap() {
            marks += 1;
            if marks % 5 != 2 {
                continue;
            }
            let mut thawed = thaw(&vm, &config);
            assert_eq!(thawed.end_state().unwrap(), vm.end_state().unwrap());
            let event = thawed.run_until_event(Stops::NONE).unwrap();
            assert!(matches!(event, Event::Ended(_)), "{event:?}");
            let end = (thawed.end_state().unwrap(), thawed.console());
            assert_eq!(end, uninterrupted, "{workload} at mark {marks}");
        }
        assert!(marks >= 8, "{workload} made {marks} marks");
        assert_eq!((vm.end_state().unwrap(), vm.console()), uninterrupted);
    }
}

/// Every page that changes between two marks is told by `tracking`.
#[track_caller]
fn check_tracking(tracking: Tracking) {
    for workload in [Workload::Random, Workload::Zeroing, Workload::Smp] {
        let mut config = short(workload);
        config.tracking = tracking;
        let mut vm = MiniVm::boot(&config).unwrap();
        let mut written = vm.written();
        vm.run_until_event(Stops::MARKS).unwrap();
        for _ in 0..3 {
            written.harvest(vm.dirty()).unwrap();
            vm.dirty().take().commit();
            let before = read_ram(&vm);
            vm.run_until_event(Stops::MARKS).unwrap();
            written.harvest(vm.dirty()).unwrap();
            let after = read_ram(&vm);
            let pages = before.chunks(4096).zip(after.chunks(4096));
            for (page, (before, after)) in (0..).zip(pages) {
                let told = vm.dirty().is_dirty(PageIndex::new(page));
                assert!(
                    told || before == after,
                    "{tracking:?} {workload}: page {page}"
                );
            }
            let told = vm.dirty().count();
            assert!((1..2048).contains(&told), "{workload}: {told} pages");
        }
    }
}

#[test]
fn the_dirty_log_tells_every_page_written() {
    if !no_kvm() {
        check_tracking(Tracking::Log);
    }
}

#[test]
fn the_dirty_ring_tells_every_page_written() {
    if !no_kvm() {
        // Large enough not to run full between two marks.
        check_tracking(Tracking::Ring { bytes: 1 << 18 });
    }
}
