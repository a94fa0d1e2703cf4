//! Interrupted at any call: nothing half under a final name, and the next time goes on.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};

use coldframe_chunks::PackStore;
use coldframe_snapshot::MEMORY;

use super::flaky::Flaky;
use super::{OPTIONS, assert_equal, chain_in, new_store, published, pull, push, reopened};
use crate::support::{Home, assert_sound};

// Spec: STORE-5, STORE-20
#[test]
fn a_push_that_is_cut_off_at_any_call_goes_on_from_the_packs_that_were_written() {
    let home = Home::new();
    let chain = chain_in(&home);
    let whole = push(&chain, &new_store(&home), "two").unwrap();
    let flaky = Flaky::new(&home, u64::MAX);
    push(
        &chain,
        &PackStore::open_at(flaky.clone(), OPTIONS).unwrap(),
        "x",
    )
    .unwrap();
    let mut went_on = 0;
    // Opening takes some calls itself; a first push writes some more than a second.
    for calls in 0..flaky.calls() + 30 {
        fs::remove_dir_all(home.at("store")).unwrap();
        new_store(&home);
        let flaky = Flaky::new(&home, calls);
        let cut = PackStore::open_at(flaky, OPTIONS)
            .map_err(drop)
            .and_then(|store| push(&chain, &store, "two").map_err(drop));
        let store = reopened(&home);
        let is_tagged = !store.tags().unwrap().is_empty();
        if cut.is_ok() {
            assert!(is_tagged);
        }
        let again = push(&chain, &store, "two").unwrap();
        assert!(again.put.written <= whole.put.written);
        went_on += u64::from(cut.is_err() && again.put.written < whole.put.written);
        let verified = store
            .verify(&[&coldframe_snapshot::store::SnapshotTracer])
            .unwrap();
        assert!(verified.is_sound(), "{verified:?}");
    }
    assert!(went_on > 3, "only {went_on} pushes went on");
    let pulled = pull(&reopened(&home), whole.root, &home.at("out")).unwrap();
    assert_equal(&chain, &pulled);
}

// Spec: STORE-21
#[test]
fn a_pull_that_is_cut_off_at_any_call_leaves_no_half_and_goes_on() {
    let home = Home::new();
    let chain = chain_in(&home);
    let root = push(&chain, &new_store(&home), "two").unwrap().root;
    let total = pull(&reopened(&home), root, &home.at("whole")).unwrap();
    let mut went_on = 0;
    for calls in 0.. {
        let out = home.at(&format!("out-{calls}"));
        let flaky = Flaky::new(&home, calls);
        let store = PackStore::open_at(flaky, OPTIONS);
        let cut = store
            .map_err(drop)
            .and_then(|store| pull(&store, root, &out).map_err(drop));
        for path in published(&out) {
            assert_sound(&path);
        }
        let again = pull(&reopened(&home), root, &out).unwrap();
        assert_equal(&chain, &again);
        went_on += u64::from(again.progress.moved < total.progress.moved);
        if cut.is_ok() {
            break;
        }
    }
    assert!(went_on > 3, "only {went_on} pulls went on");
}

// Spec: STORE-21
#[test]
fn what_an_earlier_pull_left_is_believed_only_where_it_holds() {
    let home = Home::new();
    let chain = chain_in(&home);
    let root = push(&chain, &new_store(&home), "two").unwrap().root;
    let full = chain.links()[0].root();
    let total = pull(&reopened(&home), full, &home.at("whole")).unwrap();
    let out = home.at("out");
    let left = || {
        let entries = fs::read_dir(&out).into_iter().flatten();
        let mut paths = entries.map(|entry| entry.unwrap().path());
        paths.find(|path| path.join(MEMORY).exists())
    };
    // Cut off as late as something is left of the full snapshot.
    let mut calls = 0;
    while published(&out).is_empty() {
        let _ = fs::remove_dir_all(&out);
        let store = PackStore::open_at(Flaky::new(&home, calls), OPTIONS);
        let _ = store.map(|store| pull(&store, full, &out));
        calls += 1;
    }
    // It was published: what is under its name becomes what was left.
    let name = published(&out).pop().unwrap();
    let hidden = name.with_file_name(format!(
        ".{}.1-0123456789abcdef.tmp",
        name.file_name().unwrap().to_str().unwrap()
    ));
    fs::rename(&name, &hidden).unwrap();
    let memory = left().unwrap().join(MEMORY);
    fs::set_permissions(&memory, fs::Permissions::from_mode(0o600)).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&memory).unwrap();
    file.write_all_at(&[0xee; 100], (2 << 20) + 5 * 65_536)
        .unwrap();
    let tail = file.metadata().unwrap().len() - 64;
    file.write_all_at(&[0xee; 64], tail).unwrap();
    let again = pull(&reopened(&home), root, &out).unwrap();
    assert_equal(&chain, &again);
    assert_sound(again.youngest().path());
    // Of the full snapshot one block was fetched; the diffs have theirs to fetch.
    assert!(again.progress.moved < total.progress.moved);
    assert!(!hidden.exists());
    // What is of another file is not even looked at.
    fs::remove_dir_all(&out).unwrap();
    fs::create_dir_all(&hidden).unwrap();
    fs::set_permissions(&hidden, fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(hidden.join(MEMORY), vec![0xee; 4 << 20]).unwrap();
    let again = pull(&reopened(&home), root, &out).unwrap();
    assert_equal(&chain, &again);
}
