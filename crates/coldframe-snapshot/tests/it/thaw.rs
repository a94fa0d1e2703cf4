//! Thawing: the mirror of freezing.

use std::fs;
use std::path::PathBuf;

use coldframe_hv::Machine as _;
use coldframe_mem::{CopyInto, Map};
use coldframe_snapshot::{Snapshot, SnapshotError};
use coldframe_testkit::hv::{FakeMachine, sample_state};

use crate::support::{Home, PAGE, Vm, memory, read};

/// A full snapshot and a diff of it.
fn family(home: &Home) -> (Vm, Snapshot) {
    let mut vm = Vm::new(8);
    vm.fill(1, 0xaa);
    let full = vm.full(&home.at("full"));
    vm.fill(2, 0xbb);
    let diff = vm.diff(&home.at("diff"), &full);
    (vm, diff)
}

#[test]
fn a_snapshot_is_thawed_in_four_steps() {
    let home = Home::new();
    let (vm, diff) = family(&home);
    let host = vm.cpu.machine.state().host.clone();
    let thaw = Snapshot::open(diff.path()).unwrap().thaw(&[]).unwrap();
    assert_eq!(thaw.snapshot().id(), diff.id());
    assert_eq!(*thaw.machine(), *vm.cpu.machine.state());

    let accepted = thaw.compare(&host).accept(&[]).unwrap();
    let mapped = thaw.memory(Map::default()).unwrap();
    assert_eq!(mapped.layout(), thaw.layers().layout());
    let copied = memory(8 * PAGE, &vm.bitmap);
    thaw.memory(CopyInto::new(&copied)).unwrap();
    assert_eq!(read(&copied, 8 * PAGE), vm.read());
    let mut machine = FakeMachine::new(sample_state(1));
    let _generation = accepted.restore(&mut machine).unwrap().generation();
    assert_eq!(machine.save().unwrap().vcpus, thaw.machine().vcpus);
}

/// After the chain was opened nothing is looked up again: what is deleted or replaced then changes
/// nothing.
#[test]
fn what_was_opened_is_what_is_used() {
    let home = Home::new();
    let (vm, diff) = family(&home);
    let thaw = Snapshot::open(diff.path()).unwrap().thaw(&[]).unwrap();
    for name in ["full", "diff"] {
        fs::rename(home.at(name), home.at(&format!("{name}-elsewhere"))).unwrap();
    }
    let copied = memory(8 * PAGE, &vm.bitmap);
    thaw.memory(CopyInto::new(&copied)).unwrap();
    assert_eq!(read(&copied, 8 * PAGE), vm.read());
    assert_eq!(*thaw.machine(), *vm.cpu.machine.state());
}

#[test]
fn a_snapshot_without_its_parent_is_refused_before_anything_is_restored() {
    let home = Home::new();
    let (_, diff) = family(&home);
    fs::create_dir(home.at("away")).unwrap();
    fs::rename(home.at("full"), home.at("away").join("full")).unwrap();
    let open = |search: &[PathBuf]| Snapshot::open(diff.path()).unwrap().thaw(search);
    let error = open(&[]).unwrap_err();
    assert!(
        matches!(error, SnapshotError::MissingParent { .. }),
        "{error:?}"
    );
    assert_eq!(open(&[home.at("away")]).unwrap().layers().len(), 2);
}
