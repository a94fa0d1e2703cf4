//! Captures that overlap: one is still being published when the next is copied.

use std::path::Path;
use std::thread;

use coldframe_dirty::DirtyBitmap;
use coldframe_snapshot::{AsParent, Freezer, Frozen, Kind, Snapshot, SnapshotError, Unpublished};
use coldframe_units::{ByteLen, PageSize, RamOffset};

use crate::support::{Home, PAGE, Vm, assert_sound, producer, thawed_memory};

/// A guest with a full snapshot behind it.
fn started(home: &Home) -> (Vm, Snapshot) {
    let mut vm = Vm::new(16);
    vm.fill(1, 1);
    let full = vm.full(&home.at("full"));
    (vm, full)
}

fn copy(vm: &mut Vm, dest: &Path, kind: Kind<'_>) -> Result<Frozen, SnapshotError> {
    let capture = Freezer::new(dest, producer()).begin(kind)?;
    capture.copy(&vm.memory, &mut vm.dirty, &vm.cpu)
}

#[track_caller]
fn copied(vm: &mut Vm, dest: &Path, parent: &dyn AsParent) -> Frozen {
    copy(vm, dest, Kind::Diff { parent }).unwrap()
}

#[track_caller]
fn assert_is(snapshot: &Snapshot, memory: &[u8]) {
    assert_sound(snapshot.path());
    assert!(thawed_memory(snapshot.path()) == memory);
}

#[test]
fn a_diff_on_a_published_parent_is_refused_while_a_newer_capture_is_in_flight() {
    let home = Home::new();
    let (mut vm, full) = started(&home);
    vm.fill(1, 0x11);
    let first = copied(&mut vm, &home.at("first"), &full);
    vm.fill(2, 0x22);
    let error = copy(&mut vm, &home.at("second"), Kind::Diff { parent: &full }).unwrap_err();
    let SnapshotError::InFlight { newer, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(*newer, home.at("first"));
    assert_eq!(vm.bitmap.count(), 1, "nothing was taken");
    // Once it is out of the way, whichever way, the next diff has its pages.
    drop(first);
    let second = vm.diff(&home.at("second"), &full);
    assert_is(&second, &vm.read());
}

#[test]
fn a_diff_on_an_unpublished_capture_is_published_after_it() {
    let home = Home::new();
    let (mut vm, full) = started(&home);
    vm.fill(1, 0x11);
    let first = copied(&mut vm, &home.at("first"), &full);
    let then_first = vm.read();
    vm.fill(2, 0x22);
    let second = copied(&mut vm, &home.at("second"), &first);
    let then_second = vm.read();
    assert!(matches!(
        second.check_parent(),
        Err(SnapshotError::ParentUnpublished { .. })
    ));
    vm.fill(3, 0x33);
    let third = copied(&mut vm, &home.at("third"), &second.handle());
    assert_eq!(vm.dirty.in_flight().len(), 3);
    assert_eq!(vm.bitmap.count(), 0);
    let first = first.publish().unwrap();
    let second = second.publish().unwrap();
    let third = third.publish().unwrap();
    assert_eq!(vm.dirty.baseline(), Some(third.id()));
    assert_is(&first, &then_first);
    assert_is(&second, &then_second);
    assert_is(&third, &vm.read());
    vm.fill(4, 4);
    let next = vm.diff(&home.at("next"), &third);
    assert_is(&next, &vm.read());
}

#[test]
fn a_capture_that_is_published_before_its_parent_is_refused_and_gives_its_pages_back() {
    let home = Home::new();
    let (mut vm, full) = started(&home);
    vm.fill(1, 0x11);
    let first = copied(&mut vm, &home.at("first"), &full);
    vm.fill(2, 0x22);
    let second = copied(&mut vm, &home.at("second"), &first);
    let error = second.publish().unwrap_err();
    assert!(
        matches!(error, SnapshotError::ParentUnpublished { .. }),
        "{error}"
    );
    assert_eq!(
        home.names().iter().filter(|name| *name == "second").count(),
        0
    );
    let first = first.publish().unwrap();
    let next = vm.diff(&home.at("next"), &first);
    assert_is(&next, &vm.read());
}

#[test]
fn what_fails_takes_its_descendants_with_it_and_all_pages_go_back() {
    let home = Home::new();
    let (mut vm, full) = started(&home);
    vm.fill(1, 0x11);
    let first = copied(&mut vm, &home.at("first"), &full);
    vm.fill(2, 0x22);
    let second = copied(&mut vm, &home.at("second"), &first);
    vm.fill(3, 0x33);
    let third = copied(&mut vm, &home.at("third"), &second);
    let handle = first.handle();
    drop(first);
    assert_eq!(
        vm.bitmap.count(),
        3,
        "at once, not when the children are dropped"
    );
    assert!(matches!(
        copy(&mut vm, &home.at("no"), Kind::Diff { parent: &handle }),
        Err(SnapshotError::ParentFailed { .. })
    ));
    // The next diff need not wait for them.
    let next = vm.diff(&home.at("next"), &full);
    assert_is(&next, &vm.read());
    for doomed in [second, third] {
        let error = doomed.publish().unwrap_err();
        assert!(
            matches!(error, SnapshotError::ParentFailed { .. }),
            "{error}"
        );
    }
    assert_eq!(vm.bitmap.count(), 0, "given back once");
    assert_eq!(home.names(), ["full", "next"]);
}

#[test]
fn a_baseline_never_moves_back() {
    let home = Home::new();
    let (mut vm, full) = started(&home);
    vm.fill(1, 0x11);
    let diff = copied(&mut vm, &home.at("diff"), &full);
    let then = vm.read();
    vm.fill(2, 0x22);
    let whole = copy(&mut vm, &home.at("whole"), Kind::Full).unwrap();
    let whole = whole.publish().unwrap();
    let handle = diff.handle();
    let error = copy(&mut vm, &home.at("no"), Kind::Diff { parent: &handle });
    assert!(matches!(error, Err(SnapshotError::Baseline { .. })));
    let diff = diff.publish().unwrap();
    assert_is(&diff, &then);
    assert_eq!(vm.dirty.baseline(), Some(whole.id()));
    vm.fill(3, 0x33);
    for parent in [&handle as &dyn AsParent, &diff] {
        let error = copy(&mut vm, &home.at("no"), Kind::Diff { parent }).unwrap_err();
        assert!(matches!(error, SnapshotError::Baseline { .. }), "{error}");
    }
    let next = vm.diff(&home.at("next"), &whole);
    assert_is(&next, &vm.read());
}

#[test]
fn a_late_failure_beside_a_newer_full_snapshot_loses_nothing() {
    let home = Home::new();
    let (mut vm, full) = started(&home);
    vm.fill(1, 0x11);
    let diff = copied(&mut vm, &home.at("diff"), &full);
    vm.fill(2, 0x22);
    let whole = copy(&mut vm, &home.at("whole"), Kind::Full).unwrap();
    drop(diff);
    drop(whole);
    let next = vm.diff(&home.at("next"), &full);
    assert_is(&next, &vm.read());
}

#[test]
fn a_pipeline_of_threads_publishes_each_after_its_parent() {
    let home = Home::new();
    let (mut vm, full) = started(&home);
    let mut expected = Vec::new();
    thread::scope(|scope| {
        let mut last: Option<Unpublished> = None;
        for step in 0..8_u64 {
            vm.fill(step, 0x40 + step as u8);
            let dest = home.at(&format!("step-{step}"));
            let frozen = match &last {
                None => copied(&mut vm, &dest, &full),
                Some(parent) => copied(&mut vm, &dest, parent),
            };
            expected.push((dest, vm.read()));
            let parent = last.replace(frozen.handle());
            // They end in any order: each waits for its parent.
            scope.spawn(move || {
                if let Some(parent) = parent {
                    parent.wait().unwrap();
                }
                frozen.publish().unwrap();
            });
        }
    });
    for (dest, memory) in expected {
        assert_is(&Snapshot::open(dest).unwrap(), &memory);
    }
}

#[test]
fn an_unpublished_capture_of_another_machine_is_no_parent() {
    let home = Home::new();
    let (mut vm, full) = started(&home);
    let frozen = copied(&mut vm, &home.at("first"), &full);
    let mut other = Vm::new(16);
    let error = copy(&mut other, &home.at("no"), Kind::Diff { parent: &frozen }).unwrap_err();
    assert!(matches!(error, SnapshotError::Baseline { .. }), "{error}");
}

#[test]
fn discarded_pages_are_zero_whatever_memory_holds_until_they_are_written() {
    let home = Home::new();
    let mut vm = Vm::new(64);
    for page in 0..64 {
        vm.fill(page, 9);
    }
    let full = vm.full(&home.at("full"));
    vm.fill(4, 10);
    let discard = |vm: &mut Vm, page: u64, count: u64| {
        let (offset, len) = (RamOffset::new(page * PAGE), ByteLen::new(count * PAGE));
        vm.dirty.discard(offset, len).unwrap();
    };
    // Memory still holds 9 (as after a discard of a mapped snapshot), 4 was dirty before.
    discard(&mut vm, 3, 40);
    vm.fill(7, 7);
    let mut expected = vm.read();
    let zero = |expected: &mut Vec<u8>, pages: std::ops::Range<usize>| {
        expected[pages.start * 4096..pages.end * 4096].fill(0);
    };
    zero(&mut expected, 3..7);
    zero(&mut expected, 8..43);
    // Through failures too.
    let frozen = copied(&mut vm, &home.at("dropped"), &full);
    drop(frozen);
    let diff = vm.diff(&home.at("diff"), &full);
    assert_is(&diff, &expected);
    // It is a fact: a full snapshot says so too, and so does a diff that has nothing of it.
    let whole = vm.full(&home.at("whole"));
    assert_is(&whole, &expected);
    vm.fill(3, 3);
    expected[3 * 4096..4 * 4096].fill(3);
    let last = vm.diff(&home.at("last"), &whole);
    assert_is(&last, &expected);
}

#[test]
fn a_range_that_cuts_pages_discards_whole_ones_only_and_one_outside_is_refused() {
    let home = Home::new();
    let mut vm = Vm::new(16);
    for page in 0..16 {
        vm.fill(page, 9);
    }
    let full = vm.full(&home.at("full"));
    let at = |offset, len| (RamOffset::new(offset), ByteLen::new(len));
    let (offset, len) = at(PAGE + 100, 3 * PAGE);
    vm.dirty.discard(offset, len).unwrap();
    let mut expected = vm.read();
    expected[2 * 4096..4 * 4096].fill(0);
    let diff = vm.diff(&home.at("diff"), &full);
    assert_is(&diff, &expected);
    let (offset, len) = at(15 * PAGE, PAGE + 1);
    let error = vm.dirty.discard(offset, len).unwrap_err();
    assert!(matches!(error, SnapshotError::DirtyPages(_)), "{error}");
    vm.dirty.source_mut().fails = true;
    let error = vm.dirty.discard(RamOffset::ZERO, ByteLen::new(PAGE));
    assert!(matches!(error, Err(SnapshotError::HarvestDirty(_))));
    vm.dirty.source_mut().fails = false;
    assert_is(&vm.diff(&home.at("next"), &diff), &expected);
}

#[test]
fn memory_that_is_plugged_in_is_dirty_and_a_diff_over_another_layout_is_refused() {
    let bitmap = |ram: u64| {
        let size = PageSize::SIZE_4K;
        DirtyBitmap::with_capacity(ByteLen::new(ram * PAGE), ByteLen::new(64 * PAGE), size).unwrap()
    };
    let home = Home::new();
    let mut vm = Vm::over(bitmap(16));
    let full = vm.full(&home.at("full"));
    vm.bitmap.resize(ByteLen::new(32 * PAGE)).unwrap();
    vm.grow(32);
    vm.fill(20, 5);
    let error = vm
        .freeze(&home.at("no"), Kind::Diff { parent: &full })
        .unwrap_err();
    assert!(matches!(error, SnapshotError::Disagree { .. }), "{error}");
    let grown = vm.full(&home.at("grown"));
    assert_is(&grown, &vm.read());
    // Unplugged and plugged again: the layout is that of `grown` again, the contents are not.
    for pages in [16, 32] {
        vm.bitmap.resize(ByteLen::new(pages * PAGE)).unwrap();
        vm.grow(pages);
    }
    vm.fill(21, 6);
    let diff = vm.diff(&home.at("diff"), &grown);
    assert_is(&diff, &vm.read());
}
