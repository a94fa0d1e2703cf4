//! A capture session that goes well, and what is on disk then.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use coldframe_hv::{Comparison, DeviceState, Machine};
use coldframe_manifest::SnapshotKind;
use coldframe_snapshot::{Freezer, Kind, MANIFEST, MEMORY, STATE, Snapshot, SnapshotError};
use coldframe_units::{PageSize, RootHash};

use crate::support::{Home, PAGE, Vm, assert_sound, producer, thawed_memory};

// Parity: F12
#[test]
fn each_link_of_a_chain_restores_the_memory_of_its_moment() {
    let home = Home::new();
    let mut vm = Vm::new(600);
    let mut moments = Vec::new();
    let mut last: Option<Snapshot> = None;
    for step in 0..6u8 {
        for page in 0..40 {
            vm.fill((page * 13 + u64::from(step) * 7) % 600, step + 1);
        }
        let dest = home.at(&format!("s{step}"));
        let kind = last
            .as_ref()
            .map_or(Kind::Full, |parent| Kind::Diff { parent });
        last = Some(vm.freeze(&dest, kind).unwrap());
        moments.push((dest, vm.read()));
    }
    for (dest, memory) in &moments {
        assert!(thawed_memory(dest) == *memory, "{}", dest.display());
        assert_sound(dest);
    }
}

// Parity: F11
#[test]
fn a_page_that_became_zero_does_not_come_back_as_the_parents() {
    let home = Home::new();
    let mut vm = Vm::new(64);
    vm.fill(3, 0xaa);
    vm.fill(4, 0xbb);
    let full = vm.full(&home.at("full"));
    vm.fill(3, 0);
    let diff = vm.diff(&home.at("diff"), &full);
    let memory = thawed_memory(diff.path());
    let page = |index: usize| &memory[index * PAGE as usize..][..PAGE as usize];
    assert_eq!(page(3), [0; 4096]);
    assert_eq!(page(4), [0xbb; 4096]);
}

// Parity: F11
#[test]
fn a_diff_holds_the_dirty_pages_alone() {
    let home = Home::new();
    let mut vm = Vm::new(2048);
    for page in 0..2048 {
        vm.fill(page, 1);
    }
    let full = vm.full(&home.at("full"));
    assert_eq!(vm.bitmap.count(), 0);
    for page in [5, 700, 701, 2047] {
        vm.fill(page, 2);
    }
    let capture = Freezer::new(home.at("diff"), producer())
        .begin(Kind::Diff { parent: &full })
        .unwrap();
    let frozen = capture.copy(&vm.memory, &mut vm.dirty, &vm.cpu).unwrap();
    assert_eq!(frozen.stats().data_pages, 4);
    assert_eq!(frozen.stats().bytes_written, 4 * PAGE);
    frozen.publish().unwrap();
}

// Parity: F19
#[test]
fn everything_that_was_given_is_in_the_snapshot() {
    let home = Home::new();
    let mut vm = Vm::new(8);
    let device = |instance, bytes: &[u8]| DeviceState {
        kind: "net".into(),
        instance,
        version: 3,
        bytes: bytes.to_vec(),
    };
    let devices = vec![device(0, b"queue \x00\xff"), device(1, b"")];
    let index = RootHash::from_bytes([9; 32]);
    let snapshot = Freezer::new(home.at("full"), producer())
        .with_page_size(PageSize::SIZE_16K)
        .with_disk("root", index)
        .with_label("purpose", "test")
        .begin(Kind::Full)
        .unwrap()
        .with_devices(devices.clone())
        .copy(&vm.memory, &mut vm.dirty, &vm.cpu)
        .unwrap()
        .publish()
        .unwrap();
    let opened = Snapshot::open(home.at("full")).unwrap();
    assert_eq!(
        (opened.id(), opened.root()),
        (snapshot.id(), snapshot.root())
    );
    let manifest = opened.manifest();
    assert_eq!(manifest.kind, SnapshotKind::Full);
    assert_eq!(manifest.page_size, PageSize::SIZE_16K);
    assert_eq!(manifest.ram.total().get(), vm.ram);
    assert_eq!(manifest.disks[0].name, "root");
    assert_eq!(manifest.disks[0].index, index);
    assert_eq!(manifest.labels["purpose"], "test");
    assert_eq!(opened.machine().unwrap(), *vm.cpu.machine.state());
    assert_eq!(opened.devices().unwrap(), devices);
}

// Parity: F1
#[test]
fn equal_machines_make_equal_state_files() {
    let home = Home::new();
    let state = |name: &str| {
        let mut vm = Vm::new(4);
        let snapshot = vm.full(&home.at(name));
        fs::read(snapshot.path().join(STATE)).unwrap()
    };
    assert_eq!(state("one"), state("two"));
}

// Parity: F23
#[test]
fn what_is_published_is_the_owners_alone_and_never_written_again() {
    let home = Home::new();
    let mut vm = Vm::new(4);
    vm.full(&home.at("full"));
    let mode = |name: &str| {
        let path = home.at("full").join(name);
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    };
    for name in [MANIFEST, STATE, MEMORY] {
        assert_eq!(mode(name), 0o400, "{name}");
    }
    assert_eq!(mode(""), 0o700);
}

// Parity: D8, F23
#[test]
fn no_file_is_open_to_others_while_it_is_written() {
    let home = Home::new();
    let mut vm = Vm::new(4);
    let capture = Freezer::new(home.at("full"), producer())
        .begin(Kind::Full)
        .unwrap();
    let frozen = capture.copy(&vm.memory, &mut vm.dirty, &vm.cpu).unwrap();
    let [temporary] = home.names().try_into().unwrap();
    let path = home.at(&temporary);
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(path.clone()), 0o700);
    assert_eq!(mode(path.join(MEMORY)), 0o600);
    drop(frozen);
}

#[test]
fn each_thaw_has_a_generation_of_its_own() {
    let home = Home::new();
    let mut vm = Vm::new(4);
    let snapshot = vm.full(&home.at("full"));
    let state = snapshot.machine().unwrap();
    let host = state.host.clone();
    let mut thaw = || {
        let accepted = Comparison::of(&state, (&host).into()).accept(&[]).unwrap();
        // The compiler warns of a `Thawed` that is dropped: the id has to be taken out.
        vm.cpu.restore(&accepted).unwrap().generation()
    };
    assert_ne!(thaw(), thaw());
}

// Parity: D4, F24
#[test]
fn a_bare_name_and_a_relative_path_work() {
    const INNER: &str = "COLDFRAME_TEST_FREEZE_BARE";
    if std::env::var_os(INNER).is_some() {
        let mut vm = Vm::new(4);
        let full = vm.full("bare".as_ref());
        vm.fill(1, 1);
        vm.diff("./inner/../also-bare".as_ref(), &full);
        return;
    }
    let home = Home::new();
    fs::create_dir(home.at("inner")).unwrap();
    let status = coldframe_testkit::child::command(std::env::current_exe().unwrap())
        .args(["--exact", "freeze::a_bare_name_and_a_relative_path_work"])
        .env(INNER, "1")
        .current_dir(home.path())
        .status()
        .unwrap();
    assert!(status.success());
    assert_eq!(home.names(), ["also-bare", "bare", "inner"]);
    assert_sound(&home.at("also-bare"));
}

#[test]
fn ids_and_names_have_nothing_to_do_with_each_other() {
    let home = Home::new();
    let mut vm = Vm::new(4);
    let one = vm.full(&home.at("one"));
    let two = vm.full(&home.at("two"));
    assert_ne!(one.id(), two.id());
    fs::rename(home.at("two"), home.at("renamed")).unwrap();
    assert_eq!(Snapshot::open(home.at("renamed")).unwrap().id(), two.id());
}

#[test]
fn a_directory_without_a_manifest_is_no_snapshot() {
    let home = Home::new();
    let error = Snapshot::open(home.path()).unwrap_err();
    assert!(matches!(error, SnapshotError::Storage(source) if source.is_not_found()));
}
