//! Power cuts: after every change of the place, and in the middle of every file that is written.

mod directory;
mod faults;
mod unreadable;

use std::collections::HashMap;

use coldframe_chunks::{ChunkStore, Key, PackStore};
use coldframe_storage::Storage;
use coldframe_testkit::crash::{CrashDir, SECTOR_4K};
use coldframe_units::FileOffset;

use crate::backend::{Files, MemBackend};
use crate::support::{AT_ONCE, OPTIONS, id, mem, name, push_image, reopened, untag};

/// Opens what a power cut left; whatever is tagged is whole, and work goes on.
#[track_caller]
fn check(files: Files) {
    let backend = MemBackend::with_files(files);
    let store = reopened(&backend);
    let verified = store.verify(&[]).unwrap();
    assert!(verified.is_sound(), "{verified:?}");
    let tags = store.tags().unwrap();
    if tags.contains_key(&name("kept")) {
        assert!((1..4).all(|number| store.get(id(number)).is_ok()));
    }
    push_image(&store, "later", &[2, 50]).unwrap();
    store.collect(AT_ONCE, &[]).unwrap();
    let other = reopened(&backend);
    assert!(other.verify(&[]).unwrap().is_sound());
    assert_eq!(other.tags().unwrap().len(), tags.len() + 1);
    assert!(other.get(id(50)).is_ok());
}

/// Two pushes, a tag removed, collections: the files after each change.
fn history() -> Vec<Files> {
    let (store, backend) = mem();
    push_image(&store, "kept", &[1, 2, 3]).unwrap();
    push_image(&store, "gone", &[3, 4, 5, 6]).unwrap();
    untag(&store, "gone");
    let push = store.push().unwrap();
    store.collect(AT_ONCE, &[]).unwrap();
    drop(push);
    push_image(&store, "again", &[4, 5]).unwrap();
    store.collect(AT_ONCE, &[]).unwrap();
    backend.history()
}

// Spec: STORE-5, STORE-11
// Parity: D31, D31b, F28, M4
#[test]
fn after_a_power_cut_at_any_change_the_store_is_sound() {
    let history = history();
    // Among them: packs, files, tags, the ledger, and what is deleted.
    assert!(history.len() > 15, "{}", history.len());
    let mut kinds = HashMap::new();
    for files in history.into_iter().skip(1) {
        for key in files.keys() {
            *kinds.entry(std::mem::discriminant(key)).or_insert(0) += 1;
        }
        check(files);
    }
    assert_eq!(kinds.len(), 5);
}

/// The steps by which a file is published, with what a power cut at each may leave of it.
fn torn(name: &str, bytes: &[u8], seed: u64) -> Vec<Option<Vec<u8>>> {
    let dir = CrashDir::new();
    let mut states = Vec::new();
    let mut cut = |dir: &CrashDir| {
        for files in dir.crash_states(SECTOR_4K, seed, 12) {
            states.push(files.get(name).cloned());
        }
    };
    let file = dir.create("temporary");
    cut(&dir);
    file.write_at(FileOffset::ZERO, bytes).unwrap();
    cut(&dir);
    file.sync_data().unwrap();
    cut(&dir);
    dir.rename("temporary", name);
    cut(&dir);
    dir.sync_dir();
    cut(&dir);
    states
}

// Spec: STORE-5
// Parity: D34, D76, F25, F80
#[test]
fn of_a_file_that_is_being_published_all_is_left_or_nothing() {
    let history = history();
    let mut published = 0;
    for (number, pair) in history.windows(2).enumerate() {
        let is_new = |key: &&Key| !pair[0].contains_key(*key);
        let Some(key) = pair[1].keys().find(is_new) else {
            continue;
        };
        published += 1;
        let states = torn("file", &pair[1][key], number as u64);
        assert!(states.iter().any(Option::is_none) && states.iter().any(Option::is_some));
        for state in states {
            match state {
                Some(bytes) => assert_eq!(bytes, pair[1][key]),
                None => check(pair[0].clone()),
            }
        }
    }
    assert!(published > 5);
}

// The torn-write analysis of the pack: should a half one be seen all the same.
// Parity: D34, F25
#[test]
fn a_torn_pack_is_left_out_or_its_chunks_are_errors() {
    let (store, backend) = mem();
    push_image(&store, "kept", &(0..40).collect::<Vec<_>>()).unwrap();
    let pack = backend.keys(coldframe_chunks::Folder::Packs)[0].clone();
    let file = coldframe_testkit::crash::CrashStorage::new(Vec::new());
    file.write_at(FileOffset::ZERO, &backend.files()[&pack])
        .unwrap();
    for image in file.crash_states(SECTOR_4K, 7, 300) {
        let mut files = backend.files();
        files.insert(pack.clone(), image.into());
        let store = PackStore::open_at(MemBackend::with_files(files), OPTIONS).unwrap();
        for number in 0..40 {
            match store.get(id(number)) {
                Ok(bytes) => assert_eq!(bytes, crate::support::bytes(number)),
                Err(error) => assert!(error.is_missing() || error.is_corrupt()),
            }
        }
    }
}
