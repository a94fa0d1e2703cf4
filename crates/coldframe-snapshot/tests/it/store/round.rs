//! There and back: equal to the byte, and nothing moved twice.

use std::fs;

use coldframe_chunks::ChunkStore;
use coldframe_snapshot::store::{self, Move, TransferError};
use coldframe_units::BLOCK_BYTES;

use super::{assert_equal, chain_in, name, new_store, pull, push, reopened, scribble};
use crate::support::{Home, Vm, assert_sound, open_chain, thawed_memory};

// Spec: STORE-20, STORE-21, MEM-26
// Parity: D67, F74
#[test]
fn a_chain_comes_back_byte_for_byte_and_thaws_to_the_same_memory() {
    let home = Home::new();
    let chain = chain_in(&home);
    let pushed = push(&chain, &new_store(&home), "two").unwrap();
    assert_eq!(pushed.root, chain.youngest().root());
    let store = reopened(&home);
    let out = home.at("out");
    let pulled = pull(&store, pushed.root, &out).unwrap();
    assert_equal(&chain, &pulled);
    assert!(pulled.links.iter().all(|link| link.is_new));
    let youngest = pulled.youngest().path();
    assert_eq!(youngest, out.join(chain.youngest().id().to_string()));
    assert_sound(youngest);
    assert!(thawed_memory(youngest) == thawed_memory(&home.at("two")));
    assert_eq!(fs::read_dir(&out).unwrap().count(), 3);
}

// Spec: STORE-4, STORE-20
#[test]
fn a_second_push_sends_nothing() {
    let home = Home::new();
    let (chain, store) = (chain_in(&home), new_store(&home));
    let first = push(&chain, &store, "two").unwrap();
    assert!(first.put.written > 0);
    assert_eq!(first.progress.done_bytes, first.progress.total_bytes);
    let files = |folder: &str| fs::read_dir(home.at("store").join(folder)).unwrap().count();
    let before = (files("packs"), files("roots"));
    let second = push(&chain, &reopened(&home), "two").unwrap();
    assert_eq!((second.put.written, second.put.deduplicated), (0, 0));
    assert_eq!(second.progress.moved, 0);
    assert_eq!(second.progress.blocks, first.progress.blocks);
    assert_eq!((files("packs"), files("roots")), before);
    assert_eq!(second.before, Some(first.root));
}

// Spec: STORE-20
// Parity: F73
#[test]
fn a_parent_that_two_snapshots_share_is_pushed_once() {
    let home = Home::new();
    let store = new_store(&home);
    let mut vm = Vm::new(128);
    (0..128).for_each(|page| scribble(&vm, page, 9));
    let full = vm.full(&home.at("full"));
    scribble(&vm, 1, 10);
    let left = vm.diff(&home.at("left"), &full);
    push(&open_chain(left.path()).unwrap(), &store, "left").unwrap();
    scribble(&vm, 70, 11);
    vm.diff(&home.at("right"), &left);
    let right = open_chain(&home.at("right")).unwrap();
    let pushed = push(&right, &store, "right").unwrap();
    // One page of one block, by itself.
    assert_eq!((pushed.put.written, pushed.put.raw_bytes), (1, 4096));
    // A machine that never runs has one state: equal files are one.
    assert_eq!(store.roots().unwrap().len(), 3 + 3 + 1);
    let stat = store.stat_all(&[&store::SnapshotTracer]).unwrap();
    let (left, right) = (stat.tags[&name("left")], stat.tags[&name("right")]);
    assert_eq!(left.exclusive_bytes, 0);
    assert_eq!(right.exclusive_bytes, 4096);
    assert_eq!(stat.shared_bytes, 8 * BLOCK_BYTES + 4096);
}

// Spec: STORE-20
// Parity: F71
#[test]
fn zero_runs_cost_nothing_and_block_hashes_are_the_ids() {
    let home = Home::new();
    let store = new_store(&home);
    let mut vm = Vm::new(4096);
    scribble(&vm, 20, 1);
    vm.full(&home.at("full"));
    let chain = open_chain(&home.at("full")).unwrap();
    let pushed = push(&chain, &store, "full").unwrap();
    assert_eq!((pushed.put.written, pushed.put.raw_bytes), (1, BLOCK_BYTES));
    let mut block = vec![0; 65_536];
    block[4 * 4096..5 * 4096].copy_from_slice(&vm.read()[20 * 4096..21 * 4096]);
    let chunk = coldframe_chunks::Chunk::new(bytes::Bytes::from(block)).unwrap();
    assert_eq!(store.get(chunk.id()).unwrap(), chunk.bytes());
}

// Spec: STORE-20
#[test]
fn a_snapshot_is_found_by_tag_and_by_id_under_any_tag() {
    let home = Home::new();
    let (chain, store) = (chain_in(&home), new_store(&home));
    push(&chain, &store, "two").unwrap();
    for link in chain.links() {
        let found = store::find(&store, &link.id().to_string()).unwrap();
        assert_eq!(found, link.root());
    }
    assert_eq!(store::find(&store, "two").unwrap(), chain.youngest().root());
    let middle = &chain.links()[1];
    let pulled = pull(&store, middle.root(), &home.at("out")).unwrap();
    assert_eq!(pulled.links.len(), 2);
    assert_eq!(pulled.youngest().id(), middle.id());
    for unknown in ["three", "", &"0".repeat(32)] {
        match store::find(&store, unknown) {
            Err(TransferError::Unknown { name }) => assert_eq!(name, unknown),
            other => panic!("{other:?}"),
        }
    }
}

// Spec: STORE-21
#[test]
fn what_is_there_is_left_as_it_is_under_whatever_name() {
    let home = Home::new();
    let (chain, store) = (chain_in(&home), new_store(&home));
    push(&chain, &store, "two").unwrap();
    let mut seen = Vec::new();
    let root = chain.youngest().root();
    let dir = home.path();
    let pulled = store::pull(&store, root, dir, &[], &mut |now| seen.push(*now)).unwrap();
    assert!(pulled.links.iter().all(|link| !link.is_new));
    assert_eq!(pulled.youngest().path(), home.at("two"));
    assert_eq!(pulled.progress.blocks, 0);
    assert!(seen.is_empty());
}

// Spec: STORE-15
#[test]
fn progress_adds_up_for_both_ways() {
    let home = Home::new();
    let (chain, store) = (chain_in(&home), new_store(&home));
    let mut told = Vec::new();
    let tag = name("two");
    let pushed = store::push(&chain, &store, &tag, Move::Forward, &mut |now| {
        told.push(*now);
    });
    let last = *told.last().unwrap();
    assert_eq!(last, pushed.unwrap().progress);
    assert_eq!(last.done_bytes, last.total_bytes);
    assert!(told.is_sorted_by_key(|now| now.done_bytes));
    told.clear();
    let root = chain.youngest().root();
    let out = home.at("out");
    let pulled = store::pull(&store, root, &out, &[], &mut |now| told.push(*now)).unwrap();
    assert_eq!(*told.last().unwrap(), pulled.progress);
    assert_eq!(pulled.progress.done_bytes, last.total_bytes);
    assert!(pulled.progress.moved > 0);
}
