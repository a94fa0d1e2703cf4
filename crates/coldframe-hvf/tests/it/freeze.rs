//! Freeze, diff, thaw: the guest ends as the one that was never stopped.

use std::path::Path;
use std::sync::atomic::Ordering;

use coldframe_dirty::DirtyBitmap;
use coldframe_envelope::Producer;
use coldframe_hvf::{HvfDirty, HvfMachine, Watch};
use coldframe_mem::{CopyOptions, Target, Verify, restore_copy};
use coldframe_snapshot::{Chain, DirtyTracker, Freezer, Kind, Snapshot};
use coldframe_testkit::hvf::Host;
use coldframe_units::PageSize;

use crate::support::{END, End, Start, Vmm};

/// Boots a guest, takes a full snapshot and `diffs` diffs of it, each wherever it happens to be,
/// and runs it to its end.
pub fn record(vmm: &Vmm, dir: &Path, diffs: u64) -> (Vec<Snapshot>, Vec<End>) {
    let stage2 = vmm.stage2(Watch::DEFAULT);
    let page_size = PageSize::new(16 << 10).unwrap();
    let bitmap = DirtyBitmap::new(vmm.total(), page_size).unwrap();
    let mut tracker = DirtyTracker::new(bitmap, HvfDirty::new(&stage2), None);
    let producer = Producer::new("tests", "1").unwrap();
    let loops = |number: u64| number * (END / 2) / (diffs + 1) + 10;
    vmm.allowed.store(loops(0), Ordering::SeqCst);
    vmm.run(&stage2, Start::Boot, || {
        let mut snapshots: Vec<Snapshot> = Vec::new();
        for number in 0..=diffs {
            vmm.wait_for(loops(number) - 4);
            let freezer = Freezer::new(dir.join(number.to_string()), producer);
            let freezer = freezer.with_page_size(page_size);
            let capture = match snapshots.last() {
                None => freezer.begin(Kind::Full).unwrap(),
                Some(parent) => freezer.begin(Kind::Diff { parent }).unwrap(),
            };
            let parked = vmm.pause();
            let calls = vmm.calls();
            let machine = HvfMachine::new(&vmm.host, &calls, &parked);
            let frozen = capture.copy(&vmm.ram(), &mut tracker, &machine).unwrap();
            stage2.arm().unwrap();
            let next = if number < diffs {
                loops(number + 1)
            } else {
                END
            };
            vmm.allowed.store(next, Ordering::SeqCst);
            parked.resume();
            let snapshot = frozen.publish().unwrap();
            snapshots.push(snapshot);
        }
        snapshots
    })
}

/// Thaws a snapshot on another host and runs it to its end.
pub fn thaw(snapshot: &Snapshot, vcpus: u32, counter: u64) -> (Vec<End>, Vec<u8>) {
    let host = Host {
        counter,
        ..Host::default()
    };
    let vmm = Vmm::new(vcpus, host);
    let chain = Chain::of(Snapshot::open(snapshot.path()).unwrap(), &[]).unwrap();
    let options = CopyOptions {
        target: Target::Zeroed,
        verify: Verify::Yes,
    };
    restore_copy(&chain.memory().unwrap(), &vmm.ram(), options).unwrap();
    let stage2 = vmm.stage2(Watch::DEFAULT);
    let ends = vmm
        .thaw(&stage2, &snapshot.machine().unwrap(), None)
        .unwrap();
    (ends, vmm.memory())
}

fn check(vcpus: u32, diffs: u64) {
    let dir = coldframe_testkit::scratch::on_disk();
    let never_stopped = Vmm::new(vcpus, Host::default());
    let stage2 = never_stopped.stage2(Watch::DEFAULT);
    let ((), ends) = never_stopped.run(&stage2, Start::Boot, || ());
    let memory = never_stopped.memory();

    let recorded = Vmm::new(vcpus, Host::default());
    let (snapshots, recorded_ends) = record(&recorded, dir.path(), diffs);
    assert_eq!(recorded_ends, ends, "freezing changed the guest");
    assert!(recorded.memory() == memory, "freezing changed its memory");
    assert_eq!(snapshots.len() as u64, diffs + 1);
    // Behind and ahead of where the guest was frozen.
    for (snapshot, counter) in snapshots.iter().zip([77, u64::MAX / 3].into_iter().cycle()) {
        let (thawed, thawed_memory) = thaw(snapshot, vcpus, counter);
        assert_eq!(thawed, ends, "{}", snapshot.path().display());
        assert!(thawed_memory == memory, "{}", snapshot.path().display());
    }
    if vcpus == 1 {
        assert!(ends[0][2] > 0, "the guest took no interrupt");
    }
}

// Parity: A1
#[test]
fn one_vcpu_with_its_timer_ends_as_if_never_stopped() {
    check(1, 4);
}

// Parity: A1
#[test]
fn several_vcpus_end_as_if_never_stopped() {
    check(3, 3);
}

#[test]
fn a_diff_holds_what_was_written_and_not_all_memory() {
    let dir = coldframe_testkit::scratch::on_disk();
    let vmm = Vmm::new(1, Host::default());
    let (snapshots, _) = record(&vmm, dir.path(), 2);
    let bytes = |snapshot: &Snapshot| {
        let memory = snapshot.path().join(coldframe_snapshot::MEMORY);
        std::fs::metadata(memory).unwrap().len()
    };
    // The second region is never written to: a diff cannot have it.
    let written = crate::support::REGIONS[0].1;
    for diff in &snapshots[1..] {
        assert!(bytes(diff) < written + (64 << 10), "{}", bytes(diff));
    }
}
