//! One thing that cannot be read, and all verbs: nothing that is needed is deleted, what does not
//! need it goes on, and it is named.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use coldframe_snapshot::catalog::{CATALOG, Catalog, CatalogError, read};
use coldframe_snapshot::verify::{Depth, Verifier};
use coldframe_snapshot::{Chain, Freezer, Kind, MANIFEST, MEMORY, STATE, Snapshot, SnapshotError};
use coldframe_testkit::require::skipped;

use crate::support::{Home, Vm, assert_sound, copy_dir, open_chain, producer, thawed_memory};

const NAMES: [&str; 3] = ["diff-1", "diff-2", "full"];

/// A full snapshot, a diff, a diff on that.
fn family(home: &Home) -> Vec<Snapshot> {
    let mut vm = Vm::new(16);
    vm.fill(1, 1);
    let full = vm.full(&home.at("full"));
    vm.fill(2, 2);
    let one = vm.diff(&home.at("diff-1"), &full);
    vm.fill(3, 3);
    let two = vm.diff(&home.at("diff-2"), &one);
    drop(Catalog::open(home.path()).unwrap());
    vec![full, one, two]
}

/// Ways in which a file cannot be read; false if this host has none such.
type Spoil = fn(&Path) -> bool;

fn forbidden(path: &Path) -> bool {
    fs::set_permissions(path, Permissions::from_mode(0o000)).unwrap();
    if fs::File::open(path).is_ok() {
        skipped("mode 000", "this user reads files of any mode");
        return false;
    }
    true
}

fn gone(path: &Path) -> bool {
    fs::remove_file(path).unwrap();
    true
}

fn cut(path: &Path) -> bool {
    fs::remove_file(path).unwrap();
    fs::write(path, b"short").unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o400)).unwrap();
    true
}

fn garbage(path: &Path) -> bool {
    fs::write(path, [0x5a; 4096]).unwrap();
    true
}

fn fifo(path: &Path) -> bool {
    fs::remove_file(path).unwrap();
    coldframe_testkit::scratch::make_fifo(path);
    true
}

fn directory(path: &Path) -> bool {
    fs::remove_file(path).unwrap();
    fs::create_dir(path).unwrap();
    true
}

fn broken_link(path: &Path) -> bool {
    fs::remove_file(path).unwrap();
    symlink("nowhere", path).unwrap();
    true
}

fn link_loop(path: &Path) -> bool {
    fs::remove_file(path).unwrap();
    symlink(path, path).unwrap();
    true
}

const SPOILS: [Spoil; 7] = [
    forbidden,
    gone,
    cut,
    fifo,
    directory,
    broken_link,
    link_loop,
];

/// Deletes a name, and says whether it is gone.
fn delete(home: &Home, name: &str) -> Result<(), CatalogError> {
    let done = Catalog::open(home.path())?.delete_named(name.as_ref());
    assert_eq!(done.is_ok(), !home.at(name).exists());
    done
}

fn check_manifest(home: &Home, spoiled: &str) {
    let contents = read(home.path()).unwrap();
    let damaged: Vec<_> = contents.damaged.iter().map(|entry| &entry.path).collect();
    assert_eq!(damaged, [&home.at(spoiled)]);
    let found = contents.items.values().map(|item| item.name.as_str());
    let mut found: Vec<_> = found.collect();
    found.sort_unstable();
    let others: Vec<_> = NAMES.into_iter().filter(|name| *name != spoiled).collect();
    assert_eq!(found, others);
    for name in NAMES {
        let error = delete(home, name).unwrap_err();
        assert!(error.to_string().contains(spoiled), "{name}: {error}");
    }
    // What does not need it goes on.
    if spoiled != "full" {
        thawed_memory(&home.at("full"));
    }
    if spoiled == "diff-2" {
        thawed_memory(&home.at("diff-1"));
    } else {
        let error = open_chain(&home.at("diff-2")).unwrap_err();
        let SnapshotError::ParentUnreadable { path, .. } = &error else {
            panic!("{error}");
        };
        assert_eq!(*path, home.at(spoiled));
    }
}

fn check_file(home: &Home, spoiled: &str) {
    let contents = read(home.path()).unwrap();
    assert_eq!((contents.items.len(), contents.damaged.len()), (3, 0));
    for name in ["full", "diff-1"] {
        let error = delete(home, name).unwrap_err();
        assert!(matches!(error, CatalogError::HasChildren { .. }), "{error}");
    }
    if spoiled != "full" {
        thawed_memory(&home.at("full"));
    }
}

#[test]
fn whatever_cannot_be_read_stops_deletions_and_nothing_else() {
    for spoil in SPOILS {
        for name in NAMES {
            for file in [MANIFEST, MEMORY, STATE] {
                let home = Home::new();
                family(&home);
                let path = home.at(name).join(file);
                if !spoil(&path) {
                    continue;
                }
                let mut verifier = Verifier::new(Depth::Deep, Vec::new());
                for name in NAMES {
                    verifier.check(&home.at(name), &mut |_| ()).unwrap();
                }
                let damages = verifier.finish().damages;
                let told = damages.iter().any(|damage| damage.file == path);
                assert!(told, "{}: {damages:#?}", path.display());
                match file {
                    MANIFEST => check_manifest(&home, name),
                    _ => check_file(&home, name),
                }
                let _ = fs::set_permissions(&path, Permissions::from_mode(0o600));
            }
        }
    }
}

#[test]
fn an_unreadable_snapshot_keeps_its_pin() {
    let home = Home::new();
    let family = family(&home);
    let id = family[2].id();
    Catalog::open(home.path()).unwrap().pin(id, true).unwrap();
    let manifest = home.at("diff-2").join(MANIFEST);
    let aside = home.at("aside");
    fs::rename(&manifest, &aside).unwrap();
    // Opened, and so brought in line, while it cannot be read.
    drop(Catalog::open(home.path()).unwrap());
    fs::rename(&aside, &manifest).unwrap();
    assert!(read(home.path()).unwrap().items[&id].pinned);
    let error = delete(&home, "diff-2").unwrap_err();
    assert!(matches!(error, CatalogError::Pinned { .. }), "{error}");
}

#[test]
fn a_link_is_shown_as_one_and_never_followed_to_delete() {
    let (home, other) = (Home::new(), Home::new());
    family(&home);
    let elsewhere = Vm::new(16).full(&other.at("full"));
    symlink("diff-2", home.at("latest")).unwrap();
    symlink("diff-1", home.at("a-link")).unwrap();
    symlink(elsewhere.path(), home.at("far")).unwrap();
    symlink("nothing", home.at("broken")).unwrap();
    symlink("loop", home.at("loop")).unwrap();
    let contents = read(home.path()).unwrap();
    assert_eq!((contents.items.len(), contents.links.len()), (3, 5));
    assert!(contents.damaged.is_empty(), "{:?}", contents.damaged);
    for (link, target) in [("latest", "diff-2"), ("far", "full"), ("broken", "nothing")] {
        let error = Catalog::open(home.path())
            .unwrap()
            .delete_named(link.as_ref())
            .unwrap_err();
        assert!(matches!(error, CatalogError::IsLink { .. }), "{error}");
        assert!(error.to_string().contains(target), "{error}");
    }
    delete(&home, "diff-2").unwrap();
    assert!(home.at("latest").symlink_metadata().is_ok());
    assert_sound(&other.at("full"));
}

#[test]
fn of_two_copies_the_one_that_was_named_goes() {
    let home = Home::new();
    let family = family(&home);
    copy_dir(&home.at("diff-1"), &home.at("zz"));
    copy_dir(&home.at("diff-2"), &home.at("aa"));
    let id = family[1].id();
    let mut catalog = Catalog::open(home.path()).unwrap();
    assert_eq!(catalog.items()[&id].copies.len(), 1);
    let error = catalog.delete(id).unwrap_err();
    assert!(matches!(error, CatalogError::Ambiguous { .. }), "{error}");
    catalog.pin(id, true).unwrap();
    drop(catalog);
    for name in ["diff-1", "zz"] {
        let error = delete(&home, name).unwrap_err();
        assert!(matches!(error, CatalogError::Pinned { .. }), "{error}");
    }
    Catalog::open(home.path()).unwrap().pin(id, false).unwrap();
    // It has children, but the other copy serves them; the last one stays.
    delete(&home, "diff-1").unwrap();
    assert!(home.at("zz").exists());
    let error = delete(&home, "zz").unwrap_err();
    assert!(matches!(error, CatalogError::HasChildren { .. }), "{error}");
    thawed_memory(&home.at("diff-2"));
    delete(&home, "diff-2").unwrap();
    thawed_memory(&home.at("aa"));
}

#[test]
fn a_copy_that_is_damaged_serves_no_children() {
    let home = Home::new();
    family(&home);
    copy_dir(&home.at("diff-1"), &home.at("zz"));
    fs::remove_file(home.at("zz").join(MEMORY)).unwrap();
    let error = delete(&home, "diff-1").unwrap_err();
    assert!(matches!(error, CatalogError::CopyDamaged { .. }), "{error}");
    assert!(error.to_string().contains("zz"), "{error}");
}

// Spec: CAT-5
#[test]
fn a_copy_with_one_wrong_byte_serves_no_children() {
    let home = Home::new();
    family(&home);
    copy_dir(&home.at("diff-1"), &home.at("zz"));
    for file in [MEMORY, STATE] {
        let path = home.at("zz").join(file);
        let sound = fs::read(&path).unwrap();
        let mut bytes = sound.clone();
        let at = bytes.iter().rposition(|byte| *byte != 0).unwrap() / 2;
        bytes[at] ^= 1;
        replace(&path, &bytes);
        let error = delete(&home, "diff-1").unwrap_err();
        assert!(matches!(error, CatalogError::CopyDamaged { .. }), "{error}");
        replace(&path, &sound);
    }
    // The one that is damaged may go.
    let path = home.at("diff-1").join(MEMORY);
    replace(&path, b"damaged");
    delete(&home, "diff-1").unwrap();
    thawed_memory(&home.at("diff-2"));
}

fn replace(path: &Path, bytes: &[u8]) {
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o400)).unwrap();
}

#[test]
fn a_copy_serves_where_the_parents_memory_is_gone() {
    let home = Home::new();
    family(&home);
    let memory = thawed_memory(&home.at("diff-2"));
    for name in ["diff-1", "full"] {
        copy_dir(&home.at(name), &home.at(&format!("copy of {name}")));
        fs::remove_file(home.at(name).join(MEMORY)).unwrap();
    }
    assert!(thawed_memory(&home.at("diff-2")) == memory);
    replace(&home.at("copy of full").join(MEMORY), b"damaged");
    let error = open_chain(&home.at("diff-2"))
        .unwrap()
        .memory()
        .unwrap_err();
    assert!(error.to_string().contains("full"), "{error}");
}

// Spec: CAT-6
#[test]
fn what_an_orphan_needs_by_one_that_was_moved_away_stays() {
    let (home, other) = (Home::new(), Home::new());
    family(&home);
    fs::rename(home.at("diff-1"), other.at("diff-1")).unwrap();
    let error = delete(&home, "full").unwrap_err();
    assert!(matches!(error, CatalogError::HasOrphan { .. }), "{error}");
    for needed in ["diff-2", "is not here"] {
        assert!(error.to_string().contains(needed), "{error}");
    }
    fs::rename(other.at("diff-1"), home.at("diff-1")).unwrap();
    delete(&home, "diff-2").unwrap();
    for name in ["diff-1", "full"] {
        delete(&home, name).unwrap();
    }
}

// Spec: CAT-6
#[test]
fn a_child_that_was_moved_is_noted_when_its_parents_are_found() {
    let (home, other) = (Home::new(), Home::new());
    family(&home);
    fs::rename(home.at("diff-2"), other.at("diff-2")).unwrap();
    let moved = Snapshot::open(other.at("diff-2")).unwrap();
    let chain = Chain::of(moved, &[home.path().to_path_buf()]).unwrap();
    chain.note_elsewhere(producer()).unwrap();
    let error = delete(&home, "diff-1").unwrap_err();
    assert!(matches!(error, CatalogError::HasChildren { .. }), "{error}");
}

// Spec: CAT-6, CAT-12
#[test]
fn what_an_orphan_needs_stays_if_it_is_damaged_too() {
    let (home, other) = (Home::new(), Home::new());
    family(&home);
    fs::rename(home.at("diff-1"), other.at("diff-1")).unwrap();
    garbage(&home.at("full").join(MANIFEST));
    let mut catalog = Catalog::open(home.path()).unwrap();
    let error = catalog.delete_damaged(&["full".as_ref()]).unwrap_err();
    assert!(matches!(error, CatalogError::HasOrphan { .. }), "{error}");
    assert!(home.at("full").join(MEMORY).exists());
}

// Spec: CAT-12
#[test]
fn the_last_whole_memory_of_a_snapshot_with_children_elsewhere_stays() {
    let (home, other) = (Home::new(), Home::new());
    let mut vm = Vm::new(16);
    vm.fill(1, 1);
    let full = vm.full(&home.at("full"));
    vm.fill(2, 2);
    vm.diff(&other.at("child"), &full);
    copy_dir(&home.at("full"), &home.at("copy"));
    garbage(&home.at("copy").join(MANIFEST));
    let delete = || {
        let mut catalog = Catalog::open(home.path()).unwrap();
        catalog.delete_damaged(&["copy".as_ref()])
    };
    let memory = home.at("full").join(MEMORY);
    let sound = fs::read(&memory).unwrap();
    replace(&memory, b"damaged");
    let error = delete().unwrap_err();
    assert!(matches!(error, CatalogError::HasChildren { .. }), "{error}");
    replace(&memory, &sound);
    delete().unwrap();
}

// Spec: CAT-14
#[test]
fn a_snapshot_has_none_of_the_names_with_a_meaning() {
    let home = Home::new();
    let mut vm = Vm::new(16);
    let base = vm.full(&home.at("base"));
    let temporary = ".x.1-0123456789abcdef.tmp";
    for name in [
        "catalog",
        "catalog.damaged",
        ".children",
        "lost+found",
        temporary,
    ] {
        let kind = Kind::Diff { parent: &base };
        let error = vm.freeze(&home.at(name), kind).unwrap_err();
        assert!(
            matches!(error, SnapshotError::ReservedName { .. }),
            "{error}"
        );
        assert!(!home.at(name).exists());
    }
}

#[test]
fn a_parent_is_held_from_begin_to_publish() {
    let home = Home::new();
    let mut vm = Vm::new(16);
    let full = vm.full(&home.at("full"));
    vm.fill(1, 1);
    let begin = |name: &str, parent| {
        Freezer::new(home.at(name), producer())
            .begin(Kind::Diff { parent })
            .unwrap()
    };
    let in_use = |name: &str| {
        let error = delete(&home, name).unwrap_err();
        assert!(matches!(error, CatalogError::InUse { .. }), "{error}");
    };
    let capture = begin("one", &full);
    in_use("full");
    let one = capture.copy(&vm.memory, &mut vm.dirty, &vm.cpu).unwrap();
    in_use("full");
    let two = begin("two", &one);
    let two = two.copy(&vm.memory, &mut vm.dirty, &vm.cpu).unwrap();
    one.publish().unwrap();
    in_use("one");
    two.publish().unwrap();
    open_chain(&home.at("two")).unwrap();
    // From here on it is its children that keep it.
    let error = delete(&home, "full").unwrap_err();
    assert!(matches!(error, CatalogError::HasChildren { .. }), "{error}");
    for name in ["two", "one", "full"] {
        delete(&home, name).unwrap();
    }
}

#[test]
fn a_parent_that_was_removed_by_hand_fails_the_capture_and_not_the_child() {
    let home = Home::new();
    let mut vm = Vm::new(16);
    let full = vm.full(&home.at("full"));
    vm.fill(1, 1);
    let kind = Kind::Diff { parent: &full };
    let capture = Freezer::new(home.at("diff"), producer())
        .begin(kind)
        .unwrap();
    let frozen = capture.copy(&vm.memory, &mut vm.dirty, &vm.cpu).unwrap();
    fs::remove_dir_all(home.at("full")).unwrap();
    let error = frozen.publish().unwrap_err();
    assert!(matches!(error, SnapshotError::ParentGone { .. }), "{error}");
    assert_eq!(vm.bitmap.count(), 1);
    assert!(home.names().is_empty());
    let error = Freezer::new(home.at("diff"), producer()).begin(kind);
    assert!(matches!(error, Err(SnapshotError::ParentGone { .. })));
}

#[test]
fn a_child_in_another_directory_keeps_its_parent_as_long_as_it_is_there() {
    let (bases, here) = (Home::new(), Home::new());
    let dir = here.at("odd %41 name");
    fs::create_dir(&dir).unwrap();
    let mut vm = Vm::new(16);
    let base = vm.full(&bases.at("base"));
    vm.fill(1, 1);
    let child = vm.diff(&dir.join("child"), &base);
    let error = delete(&bases, "base").unwrap_err();
    let CatalogError::HasChildren { children, .. } = &error else {
        panic!("{error}");
    };
    assert!(children.contains("odd %41 name/child"), "{children}");
    // Renamed it is still one; unreadable it may be one.
    fs::rename(child.path(), dir.join("other")).unwrap();
    let error = delete(&bases, "base").unwrap_err();
    assert!(matches!(error, CatalogError::HasChildren { .. }), "{error}");
    cut(&dir.join("other").join(MANIFEST));
    let error = delete(&bases, "base").unwrap_err();
    assert!(matches!(error, CatalogError::Unreadable { .. }), "{error}");
    assert!(error.to_string().contains("other"), "{error}");
    // Nothing is there, as if its file system were not mounted; then not even the directory.
    fs::remove_dir_all(dir.join("other")).unwrap();
    let error = delete(&bases, "base").unwrap_err();
    assert!(
        matches!(error, CatalogError::ChildrenUnknown { .. }),
        "{error}"
    );
    fs::remove_dir(&dir).unwrap();
    let error = delete(&bases, "base").unwrap_err();
    let CatalogError::ChildrenUnknown { dir: named, .. } = &error else {
        panic!("{error}");
    };
    let mut catalog = Catalog::open(bases.path()).unwrap();
    catalog.forget_children_in(base.id(), named).unwrap();
    catalog.delete(base.id()).unwrap();
    assert!(!bases.at("base").exists());
}

#[test]
fn another_snapshot_in_the_directory_says_that_the_child_is_gone() {
    let (bases, here) = (Home::new(), Home::new());
    let mut vm = Vm::new(16);
    let base = vm.full(&bases.at("base"));
    vm.fill(1, 1);
    let child = vm.diff(&here.at("child"), &base);
    Vm::new(16).full(&here.at("stranger"));
    fs::remove_dir_all(child.path()).unwrap();
    delete(&bases, "base").unwrap();
}

#[test]
fn an_unreadable_catalog_stops_deletions_and_no_reading() {
    let home = Home::new();
    family(&home);
    let spoils: [Spoil; 4] = [forbidden, garbage, fifo, directory];
    for spoil in spoils {
        let catalog = home.at(CATALOG);
        let aside = fs::read(&catalog).unwrap();
        if spoil(&catalog) {
            let contents = read(home.path()).unwrap();
            assert_eq!(contents.items.len(), 3);
            assert!(contents.journal.is_some());
            assert!(delete(&home, "diff-2").is_err());
        }
        let remove: fn(&PathBuf) -> std::io::Result<()> = match catalog.is_dir() {
            true => |path| fs::remove_dir(path),
            false => |path| fs::remove_file(path),
        };
        remove(&catalog).unwrap();
        fs::write(&catalog, aside).unwrap();
    }
    delete(&home, "diff-2").unwrap();
}

// Spec: CAT-1
#[test]
fn where_a_directory_cannot_be_listed_no_catalog_is_left() {
    let home = Home::new();
    let dir = home.at("drop");
    fs::create_dir(&dir).unwrap();
    let full = Vm::new(16).full(&dir.join("full"));
    fs::set_permissions(&dir, Permissions::from_mode(0o300)).unwrap();
    if fs::read_dir(&dir).is_ok() {
        return skipped("mode 300", "this user lists directories of any mode");
    }
    let error = Catalog::open(&dir).map(|_| ()).unwrap_err();
    fs::set_permissions(&dir, Permissions::from_mode(0o700)).unwrap();
    assert!(matches!(error, CatalogError::List { .. }), "{error}");
    assert!(!dir.join(CATALOG).exists());
    assert_sound(full.path());
}
