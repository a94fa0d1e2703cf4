//! Devices that write while a capture is under way: no write is lost for the diffs to come.

use std::sync::atomic::{AtomicBool, Ordering};

use coldframe_snapshot::Kind;
use coldframe_testkit::rng::Rng;
use vm_memory::{Bytes, GuestAddress};

use crate::support::{Home, PAGE, Vm, assert_sound, thawed_memory};

#[test]
fn a_write_beside_a_capture_is_in_this_snapshot_or_in_the_next() {
    const PAGES: u64 = 512;
    let home = Home::new();
    let mut vm = Vm::new(PAGES);
    let stop = AtomicBool::new(false);
    let memory = vm.memory.clone();
    let last = std::thread::scope(|scope| {
        for seed in 0..2 {
            let (memory, stop) = (&memory, &stop);
            scope.spawn(move || {
                let mut rng = Rng::new(seed);
                while !stop.load(Ordering::Relaxed) {
                    // Across page boundaries too, as descriptors come.
                    let at = GuestAddress(rng.below(PAGES * PAGE - 64));
                    memory.write_slice(&rng.bytes(64), at).unwrap();
                }
            });
        }
        let mut last = vm.full(&home.at("full"));
        for step in 0..5 {
            last = vm.diff(&home.at(&format!("diff-{step}")), &last);
        }
        stop.store(true, Ordering::Relaxed);
        last
    });
    for name in home.names() {
        assert_sound(&home.at(&name));
    }
    let end = vm.freeze(&home.at("end"), Kind::Diff { parent: &last });
    assert!(thawed_memory(end.unwrap().path()) == vm.read());
}
