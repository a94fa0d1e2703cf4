//! Whatever fails, and wherever: the dirty pages are back, and nothing is left on disk.

use std::path::Path;

use coldframe_dirty::DirtyBitmap;
use coldframe_hv::DeviceState;
use coldframe_snapshot::{DirtyTracker, Freezer, Kind, Snapshot, SnapshotError};
use coldframe_testkit::child;
use coldframe_units::{ByteLen, PageSize};

use crate::support::{Home, PAGE, Source, Vm, assert_sound, names, producer, thawed_memory};

/// A guest with a full snapshot behind it and three pages dirty since.
fn dirtied(home: &Home) -> (Vm, Snapshot) {
    let mut vm = Vm::new(256);
    vm.fill(9, 9);
    let full = vm.full(&home.at("full"));
    for page in [1, 9, 200] {
        vm.fill(page, 0x77);
    }
    assert_eq!(vm.bitmap.count(), 3);
    (vm, full)
}

/// Nothing is lost: the pages are dirty still, and the next diff has them.
#[track_caller]
fn check_nothing_lost(home: &Home, mut vm: Vm, full: &Snapshot) {
    assert_eq!(home.names(), ["full"]);
    assert_eq!(vm.bitmap.count(), 3);
    vm.cpu.fails = false;
    vm.dirty.source_mut().fails = false;
    let next = vm.diff(&home.at("next"), full);
    assert_eq!(vm.bitmap.count(), 0);
    assert!(thawed_memory(next.path()) == vm.read());
}

// Parity: F15
#[test]
fn a_machine_that_cannot_be_saved_loses_no_dirty_page() {
    let home = Home::new();
    let (mut vm, full) = dirtied(&home);
    vm.cpu.fails = true;
    let error = vm.freeze(&home.at("diff"), Kind::Diff { parent: &full });
    assert!(matches!(error, Err(SnapshotError::SaveMachine(_))));
    check_nothing_lost(&home, vm, &full);
}

// Parity: F15
#[test]
fn a_harvest_that_fails_loses_no_dirty_page() {
    let home = Home::new();
    let (mut vm, full) = dirtied(&home);
    vm.dirty.source_mut().fails = true;
    let error = vm.freeze(&home.at("diff"), Kind::Diff { parent: &full });
    assert!(matches!(error, Err(SnapshotError::HarvestDirty(_))));
    check_nothing_lost(&home, vm, &full);
}

// Parity: F19
#[test]
fn a_device_that_is_there_twice_is_refused_before_anything_is_taken() {
    let home = Home::new();
    let (mut vm, full) = dirtied(&home);
    let device = DeviceState {
        kind: "net".into(),
        instance: 1,
        version: 1,
        bytes: vec![1],
    };
    let capture = Freezer::new(home.at("diff"), producer())
        .begin(Kind::Diff { parent: &full })
        .unwrap();
    let devices = vec![device.clone(), device];
    let error = capture
        .with_devices(devices)
        .copy(&vm.memory, &mut vm.dirty, &vm.cpu);
    assert!(matches!(error, Err(SnapshotError::State(_))));
    check_nothing_lost(&home, vm, &full);
}

// Parity: D14, F9
#[test]
fn a_capture_that_is_dropped_leaves_nothing() {
    let home = Home::new();
    let (mut vm, full) = dirtied(&home);
    let kind = Kind::Diff { parent: &full };
    let capture = Freezer::new(home.at("diff"), producer()).begin(kind);
    assert_eq!(home.names().len(), 2);
    drop(capture.unwrap());
    assert_eq!(home.names(), ["full"]);
    let capture = Freezer::new(home.at("diff"), producer()).begin(kind);
    let frozen = capture
        .unwrap()
        .copy(&vm.memory, &mut vm.dirty, &vm.cpu)
        .unwrap();
    assert_eq!(vm.bitmap.count(), 0);
    // Written while the snapshot waits to be published: stays, whatever becomes of it.
    vm.fill(9, 0x78);
    drop(frozen);
    check_nothing_lost(&home, vm, &full);
}

// Parity: F15
#[test]
fn pages_written_before_publish_stay_dirty_after_it() {
    let home = Home::new();
    let (mut vm, full) = dirtied(&home);
    let capture = Freezer::new(home.at("diff"), producer())
        .begin(Kind::Diff { parent: &full })
        .unwrap();
    let frozen = capture.copy(&vm.memory, &mut vm.dirty, &vm.cpu).unwrap();
    let then = vm.read();
    vm.fill(200, 1);
    vm.fill(201, 1);
    let diff = frozen.publish().unwrap();
    assert_eq!(vm.bitmap.count(), 2);
    assert!(thawed_memory(diff.path()) == then);
    let next = vm.diff(&home.at("next"), &diff);
    assert!(thawed_memory(next.path()) == vm.read());
}

// Parity: D1, F11
#[test]
fn two_captures_to_one_name_end_with_the_first() {
    let home = Home::new();
    let (mut vm, full) = dirtied(&home);
    let error = vm.freeze(&home.at("full"), Kind::Full).unwrap_err();
    assert!(matches!(error, SnapshotError::Storage(source) if source.is_exists()));

    // Both begin, one publishes: the other finds the name taken.
    let begin = || {
        Freezer::new(home.at("diff"), producer())
            .begin(Kind::Diff { parent: &full })
            .unwrap()
    };
    let (one, two) = (begin(), begin());
    let mut other = Vm::new(256);
    one.copy(&vm.memory, &mut vm.dirty, &vm.cpu)
        .unwrap()
        .publish()
        .unwrap();
    for page in [1, 9, 200] {
        vm.fill(page, 0x79);
    }
    let mut tracker = DirtyTracker::new(vm.bitmap.clone(), Source::default(), Some(full.id()));
    let frozen = two.copy(&vm.memory, &mut tracker, &other.cpu);
    let error = frozen.unwrap().publish().unwrap_err();
    assert!(matches!(error, SnapshotError::Storage(source) if source.is_exists()));
    assert_eq!(vm.bitmap.count(), 3);
    assert_eq!(home.names(), ["diff", "full"]);
    assert_sound(&home.at("diff"));
    other.full(&home.at("other"));
}

#[test]
fn a_missing_directory_is_an_error_before_the_pause() {
    let home = Home::new();
    let (vm, full) = dirtied(&home);
    let begun = Freezer::new(home.at("no/such/place"), producer()).begin(Kind::Full);
    assert!(matches!(begun, Err(SnapshotError::Storage(_))));
    check_nothing_lost(&home, vm, &full);
}

#[test]
fn a_diff_is_taken_against_the_last_snapshot_only() {
    let home = Home::new();
    let (mut vm, full) = dirtied(&home);
    let diff = vm.diff(&home.at("diff"), &full);
    vm.fill(3, 3);
    let error = vm.freeze(&home.at("next"), Kind::Diff { parent: &full });
    assert!(matches!(error, Err(SnapshotError::Baseline { .. })));
    assert_eq!(vm.bitmap.count(), 1);
    vm.diff(&home.at("next"), &diff);

    // A machine that was booted has no snapshot that a diff could be of.
    let mut booted = Vm::new(256);
    let error = booted.freeze(&home.at("of-nothing"), Kind::Diff { parent: &full });
    let Err(SnapshotError::Baseline { baseline, .. }) = error else {
        panic!("{error:?}");
    };
    assert_eq!(baseline, None);
}

// Parity: D20, F6
#[test]
fn a_bitmap_of_another_size_than_the_memory_is_refused() {
    let home = Home::new();
    let vm = Vm::new(256);
    let bitmap = DirtyBitmap::new(ByteLen::new(255 * PAGE), PageSize::SIZE_4K).unwrap();
    let mut dirty = DirtyTracker::new(bitmap, Source::default(), None);
    let capture = Freezer::new(home.at("full"), producer())
        .begin(Kind::Full)
        .unwrap();
    let error = capture.copy(&vm.memory, &mut dirty, &vm.cpu);
    let Err(SnapshotError::BitmapSize { bitmap, ram }) = error else {
        panic!("it was copied");
    };
    assert_eq!((bitmap, ram), (255 * PAGE, 256 * PAGE));
    assert!(home.names().is_empty());
}

// Parity: F6
#[test]
fn a_parent_of_another_memory_is_refused() {
    let home = Home::new();
    let (_, full) = dirtied(&home);
    let mut other = Vm::new(128);
    other.dirty = DirtyTracker::new(other.bitmap.clone(), Source::default(), Some(full.id()));
    let error = other.freeze(&home.at("diff"), Kind::Diff { parent: &full });
    assert!(matches!(error, Err(SnapshotError::Disagree { what, .. }) if what == "RAM layout"));
}

// Parity: D2, F15
#[test]
fn a_full_disk_leaves_no_snapshot_and_loses_no_dirty_page() {
    const INNER: &str = "COLDFRAME_TEST_FULL_DISK";
    const MOUNT: &str = "mount -t tmpfs -o size=256k tmpfs \"$0\" && exec \"$@\"";
    if let Some(disk) = std::env::var_os(INNER) {
        return on_a_full_disk(Path::new(&disk));
    }
    let home = Home::new();
    let Some(mut mounting) = child::mounting(MOUNT) else {
        return;
    };
    mounting
        .arg(home.path())
        .arg(std::env::current_exe().unwrap());
    mounting.args(["--exact"]);
    mounting.arg("failure::a_full_disk_leaves_no_snapshot_and_loses_no_dirty_page");
    let output = mounting.env(INNER, home.path()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

fn on_a_full_disk(disk: &Path) {
    let at = |name: &str| disk.join(name);
    // 256 KiB hold the full snapshot and its tables, never the 64 pages of the next.
    let mut vm = Vm::new(256);
    vm.fill(9, 9);
    let full = vm.full(&at("full"));
    let mut at_which_step = [0, 0];
    for count in 30..64 {
        for page in 0..count {
            vm.fill(page, 0x55);
        }
        let capture = Freezer::new(at("diff"), producer()).begin(Kind::Diff { parent: &full });
        let copied = capture.and_then(|capture| capture.copy(&vm.memory, &mut vm.dirty, &vm.cpu));
        let (step, error) = match copied {
            Err(error) => (0, error),
            Ok(frozen) => match frozen.publish() {
                Err(error) => (1, error),
                // It did fit: the next one has to begin where this one did.
                Ok(_) => {
                    std::fs::remove_dir_all(at("diff")).unwrap();
                    vm.dirty =
                        DirtyTracker::new(vm.bitmap.clone(), Source::default(), Some(full.id()));
                    continue;
                }
            },
        };
        at_which_step[step] += 1;
        assert!(!error.is_corrupt(), "{error}");
        assert_eq!(names(disk), ["full"], "{error}");
        assert_eq!(vm.bitmap.count(), count, "{error}");
    }
    assert!(at_which_step[0] > 0, "{at_which_step:?}");
    assert_sound(&at("full"));
    // With room again, the next diff has all pages that the failed ones gave back.
    let elsewhere = Home::new();
    let diff = vm.diff(&elsewhere.at("diff"), &full);
    assert_eq!(diff.manifest().parent().unwrap().id, full.id());
    std::fs::rename(at("full"), elsewhere.at("full")).unwrap_or_else(|_| {
        crate::support::copy_dir(&at("full"), &elsewhere.at("full"));
    });
    assert!(thawed_memory(diff.path()) == vm.read());
}
