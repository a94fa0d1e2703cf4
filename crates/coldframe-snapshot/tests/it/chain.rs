//! Parents: found by id, believed by root.

use std::fs;
use std::path::{Path, PathBuf};

use coldframe_manifest::{Manifest, Parent, SnapshotKind};
use coldframe_snapshot::{
    CHAIN_LEN_MAX, Chain, MANIFEST, MEMORY, Snapshot, SnapshotError, snapshots_in,
};
use coldframe_units::{ByteLen, PageSize, RamLayout, SnapshotId};

use crate::support::{Home, Vm, copy_dir, open_chain, thawed_memory, verify};

/// A full snapshot and a diff of it.
fn pair(home: &Home) -> (Vm, Snapshot, Snapshot) {
    let mut vm = Vm::new(64);
    vm.fill(1, 1);
    let full = vm.full(&home.at("full"));
    vm.fill(2, 2);
    let diff = vm.diff(&home.at("diff"), &full);
    (vm, full, diff)
}

/// Writes a manifest alone, as `change` leaves it.
fn rewrite(from: &Snapshot, to: &Path, change: impl FnOnce(&mut Manifest)) -> Snapshot {
    let mut manifest = from.manifest().clone();
    change(&mut manifest);
    fs::create_dir(to).unwrap();
    fs::write(to.join(MANIFEST), manifest.encode().unwrap().0).unwrap();
    Snapshot::open(to).unwrap()
}

#[test]
fn a_parent_is_found_by_id_whatever_its_name() {
    let home = Home::new();
    let (vm, full, diff) = pair(&home);
    fs::rename(full.path(), home.at("zzz")).unwrap();
    let chain = open_chain(diff.path()).unwrap();
    let paths: Vec<_> = chain.links().iter().map(Snapshot::path).collect();
    assert_eq!(paths, [home.at("zzz"), home.at("diff")]);
    assert!(thawed_memory(diff.path()) == vm.read());
}

// Spec: MANI-16
#[test]
fn a_parent_is_looked_for_first_under_the_name_that_the_child_knows() {
    let home = Home::new();
    let (vm, full, diff) = pair(&home);
    let name = diff.manifest().parent_name.as_deref();
    assert_eq!(name, Some(&b"full"[..]));
    // A listing comes upon this one first.
    copy_dir(full.path(), &home.at("aaa"));
    let links = |path: &Path| open_chain(path).unwrap().links()[0].path().to_path_buf();
    assert_eq!(links(diff.path()), full.path());
    // Another snapshot has the name by now.
    fs::rename(full.path(), home.at("zzz")).unwrap();
    fs::remove_dir_all(home.at("aaa")).unwrap();
    Vm::new(64).full(&home.at("full"));
    assert_eq!(links(diff.path()), home.at("zzz"));
    assert!(thawed_memory(diff.path()) == vm.read());
}

#[test]
fn a_parent_is_found_in_a_search_path() {
    let (home, elsewhere) = (Home::new(), Home::new());
    let (_, full, diff) = pair(&home);
    copy_dir(full.path(), &elsewhere.at("full"));
    fs::remove_dir_all(full.path()).unwrap();
    let open = |search: &[PathBuf]| Chain::of(Snapshot::open(diff.path()).unwrap(), search);
    let chain = open(&[home.at("nowhere"), elsewhere.path().to_path_buf()]).unwrap();
    assert_eq!(chain.links()[0].path(), elsewhere.at("full"));
    assert_eq!(chain.youngest().id(), diff.id());
    assert!(open(&[home.at("nowhere")]).is_err());
}

#[test]
fn a_missing_parent_is_named() {
    let home = Home::new();
    let (_, full, diff) = pair(&home);
    fs::remove_dir_all(full.path()).unwrap();
    let error = open_chain(diff.path()).unwrap_err();
    assert!(matches!(error, SnapshotError::MissingParent { id, .. } if id == full.id()));
    assert!(error.to_string().contains(&full.id().to_string()));
    assert!(!error.is_corrupt());
    let found = verify(diff.path()).damages;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].kind, "missing parent");
}

// Parity: F12
#[test]
fn another_snapshot_of_the_same_id_is_refused_by_root() {
    let home = Home::new();
    let (_, full, diff) = pair(&home);
    let moved = home.at("real");
    fs::rename(full.path(), &moved).unwrap();
    rewrite(&full, &home.at("impostor"), |manifest| {
        manifest.labels.insert("not".into(), "the same".into());
    });
    // The real one is there too, after it in the order of names: it is the one that counts.
    let chain = open_chain(diff.path()).unwrap();
    assert_eq!(chain.links()[0].path(), moved);
    fs::remove_dir_all(&moved).unwrap();
    let error = open_chain(diff.path()).unwrap_err();
    let SnapshotError::ParentRoot {
        path,
        expected,
        found,
    } = &error
    else {
        panic!("{error}");
    };
    assert_eq!(*path, home.at("impostor"));
    assert_eq!(*expected, full.root());
    assert_ne!(*found, full.root());
    assert!(error.is_corrupt());
}

// Parity: D3, F12
#[test]
fn memory_of_another_parent_is_refused_by_root() {
    let home = Home::new();
    let (mut vm, full, diff) = pair(&home);
    // Sound files, one from another snapshot: the manifest names the root of its own.
    let other = vm.full(&home.at("other"));
    fs::remove_file(full.path().join(MEMORY)).unwrap();
    fs::copy(other.path().join(MEMORY), full.path().join(MEMORY)).unwrap();
    let error = open_chain(diff.path()).unwrap().memory().unwrap_err();
    assert!(
        matches!(&error, SnapshotError::FileRoot { path, .. } if *path == full.path().join(MEMORY)),
        "{error}"
    );
    let damages = verify(diff.path()).damages;
    assert!(
        damages
            .iter()
            .all(|damage| damage.file == full.path().join(MEMORY))
    );
    assert!(!damages.is_empty());
}

// Parity: D3
#[test]
fn state_and_memory_of_two_snapshots_do_not_go_together() {
    let home = Home::new();
    let (mut vm, full, _) = pair(&home);
    let other = vm.full(&home.at("other"));
    let state = |of: &Snapshot| of.path().join(coldframe_snapshot::STATE);
    // Byte-equal states may be exchanged; another length or another root may not.
    fs::remove_file(state(&full)).unwrap();
    fs::copy(state(&other), state(&full)).unwrap();
    assert!(full.state().is_ok());
    let mut bytes = fs::read(state(&other)).unwrap();
    bytes.push(0);
    fs::remove_file(state(&full)).unwrap();
    fs::write(state(&full), &bytes).unwrap();
    let error = full.state().unwrap_err();
    assert!(
        matches!(error, SnapshotError::FileLength { found, expected, .. } if found == expected + 1)
    );
}

#[test]
fn a_chain_that_goes_round_ends_in_an_error() {
    let home = Home::new();
    let (_, full, diff) = pair(&home);
    // Each names the other as its parent. Roots make a true circle impossible: one of the two
    // names a root that is not there.
    let (a, b) = (
        SnapshotId::from_bytes([1; 16]),
        SnapshotId::from_bytes([2; 16]),
    );
    let parent = |id, root| SnapshotKind::Diff {
        parent: Parent { id, root },
    };
    let first = rewrite(&diff, &home.at("a"), |manifest| {
        manifest.id = a;
        manifest.kind = parent(b, full.root());
    });
    rewrite(&diff, &home.at("b"), |manifest| {
        manifest.id = b;
        manifest.kind = parent(a, first.root());
    });
    for name in ["a", "b"] {
        let error = open_chain(&home.at(name)).unwrap_err();
        assert!(matches!(error, SnapshotError::ParentRoot { .. }), "{error}");
    }
}

#[test]
fn a_chain_has_so_many_links_at_most() {
    let home = Home::new();
    let (_, full, _) = pair(&home);
    let long = Home::new();
    let mut last = rewrite(&full, &long.at("0"), |_| ());
    for link in 1..=CHAIN_LEN_MAX {
        let mut id = [7; 16];
        id[..8].copy_from_slice(&(link as u64).to_le_bytes());
        let parent = Parent {
            id: last.id(),
            root: last.root(),
        };
        last = rewrite(&full, &long.at(&link.to_string()), |manifest| {
            manifest.id = SnapshotId::from_bytes(id);
            manifest.kind = SnapshotKind::Diff { parent };
        });
    }
    let error = Chain::of(last.clone(), &[]).unwrap_err();
    assert!(matches!(error, SnapshotError::ChainTooLong { limit, .. } if limit == CHAIN_LEN_MAX));
    let before_last = long.at(&(CHAIN_LEN_MAX - 1).to_string());
    let chain = open_chain(&before_last).unwrap();
    assert_eq!(chain.links().len(), CHAIN_LEN_MAX);
}

#[test]
fn what_is_no_snapshot_beside_the_child_is_passed_over() {
    let home = Home::new();
    let (_, _, diff) = pair(&home);
    fs::write(home.at("a-file"), "hello").unwrap();
    fs::create_dir(home.at("a-directory")).unwrap();
    fs::create_dir(home.at("another")).unwrap();
    fs::write(home.at("another").join(MANIFEST), [0xff; 300]).unwrap();
    assert_eq!(snapshots_in(home.path()).unwrap().snapshots.len(), 2);
    assert_eq!(open_chain(diff.path()).unwrap().links().len(), 2);
}

// Parity: D20, F6
#[test]
fn a_manifest_that_disagrees_with_its_memory_is_refused() {
    let home = Home::new();
    let (_, full, diff) = pair(&home);
    let parent = diff.manifest().kind;
    type Change<'a> = (&'a str, &'a dyn Fn(&mut Manifest));
    let changes: [Change<'_>; 3] = [
        ("RAM layout", &|manifest| {
            manifest.ram = RamLayout::contiguous(ByteLen::new(128 << 12)).unwrap();
        }),
        ("page size", &|manifest| {
            manifest.page_size = PageSize::SIZE_16K
        }),
        ("kind", &|manifest| {
            manifest.id = SnapshotId::from_bytes([3; 16]);
            manifest.kind = parent;
        }),
    ];
    for (index, (expected, change)) in changes.into_iter().enumerate() {
        let dir = home.at(&format!("changed-{index}"));
        let changed = rewrite(&full, &dir, change);
        fs::copy(full.path().join(MEMORY), dir.join(MEMORY)).unwrap();
        let error = changed.memory_file().unwrap_err();
        assert!(
            matches!(&error, SnapshotError::Disagree { what, .. } if *what == expected),
            "{error}"
        );
        assert!(error.is_corrupt());
    }
}

#[test]
fn what_has_no_final_name_is_no_parent() {
    let home = Home::new();
    let mut vm = Vm::new(16);
    let full = vm.full(&home.at("full"));
    vm.diff(&home.at("diff"), &full);
    let hidden = home.at(".full.17-0123456789abcdef.tmp");
    std::fs::rename(home.at("full"), hidden).unwrap();
    let opened = open_chain(&home.at("diff"));
    assert!(matches!(opened, Err(SnapshotError::MissingParent { .. })));
}
