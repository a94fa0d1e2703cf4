//! Every payload ends in one state, whatever lies behind its RAM.

use std::collections::BTreeSet;

use coldframe_minivmm::{Backing, Config, Guest, MiniVm, Workload};
use coldframe_units::ByteLen;

use super::{no_kvm, run, short};

#[test]
fn every_workload_ends_the_same_each_time() {
    if no_kvm() {
        return;
    }
    let mut ends = BTreeSet::new();
    for workload in Workload::ALL {
        let config = short(workload);
        let (end, console) = run(&config);
        assert!(console.ends_with(b"END\n"), "{workload}");
        assert_eq!(run(&config), (end.clone(), console), "{workload}");
        assert!(ends.insert(end.to_string()), "{workload} ends as another");
    }
}

#[test]
fn memfd_and_anonymous_ram_end_the_same() {
    if no_kvm() {
        return;
    }
    let anonymous = short(Workload::Zeroing);
    let memfd = Config {
        backing: Backing::Memfd,
        ..anonymous.clone()
    };
    assert_eq!(run(&anonymous), run(&memfd));
}

#[test]
fn another_seed_ends_in_other_ram_registers_and_console() {
    if no_kvm() {
        return;
    }
    let one = short(Workload::Hash);
    let mut other = one.clone();
    if let coldframe_minivmm::Program::Workload(_, parameters) = &mut other.program {
        parameters.seed += 1;
    }
    let ((one, _), (other, _)) = (run(&one), run(&other));
    assert_ne!(one.ram_blake3, other.ram_blake3);
    assert_ne!(one.regs_blake3, other.regs_blake3);
    assert_ne!(one.console_blake3, other.console_blake3);
}

// Parity: D21
#[test]
fn ram_on_both_sides_of_the_hole_is_used() {
    if no_kvm() {
        return;
    }
    let mut config = Config::for_workload(Workload::Random, ByteLen::new(3328 << 20), 3);
    if let coldframe_minivmm::Program::Workload(_, parameters) = &mut config.program {
        parameters.rounds = 16;
    }
    let mut vm = MiniVm::boot(&config).unwrap();
    vm.run_until_event(coldframe_minivmm::Stops::NONE).unwrap();
    let mut touched = 0;
    for page in 0..(256 << 20) / 4096 {
        let mut word = [0; 4096];
        let at = vm_memory::GuestAddress((4 << 30) + page * 4096);
        vm_memory::Bytes::read_slice(vm.memory(), &mut word, at).unwrap();
        touched += u64::from(word.iter().any(|byte| *byte != 0));
    }
    // 512 touches over 3.25 GiB: a thirteenth of them, by chance.
    assert!((10..100).contains(&touched), "{touched} pages");
}
