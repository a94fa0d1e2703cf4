//! Both dirty sources against pages that are known to be written.

use coldframe_dirty::DirtyBitmap;
use coldframe_hv::{DirtySource, Machine};
use coldframe_kvm::{KvmDirty, Tracking};
use coldframe_testkit::require;
use coldframe_units::{ByteLen, PageSize};

use super::machine::{RAM_BYTES, TestVm, open};

const FIRST_PAGE: u64 = 16;
const STRIDE_PAGES: u64 = 3;

fn pages(bitmap: &DirtyBitmap) -> Vec<u64> {
    let runs = bitmap.runs();
    runs.flat_map(|run| run.start().get()..run.end().get())
        .collect()
}

fn harvest(source: &mut KvmDirty) -> Vec<u64> {
    let ram = ByteLen::new(RAM_BYTES as u64);
    let bitmap = DirtyBitmap::new(ram, PageSize::SIZE_4K).unwrap();
    source.harvest(&bitmap).unwrap();
    pages(&bitmap)
}

/// Pages that the guest writes with marks `from` to `to`.
fn written(from: u64, to: u64) -> Vec<u64> {
    (from..to)
        .map(|mark| FIRST_PAGE + mark * STRIDE_PAGES)
        .collect()
}

#[track_caller]
fn check_exact(tracking: Tracking) {
    let Some((mut vm, slots)) = TestVm::new(1, tracking) else {
        return;
    };
    let mut source = KvmDirty::new(slots, &vm.vcpus).unwrap();
    vm.boot(STRIDE_PAGES * 4096, 50);
    assert!(harvest(&mut source).is_empty(), "before the first run");
    for (from, to) in [(0, 7), (7, 8), (8, 30)] {
        assert!(!vm.run(0, u32::try_from(to - from).unwrap()));
        vm.complete();
        assert_eq!(harvest(&mut source), written(from, to));
    }
    assert!(vm.run(0, 1000));
    assert_eq!(harvest(&mut source), written(30, 50));
    // No table of the interrupt controller is in use: saving writes no page.
    vm.machine().save().unwrap();
    assert!(harvest(&mut source).is_empty(), "after the last harvest");
}

// Parity: K6
#[test]
fn the_log_has_exactly_the_pages_that_were_written() {
    check_exact(Tracking::Log);
}

// Parity: K6
#[test]
fn the_ring_has_exactly_the_pages_that_were_written() {
    let Some(kvm) = open() else {
        return;
    };
    let ring = kvm_bindings::KVM_CAP_DIRTY_LOG_RING_ACQ_REL;
    if kvm.check_extension_raw(ring.into()) > 0 {
        check_exact(Tracking::Ring { bytes: 65536 });
    } else {
        require::skipped("kvm-dirty-ring", "this kernel has no dirty ring");
    }
}
