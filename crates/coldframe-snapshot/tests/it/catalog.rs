//! The catalog of a directory: what it knows, what it keeps, and what it survives.

use std::fs;
use std::path::Path;

use coldframe_journal::kinds::CoreEntries;
use coldframe_journal::{JournalError, JournalReader, describe_core};
use coldframe_snapshot::Snapshot;
use coldframe_snapshot::catalog::{CATALOG, Catalog, CatalogError, read};
use coldframe_units::SnapshotId;

use crate::support::{Home, Vm};

/// `base`, and `next` built on it.
fn two(home: &Home) -> (Snapshot, Snapshot) {
    let mut vm = Vm::new(16);
    vm.fill(1, 1);
    let base = vm.full(&home.at("base"));
    vm.fill(2, 2);
    let next = vm.diff(&home.at("next"), &base);
    (base, next)
}

/// What happened, by the journal.
fn history(dir: &Path) -> Vec<String> {
    let mut journal = JournalReader::<CoreEntries>::open(&dir.join(CATALOG)).unwrap();
    let mut history = Vec::new();
    let end = journal
        .read_all(|entry| {
            history.push(describe_core(&entry).unwrap().name);
            Ok::<(), JournalError>(())
        })
        .unwrap();
    assert!(end.is_clean(), "{end}");
    history
}

fn names(dir: &Path) -> Vec<String> {
    let contents = read(dir).unwrap();
    let mut names: Vec<_> = contents
        .items
        .values()
        .map(|item| item.name.clone())
        .collect();
    names.sort();
    names
}

fn refused(result: Result<(), CatalogError>) -> CatalogError {
    result.unwrap_err()
}

#[test]
fn what_was_done_to_the_directories_is_noted_when_it_is_opened() {
    let home = Home::new();
    let (base, _) = two(&home);
    assert_eq!(names(home.path()), ["base", "next"]);
    assert!(!home.at(CATALOG).exists(), "reading made a catalog");
    drop(Catalog::open(home.path()).unwrap());
    assert_eq!(history(home.path()), ["published", "published"]);
    drop(Catalog::open(home.path()).unwrap());
    assert_eq!(history(home.path()).len(), 2, "noted twice");
    fs::rename(home.at("base"), home.at("first")).unwrap();
    fs::remove_dir_all(home.at("next")).unwrap();
    let catalog = Catalog::open(home.path()).unwrap();
    assert_eq!(catalog.items().len(), 1);
    assert_eq!(catalog.items()[&base.id()].name, "first");
    assert_eq!(history(home.path())[2..], ["renamed", "deleted"]);
}

#[test]
fn a_snapshot_with_children_stays() {
    let home = Home::new();
    let (base, next) = two(&home);
    let mut catalog = Catalog::open(home.path()).unwrap();
    let error = refused(catalog.delete(base.id()));
    assert!(matches!(error, CatalogError::HasChildren { .. }), "{error}");
    assert!(error.to_string().contains("next"), "{error}");
    assert!(home.at("base").exists());
    catalog.delete(next.id()).unwrap();
    catalog.delete(base.id()).unwrap();
    assert_eq!(home.names(), [CATALOG]);
    let nobody = SnapshotId::from_bytes([9; 16]);
    let error = refused(catalog.delete(nobody));
    assert!(matches!(error, CatalogError::Unknown { .. }), "{error}");
    let (events, noted) = (history(home.path()), ["deleted", "deleted"]);
    assert_eq!(events[2..], noted);
}

#[test]
fn pins_and_leases_outlive_the_process_and_keep_a_snapshot() {
    let home = Home::new();
    let (_, next) = two(&home);
    let id = next.id();
    let mut catalog = Catalog::open(home.path()).unwrap();
    catalog.pin(id, true).unwrap();
    catalog.lease(id, "restore 7", u64::MAX).unwrap();
    drop(catalog);
    assert!(read(home.path()).unwrap().items[&id].pinned);
    let mut catalog = Catalog::open(home.path()).unwrap();
    assert!(matches!(
        refused(catalog.delete(id)),
        CatalogError::Pinned { .. }
    ));
    catalog.pin(id, false).unwrap();
    let error = refused(catalog.delete(id));
    assert!(error.to_string().contains("restore 7"), "{error}");
    // Given back by one, and run out for the other.
    catalog.lease(id, "restore 7", 0).unwrap();
    catalog.lease(id, "restore 8", 1).unwrap();
    catalog.delete(id).unwrap();
    assert_eq!(names(home.path()), ["base"]);
}

#[test]
fn a_lost_catalog_is_made_again_from_the_directories() {
    let home = Home::new();
    two(&home);
    drop(Catalog::open(home.path()).unwrap());
    fs::remove_file(home.at(CATALOG)).unwrap();
    assert_eq!(names(home.path()), ["base", "next"]);
    assert_eq!(Catalog::open(home.path()).unwrap().items().len(), 2);
    assert_eq!(history(home.path()), ["published", "published"]);
}

#[test]
fn a_tail_cut_at_every_byte_of_the_last_event_costs_that_event_alone() {
    let home = Home::new();
    let (base, next) = two(&home);
    let mut catalog = Catalog::open(home.path()).unwrap();
    catalog.pin(base.id(), true).unwrap();
    let before = fs::metadata(home.at(CATALOG)).unwrap().len();
    catalog.pin(next.id(), true).unwrap();
    drop(catalog);
    let whole = fs::read(home.at(CATALOG)).unwrap();
    for cut in before as usize..whole.len() {
        fs::write(home.at(CATALOG), &whole[..cut]).unwrap();
        for items in [
            read(home.path()).unwrap().items,
            Catalog::open(home.path()).unwrap().items().clone(),
        ] {
            assert!(
                items[&base.id()].pinned && !items[&next.id()].pinned,
                "cut at {cut}"
            );
        }
        assert_eq!(fs::metadata(home.at(CATALOG)).unwrap().len(), before);
    }
}

#[test]
fn a_damaged_catalog_is_refused_with_its_place_and_rebuilt_beside_the_old_one() {
    let home = Home::new();
    let (base, _) = two(&home);
    let mut catalog = Catalog::open(home.path()).unwrap();
    catalog.pin(base.id(), true).unwrap();
    drop(catalog);
    // Flipped: whatever byte is written there may be the one that is there already.
    let mut bytes = fs::read(home.at(CATALOG)).unwrap();
    bytes[112 + 40] ^= 0xff;
    fs::write(home.at(CATALOG), bytes).unwrap();
    for error in [
        read(home.path()).unwrap().journal.unwrap(),
        Catalog::open(home.path()).map(|_| ()).unwrap_err(),
    ] {
        assert!(matches!(error, CatalogError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains("0x70"), "{error}");
    }
    let image = fs::read(home.at(CATALOG)).unwrap();
    let catalog = Catalog::rebuild(home.path()).unwrap();
    assert_eq!(catalog.items().len(), 2);
    assert!(
        !catalog.items()[&base.id()].pinned,
        "pins are lost, and that is said"
    );
    assert!(fs::read(home.at("catalog.damaged")).unwrap() == image);
    drop(catalog);
    // Not over a catalog that was put aside before.
    let error = Catalog::rebuild(home.path()).map(|_| ()).unwrap_err();
    assert!(matches!(error, CatalogError::Storage(_)), "{error}");
}

#[test]
fn a_catalog_is_changed_by_one_at_a_time() {
    let home = Home::new();
    two(&home);
    let catalog = Catalog::open(home.path()).unwrap();
    let error = Catalog::open(home.path()).map(|_| ()).unwrap_err();
    let CatalogError::Journal { source, .. } = &error else {
        panic!("{error}");
    };
    assert!(source.is_locked(), "{error}");
    assert_eq!(names(home.path()), ["base", "next"], "readers need no lock");
    drop(catalog);
    Catalog::open(home.path()).unwrap();
}
