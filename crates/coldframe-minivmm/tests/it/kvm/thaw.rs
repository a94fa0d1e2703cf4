//! State and RAM of a real guest, taken to another machine.

use coldframe_hv::{DirtySource, Machine};
use coldframe_minivmm::{
    Backing, Config, Event, Guest, MiniVm, Stops, Tracking, Workload, allocate_ram, ram_layout,
};
#[cfg(target_arch = "x86_64")]
use coldframe_minivmm::{Entry, Program};
#[cfg(target_arch = "x86_64")]
use coldframe_units::GuestAddr;
use coldframe_units::PageIndex;
use vm_memory::{Bytes, GuestAddress};

use super::{no_kvm, run, short};

/// A guest in long mode that asks for the wall clock once, at 0x200000, and uses the memory for
/// something else from then on: it keeps the nanoseconds where they are and clears the rest. After
/// twelve marks it prints `S` if both the memory and the register are as it left them, or else `D`.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const WALL_CLOCK: &[u8] = &[
    0xb9, 0x00, 0x4d, 0x56, 0x4b, 0xb8, 0x00, 0x00, 0x20, 0x00, 0x31, 0xd2,
    0x0f, 0x30, 0x48, 0x8b, 0x1c, 0x25, 0x00, 0x00, 0x20, 0x00, 0x8b, 0x34,
    0x25, 0x08, 0x00, 0x20, 0x00, 0x48, 0xc7, 0x04, 0x25, 0x00, 0x00, 0x20,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x31, 0xff, 0xff, 0xc7, 0x89, 0xf8, 0xe7,
    0xf0, 0xb9, 0x20, 0x4e, 0x00, 0x00, 0xff, 0xc9, 0x75, 0xfc, 0x83, 0xff,
    0x0c, 0x72, 0xec, 0xb9, 0x00, 0x4d, 0x56, 0x4b, 0x0f, 0x32, 0x2d, 0x00,
    0x00, 0x20, 0x00, 0x09, 0xd0, 0x48, 0x8b, 0x14, 0x25, 0x00, 0x00, 0x20,
    0x00, 0x09, 0xd0, 0x48, 0xc1, 0xea, 0x20, 0x09, 0xd0, 0x29, 0x34, 0x25,
    0x08, 0x00, 0x20, 0x00, 0x0b, 0x04, 0x25, 0x08, 0x00, 0x20, 0x00, 0xb8,
    0x53, 0x00, 0x00, 0x00, 0x74, 0x05, 0xb8, 0x44, 0x00, 0x00, 0x00, 0x66,
    0xba, 0xf8, 0x03, 0xee, 0x31, 0xdb, 0x31, 0xf6, 0xc7, 0x04, 0x25, 0x08,
    0x00, 0x20, 0x00, 0x00, 0x00, 0x00, 0x00, 0xb9, 0x00, 0x4d, 0x56, 0x4b,
    0x31, 0xc0, 0x31, 0xd2, 0x0f, 0x30, 0xe6, 0xf4, 0xf4,
];

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
    let state = vm.save().unwrap();
    let mut thawed = MiniVm::for_state(&state, Tracking::Off, ram).unwrap();
    let accepted = thawed.compare(&state).accept(&[]).unwrap();
    let generation = thawed.restore(&accepted).unwrap().generation();
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

#[test]
#[cfg(target_arch = "x86_64")]
fn the_wall_clock_of_a_thawed_guest_is_not_written_anew() {
    if no_kvm() {
        return;
    }
    let mut config = short(Workload::Hash);
    config.program = Program::Flat {
        bytes: WALL_CLOCK.to_vec(),
        load_at: GuestAddr::new(0x10_0000),
        entry: Entry::Long,
    };
    let uninterrupted = run(&config);
    assert_eq!(uninterrupted.1, b"S");
    let mut vm = MiniVm::boot(&config).unwrap();
    let mut marks = 0;
    while let Event::Mark(_) = vm.run_until_event(Stops::MARKS).unwrap() {
        marks += 1;
        let mut thawed = thaw(&vm, &config);
        assert!(read_ram(&thawed) == read_ram(&vm), "at mark {marks}");
        assert_eq!(thawed.save().unwrap().vcpus[0].msrs[&0x11], 0x20_0000);
        let event = thawed.run_until_event(Stops::NONE).unwrap();
        assert!(matches!(event, Event::Ended(_)), "{event:?}");
        let end = (thawed.end_state().unwrap(), thawed.console());
        assert_eq!(end, uninterrupted, "at mark {marks}");
    }
    assert_eq!(marks, 12);
}
