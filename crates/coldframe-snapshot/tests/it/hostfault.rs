//! Every call to the host fails once while a snapshot is published: memory file, state, manifest.

use std::path::Path;

use coldframe_snapshot::catalog::Catalog;
use coldframe_snapshot::{Kind, Snapshot};
use coldframe_testkit::crash::{Work, fail_everywhere};
use coldframe_units::SnapshotId;

use crate::support::{Vm, assert_sound, thawed_memory};

const PAGES: u64 = 8;

/// A diff on top of a full snapshot.
struct Diff;

impl Work for Diff {
    type Input = (Vm, Snapshot);

    fn prepare(&mut self, dir: &Path) -> (Vm, Snapshot) {
        let mut vm = Vm::new(PAGES);
        vm.fill(2, 9);
        let full = vm.full(&dir.join("full"));
        for page in [1, 2, 5] {
            vm.fill(page, 0x77);
        }
        (vm, full)
    }

    fn run(&mut self, dir: &Path, (vm, full): &mut (Vm, Snapshot)) -> bool {
        let kind = Kind::Diff { parent: full };
        vm.freeze(&dir.join("diff"), kind).is_ok()
    }

    fn check(&mut self, dir: &Path, (mut vm, full): (Vm, Snapshot), is_done: bool) {
        assert_sound(&dir.join("full"));
        let memory = vm.read();
        // It may be there unacknowledged, if its name could not be made durable: then it is whole.
        let is_there = dir.join("diff").exists();
        assert!(is_there || !is_done);
        if is_there {
            assert_sound(&dir.join("diff"));
            assert!(thawed_memory(&dir.join("diff")) == memory);
        }
        let entries = std::fs::read_dir(dir).unwrap().count();
        assert_eq!(entries, 1 + usize::from(is_there), "something was left");
        if !is_done {
            assert_eq!(vm.bitmap.count(), 3, "dirty pages are lost");
            let next = vm.diff(&dir.join("next"), &full);
            assert!(thawed_memory(next.path()) == memory);
        }
    }
}

#[test]
fn a_snapshot_that_cannot_be_published_loses_nothing_wherever_it_fails() {
    let failed = fail_everywhere(&mut Diff);
    assert!(failed.writes >= 3, "{failed:?}");
    // Three files, their directory, and the one above.
    assert_eq!(failed.syncs, 5);
}

/// A pin of a snapshot in the catalog.
struct Pin;

impl Work for Pin {
    type Input = (Catalog, SnapshotId);

    fn prepare(&mut self, dir: &Path) -> (Catalog, SnapshotId) {
        let full = Vm::new(PAGES).full(&dir.join("full"));
        (Catalog::open(dir).unwrap(), full.id())
    }

    fn run(&mut self, _: &Path, (catalog, id): &mut (Catalog, SnapshotId)) -> bool {
        catalog.pin(*id, true).is_ok()
    }

    fn check(&mut self, dir: &Path, (catalog, _): (Catalog, SnapshotId), is_done: bool) {
        drop(catalog);
        let catalog = Catalog::open(dir).unwrap();
        let pinned: Vec<bool> = catalog.items().values().map(|item| item.pinned).collect();
        // What was not acknowledged may have come through all the same.
        assert!(pinned == [true] || !is_done && pinned == [false]);
        assert_sound(&dir.join("full"));
    }
}

#[test]
fn a_pin_that_cannot_be_written_is_refused_and_the_catalog_goes_on() {
    let failed = fail_everywhere(&mut Pin);
    assert!(failed.writes > 0 && failed.syncs > 0, "{failed:?}");
}
