//! What is on this side already is not fetched, and not believed.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};

use coldframe_chunks::PackStore;
use coldframe_snapshot::{MEMORY, store};

use super::flaky::Flaky;
use super::{OPTIONS, assert_equal, chain_in, new_store, pull, push, reopened};
use crate::support::{Home, assert_sound, copy_dir};

/// Pack bytes that opening a store reads: the tables.
fn tables(home: &Home) -> u64 {
    let flaky = Flaky::new(home, u64::MAX);
    PackStore::open_at(flaky.clone(), OPTIONS).unwrap();
    flaky.pack_bytes_read()
}

// Spec: STORE-21
// Parity: F73
#[test]
fn blocks_of_snapshots_nearby_are_not_fetched() {
    let home = Home::new();
    let chain = chain_in(&home);
    let root = push(&chain, &new_store(&home), "two").unwrap().root;
    let flaky = Flaky::new(&home, u64::MAX);
    let store = PackStore::open_at(flaky.clone(), OPTIONS).unwrap();
    let out = home.at("out");
    let search = [home.path().to_path_buf()];
    let pulled = store::pull(&store, root, &out, &search, &mut |_| ()).unwrap();
    assert_equal(&chain, &pulled);
    assert_eq!(pulled.progress.moved, 0);
    assert_eq!(flaky.pack_bytes_read(), tables(&home));
    // With the parents there, only what the youngest has of its own.
    let dir = home.at("part");
    fs::create_dir(&dir).unwrap();
    copy_dir(&home.at("full"), &dir.join("base"));
    copy_dir(&home.at("one"), &dir.join("next"));
    let pulled = pull(&reopened(&home), root, &dir).unwrap();
    let new: Vec<bool> = pulled.links.iter().map(|link| link.is_new).collect();
    assert_eq!(new, [false, false, true]);
    assert_eq!(pulled.progress.moved, pulled.progress.blocks);
}

// Spec: STORE-21
#[test]
fn a_damaged_block_nearby_is_fetched_instead() {
    let home = Home::new();
    let chain = chain_in(&home);
    let root = push(&chain, &new_store(&home), "two").unwrap().root;
    let near = home.at("near");
    fs::create_dir(&near).unwrap();
    copy_dir(&home.at("full"), &near.join("base"));
    let memory = near.join("base").join(MEMORY);
    fs::set_permissions(&memory, fs::Permissions::from_mode(0o600)).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&memory).unwrap();
    file.write_all_at(&[0xee; 4096], 2 << 20).unwrap();
    fs::set_permissions(&memory, fs::Permissions::from_mode(0o400)).unwrap();
    let full = chain.links()[0].root();
    let out = home.at("out");
    let store = reopened(&home);
    let pulled = store::pull(&store, full, &out, &[near], &mut |_| ()).unwrap();
    assert_eq!(pulled.progress.moved, 1);
    assert_sound(pulled.youngest().path());
    assert_equal(&chain, &pull(&store, root, &out).unwrap());
}
