//! The collector follows snapshots to all that they need, and no further.

use std::time::Duration;

use coldframe_chunkfile::{IndexBuilder, IndexOrigin};
use coldframe_chunks::{Block, CollectOptions, StoreError};
use coldframe_snapshot::store::{SnapshotTracer, TransferError};
use coldframe_snapshot::{Freezer, Kind};
use coldframe_units::{BLOCK_BYTES, ByteLen};

use super::{assert_equal, chain_in, name, new_store, pull, push, scribble};
use crate::support::{Home, Vm, open_chain, producer};

const AT_ONCE: CollectOptions = CollectOptions {
    grace: Duration::ZERO,
    garbage_percent: 1,
    dry_run: false,
};

// Spec: STORE-10, STORE-20
// Parity: F41
#[test]
fn a_tag_that_is_deleted_frees_what_no_other_needs() {
    let home = Home::new();
    let (chain, store) = (chain_in(&home), new_store(&home));
    push(&chain, &store, "two").unwrap();
    let one = open_chain(&home.at("one")).unwrap();
    push(&one, &store, "one").unwrap();
    let before = store.stat_all(&[&SnapshotTracer]).unwrap();
    let tag = store.tag(&name("two")).unwrap().unwrap();
    store.remove_tag(&name("two"), tag).unwrap();
    store.collect(AT_ONCE, &[&SnapshotTracer]).unwrap();
    let after = store.stat_all(&[&SnapshotTracer]).unwrap();
    assert!(after.raw_bytes < before.raw_bytes);
    assert_eq!(after.raw_bytes, after.tags[&name("one")].unique_bytes);
    // Two manifests and two memories; the machine never ran, so its states are one file.
    assert_eq!(after.roots, 5);
    let out = pull(&store, one.youngest().root(), &home.at("out")).unwrap();
    assert_equal(&one, &out);
    assert!(store.verify(&[&SnapshotTracer]).unwrap().is_sound());
    let tag = store.tag(&name("one")).unwrap().unwrap();
    store.remove_tag(&name("one"), tag).unwrap();
    store.collect(AT_ONCE, &[&SnapshotTracer]).unwrap();
    let empty = store.stat_all(&[&SnapshotTracer]).unwrap();
    assert_eq!((empty.chunks, empty.packs, empty.roots), (0, 0, 0));
}

// Spec: STORE-10
#[test]
fn a_collector_that_knows_no_snapshots_deletes_nothing() {
    let home = Home::new();
    let (chain, store) = (chain_in(&home), new_store(&home));
    let root = push(&chain, &store, "two").unwrap().root;
    let refused = store.collect(AT_ONCE, &[]);
    assert!(matches!(refused, Err(StoreError::UnknownFormat { .. })));
    assert_equal(&chain, &pull(&store, root, &home.at("out")).unwrap());
}

// Spec: STORE-20
#[test]
fn disks_must_be_in_the_store_and_stay_as_long_as_the_snapshot() {
    let home = Home::new();
    let store = new_store(&home);
    let size = ByteLen::new(BLOCK_BYTES);
    let first = store.push().unwrap();
    let bytes = vec![5; 65_536];
    let block = Block {
        bytes: &bytes,
        expected: None,
    };
    let ids = first.put_blocks(&[block]).unwrap();
    let mut index = IndexBuilder::new(size, IndexOrigin::None, producer()).unwrap();
    index.push_chunk(0, ids[0]).unwrap();
    let index = index.finish().unwrap();
    let root = index.root;
    let mut vm = Vm::new(16);
    scribble(&vm, 1, 1);
    let freezer = Freezer::new(home.at("full"), producer()).with_disk("vda", root);
    let capture = freezer.begin(Kind::Full).unwrap();
    let frozen = capture.copy(&vm.memory, &mut vm.dirty, &vm.cpu).unwrap();
    frozen.publish().unwrap();
    let chain = open_chain(&home.at("full")).unwrap();
    match push(&chain, &store, "vm").unwrap_err() {
        TransferError::MissingDisk { disk, .. } => assert_eq!(disk, "vda"),
        other => panic!("{other:?}"),
    }
    first.put_root(&[&index.into_file()]).unwrap();
    push(&chain, &store, "vm").unwrap();
    first.finish().unwrap();
    store.collect(AT_ONCE, &[&SnapshotTracer]).unwrap();
    assert!(store.has_root(root).unwrap());
    let verified = store.verify(&[&SnapshotTracer]).unwrap();
    assert!(verified.is_sound(), "{verified:?}");
    assert_eq!(verified.chunks, 2);
}
