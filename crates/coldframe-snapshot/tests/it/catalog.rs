//! The catalog of a directory: what it knows, what it keeps, and what it survives.

use std::fs;
use std::path::Path;

use coldframe_journal::kinds::{CoreEntries, Published};
use coldframe_journal::{JournalError, JournalReader, describe_core};
use coldframe_snapshot::catalog::{CATALOG, Catalog, CatalogError, read};
use coldframe_snapshot::{Kind, Snapshot, SnapshotError};
use coldframe_units::SnapshotId;

use crate::support::{Home, Vm, copy_dir};

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

// Spec: CAT-1, CAT-2
// Parity: F68
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

// Spec: CAT-5, CAT-6
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

// Spec: CAT-1
// Parity: F68
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

// Spec: CAT-2
// Parity: F68
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

// Spec: CAT-2
// Parity: F68
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

// Spec: CAT-5
#[test]
fn a_copy_whose_files_are_links_is_no_other_copy() {
    let home = Home::new();
    let (base, _) = two(&home);
    let copy = home.at("copy");
    fs::create_dir(&copy).unwrap();
    fs::copy(home.at("base/manifest"), copy.join("manifest")).unwrap();
    for name in ["memory", "state"] {
        if home.at("base").join(name).exists() {
            std::os::unix::fs::symlink(home.at("base").join(name), copy.join(name)).unwrap();
        }
    }
    let mut catalog = Catalog::open(home.path()).unwrap();
    let error = refused(catalog.delete_named("base".as_ref()));
    assert!(matches!(error, CatalogError::HasChildren { .. }), "{error}");
    assert!(base.path().exists());
    catalog.delete_named("copy".as_ref()).unwrap();
}

// Spec: CAT-7, CAT-9
#[test]
fn a_child_in_another_directory_is_noted_by_its_path_before_it_is_published() {
    let home = Home::new();
    let (parents, children) = (home.at("parents"), home.at("child%\u{fc}ren"));
    fs::create_dir(&parents).unwrap();
    fs::create_dir(&children).unwrap();
    let mut vm = Vm::new(16);
    vm.fill(1, 1);
    let base = vm.full(&parents.join("base"));
    // What stands in the way of the note: nothing is published without it.
    fs::write(parents.join(".children"), b"").unwrap();
    vm.fill(2, 2);
    let kind = Kind::Diff { parent: &base };
    let error = vm.freeze(&children.join("next"), kind).unwrap_err();
    assert!(matches!(error, SnapshotError::NoteChild { .. }), "{error}");
    assert!(!children.join("next").exists());
    fs::remove_file(parents.join(".children")).unwrap();

    // The parent's directory needs no catalog, and another process may have it.
    let catalog = Catalog::open(&parents).unwrap();
    vm.diff(&children.join("next"), &base);
    drop(catalog);
    let dir = children.canonicalize().unwrap();
    assert_eq!(
        read(&parents).unwrap().items[&base.id()].children_in,
        [dir].into()
    );
    assert_eq!(fs::read_dir(parents.join(".children")).unwrap().count(), 1);
}

// Spec: CAT-8
#[test]
fn a_note_that_cannot_be_read_keeps_its_parent() {
    let home = Home::new();
    let (parents, children) = (home.at("parents"), home.at("children"));
    fs::create_dir(&parents).unwrap();
    fs::create_dir(&children).unwrap();
    let mut vm = Vm::new(16);
    let base = vm.full(&parents.join("base"));
    let other = Vm::new(16).full(&parents.join("other"));
    vm.fill(1, 1);
    let child = vm.diff(&children.join("child"), &base);
    let notes = fs::read_dir(parents.join(".children")).unwrap();
    let note = notes.map(|entry| entry.unwrap().path()).next().unwrap();
    let sound = fs::read(&note).unwrap();
    let mut bytes = sound.clone();
    bytes[200] ^= 1;
    fs::remove_file(&note).unwrap();
    fs::write(&note, bytes).unwrap();
    let mut catalog = Catalog::open(&parents).unwrap();
    let error = catalog.delete(base.id()).unwrap_err();
    assert!(matches!(error, CatalogError::NoteUnread { .. }), "{error}");
    drop(catalog);
    // Under another name it may be of any parent; what is there can be read all the same.
    let odd = note.with_file_name("odd");
    fs::rename(&note, &odd).unwrap();
    assert!(matches!(
        Catalog::open(&parents),
        Err(CatalogError::List { .. })
    ));
    let contents = read(&parents).unwrap();
    assert_eq!(contents.items.len(), 2);
    assert!(contents.journal.is_some());
    fs::remove_file(&odd).unwrap();
    fs::write(&note, sound).unwrap();
    let mut catalog = Catalog::open(&parents).unwrap();
    assert!(catalog.delete(base.id()).is_err());
    catalog.delete(other.id()).unwrap();
    fs::remove_dir_all(child.path()).unwrap();
    Vm::new(16).full(&children.join("stranger"));
    catalog.delete(base.id()).unwrap();
    assert!(!note.exists(), "the note goes with the snapshot");
}

#[test]
fn a_manifest_of_a_far_future_is_catalogued_at_the_end_of_time() {
    let home = Home::new();
    let (base, _) = two(&home);
    let mut manifest = base.manifest().clone();
    manifest.id = SnapshotId::from_bytes([7; 16]);
    manifest.created.seconds = u64::MAX / 10;
    let (bytes, _) = manifest.encode().unwrap();
    let future = home.at("future");
    fs::create_dir(&future).unwrap();
    fs::write(future.join("manifest"), bytes).unwrap();
    drop(Catalog::open(home.path()).unwrap());
    let mut journal = JournalReader::<CoreEntries>::open(&home.at(CATALOG)).unwrap();
    let mut moments = Vec::new();
    journal
        .read_all(|entry| {
            moments.push(entry.decode::<Published>().unwrap().unix_ns);
            Ok::<(), JournalError>(())
        })
        .unwrap();
    assert_eq!(moments.len(), 3);
    assert_eq!(moments.iter().max(), Some(&u64::MAX));
}

// Spec: CAT-5, CAT-13
#[test]
fn copies_that_are_deleted_together_are_no_reason_to_delete_either() {
    let home = Home::new();
    let (base, child) = two(&home);
    for name in ["second", "third"] {
        copy_dir(base.path(), &home.at(name));
    }
    fs::remove_file(home.at("third").join("memory")).unwrap();
    let base_name = base.path().file_name().unwrap().to_owned();
    let mut catalog = Catalog::open(home.path()).unwrap();
    let error = catalog
        .delete_damaged(&[&base_name, "second".as_ref()])
        .unwrap_err();
    assert!(matches!(error, CatalogError::CopyDamaged { .. }), "{error}");
    assert!(base.path().exists() && home.at("second").exists());
    // Named twice is named once.
    catalog
        .delete_damaged(&["third".as_ref(), "third".as_ref()])
        .unwrap();
    catalog.delete_damaged(&["second".as_ref()]).unwrap();
    assert!(child.path().exists() && base.path().exists());
}

// Spec: CAT-3, CAT-6
#[test]
fn what_leads_to_nothing_may_lead_to_a_child() {
    let home = Home::new();
    let (base, child) = two(&home);
    drop(Catalog::open(home.path()).unwrap());
    let child_name = child.path().file_name().unwrap().to_owned();
    let base_name = base.path().file_name().unwrap().to_owned();
    let delete = || Catalog::open(home.path()).unwrap().delete_named(&base_name);
    // On a volume that is not mounted now: its mount point is here, and empty.
    let (volume, hidden) = (Home::new(), Home::new());
    let away = volume.at("volume").join("child");
    fs::create_dir(hidden.at("volume")).unwrap();
    fs::rename(child.path(), hidden.at("volume").join("child")).unwrap();
    fs::create_dir(child.path()).unwrap();
    let error = delete().unwrap_err();
    assert!(matches!(error, CatalogError::Unreadable { .. }), "{error}");
    // The same by a link.
    fs::remove_dir(child.path()).unwrap();
    std::os::unix::fs::symlink(&away, child.path()).unwrap();
    let is_unknown = || {
        let error = delete().unwrap_err();
        assert!(matches!(error, CatalogError::LinkUnknown { .. }), "{error}");
        assert!(
            error.to_string().contains(&*child_name.to_string_lossy()),
            "{error}"
        );
    };
    is_unknown();
    fs::create_dir(volume.at("volume")).unwrap();
    is_unknown();
    fs::remove_dir(volume.at("volume")).unwrap();
    fs::rename(hidden.at("volume"), volume.at("volume")).unwrap();
    let error = delete().unwrap_err();
    assert!(matches!(error, CatalogError::HasChildren { .. }), "{error}");
}

// Spec: CAT-10
#[test]
fn a_manifest_at_the_end_of_a_link_that_leads_nowhere_is_not_gone() {
    let home = Home::new();
    let (_, child) = two(&home);
    let manifest = child.path().join("manifest");
    let away = home.at("away");
    fs::rename(&manifest, &away).unwrap();
    std::os::unix::fs::symlink(home.at("volume"), &manifest).unwrap();
    let name = child.path().file_name().unwrap().to_owned();
    let mut catalog = Catalog::open(home.path()).unwrap();
    let error = catalog.delete_damaged(&[&name]).unwrap_err();
    assert!(matches!(error, CatalogError::Unread { .. }), "{error}");
    assert!(child.path().join("memory").exists());
}

// Spec: CAT-3
#[test]
fn a_directory_of_another_use_under_a_known_name_is_no_snapshot() {
    let home = Home::new();
    let (base, child) = two(&home);
    drop(Catalog::open(home.path()).unwrap());
    fs::remove_dir_all(child.path()).unwrap();
    fs::create_dir(child.path()).unwrap();
    fs::write(child.path().join("thesis.txt"), "the only copy").unwrap();
    let name = child.path().file_name().unwrap().to_owned();
    let mut catalog = Catalog::open(home.path()).unwrap();
    let error = catalog.delete_damaged(&[&name]).unwrap_err();
    assert!(matches!(error, CatalogError::NoSnapshot { .. }), "{error}");
    assert!(child.path().join("thesis.txt").exists());
    catalog.delete(base.id()).unwrap();
}

/// Exchanges the names of two directories.
fn exchange(home: &Home, one: &str, other: &str) {
    fs::rename(home.at(one), home.at("aside")).unwrap();
    fs::rename(home.at(other), home.at(one)).unwrap();
    fs::rename(home.at("aside"), home.at(other)).unwrap();
}

// Spec: CAT-12
#[test]
fn a_damaged_snapshot_is_not_told_by_its_name() {
    let home = Home::new();
    let mut vm = Vm::new(16);
    vm.fill(1, 1);
    let one = vm.full(&home.at("one"));
    vm.fill(2, 2);
    let two = vm.full(&home.at("two"));
    let mut catalog = Catalog::open(home.path()).unwrap();
    catalog.pin(one.id(), true).unwrap();
    drop(catalog);
    for name in ["one", "two"] {
        let manifest = home.at(name).join("manifest");
        fs::remove_file(&manifest).unwrap();
        fs::write(&manifest, b"rotten").unwrap();
    }
    exchange(&home, "one", "two");
    let mut catalog = Catalog::open(home.path()).unwrap();
    for name in ["one", "two"] {
        let error = refused(catalog.delete_damaged(&[name.as_ref()]));
        let CatalogError::MayBe { id, source, .. } = &error else {
            panic!("{error}");
        };
        assert_eq!(*id, one.id());
        assert!(matches!(**source, CatalogError::Pinned { .. }), "{source}");
    }
    // Unpinned by its id, which no directory has.
    catalog.pin(one.id(), false).unwrap();
    assert!(catalog.pin(two.id(), true).is_err());
    drop(catalog);
    let mut catalog = Catalog::open(home.path()).unwrap();
    catalog.delete_damaged(&["two".as_ref()]).unwrap();
    catalog.delete_damaged(&["one".as_ref()]).unwrap();
}

// Spec: CAT-12
#[test]
fn the_memory_file_tells_which_damaged_snapshot_has_the_children() {
    let (home, there) = (Home::new(), Home::new());
    let mut vm = Vm::new(16);
    vm.fill(1, 1);
    let parent = vm.full(&home.at("parent"));
    vm.fill(2, 2);
    let child = vm.diff(&there.at("child"), &parent);
    vm.full(&home.at("other"));
    drop(Catalog::open(home.path()).unwrap());
    for name in ["parent", "other"] {
        fs::remove_file(home.at(name).join("manifest")).unwrap();
    }
    exchange(&home, "parent", "other");
    let mut catalog = Catalog::open(home.path()).unwrap();
    let error = refused(catalog.delete_damaged(&["other".as_ref()]));
    assert!(matches!(error, CatalogError::HasChildren { .. }), "{error}");
    let dir = there.path().canonicalize().unwrap();
    // They are seen there: nobody is told to forget them.
    catalog
        .forget_lost_children_in("other".as_ref(), &dir)
        .unwrap();
    let error = refused(catalog.forget_children_in(parent.id(), &dir));
    assert!(matches!(error, CatalogError::HasChildren { .. }), "{error}");
    let error = refused(catalog.delete_damaged(&["other".as_ref()]));
    assert!(matches!(error, CatalogError::HasChildren { .. }), "{error}");
    catalog.delete_damaged(&["parent".as_ref()]).unwrap();
    fs::remove_dir_all(child.path()).unwrap();
    catalog
        .forget_lost_children_in("other".as_ref(), &dir)
        .unwrap();
    catalog.delete_damaged(&["other".as_ref()]).unwrap();
}
