//! Every call to the host fails once while a store in a directory is worked on.

use std::path::Path;

use coldframe_chunks::{ChunkStore, Directory, LocalStore, PackStore, StoreError};
use coldframe_testkit::crash::{Work, fail_everywhere};

use crate::support::{AT_ONCE, OPTIONS, bytes, id, name, push_image, untag};

type Store = PackStore<Directory>;

/// With an image tagged `kept`, and garbage of one that is not tagged any more.
fn prepared(dir: &Path) -> Store {
    let path = dir.join("store");
    drop(LocalStore::create(&path).unwrap());
    let store = open(dir);
    push_image(&store, "kept", &[1, 2, 3]).unwrap();
    push_image(&store, "gone", &[3, 4, 5, 6]).unwrap();
    untag(&store, "gone");
    store
}

fn open(dir: &Path) -> Store {
    PackStore::open_at(Directory::new(&dir.join("store")).unwrap(), OPTIONS).unwrap()
}

/// What is tagged is whole, and work goes on.
fn check(dir: &Path, is_new_there: bool) {
    let store = open(dir);
    let verified = store.verify(&[]).unwrap();
    assert!(verified.is_sound(), "{verified:?}");
    let tags = store.tags().unwrap();
    let images: [(&str, &[u64]); 2] = [("kept", &[1, 2, 3]), ("new", &[2, 7, 8])];
    for (tag, chunks) in images {
        if tags.contains_key(&name(tag)) {
            for number in chunks {
                assert_eq!(store.get(id(*number)).unwrap(), bytes(*number));
            }
        }
    }
    assert!(tags.contains_key(&name("kept")));
    assert!(tags.contains_key(&name("new")) || !is_new_there);
    push_image(&store, "later", &[2, 50]).unwrap();
    store.collect(AT_ONCE, &[]).unwrap();
    assert!(open(dir).verify(&[]).unwrap().is_sound());
}

struct Push;

impl Work for Push {
    type Input = Store;

    fn prepare(&mut self, dir: &Path) -> Store {
        prepared(dir)
    }

    fn run(&mut self, _: &Path, store: &mut Store) -> bool {
        push_image(store, "new", &[2, 7, 8]).is_ok()
    }

    fn check(&mut self, dir: &Path, store: Store, is_done: bool) {
        drop(store);
        check(dir, is_done);
    }
}

// Spec: STORE-5
#[test]
fn a_push_that_fails_anywhere_harms_nothing_that_is_tagged() {
    let failed = fail_everywhere(&mut Push);
    assert!(failed.writes > 2 && failed.syncs > 4, "{failed:?}");
}

struct Collect;

impl Work for Collect {
    type Input = Store;

    fn prepare(&mut self, dir: &Path) -> Store {
        prepared(dir)
    }

    fn run(&mut self, _: &Path, store: &mut Store) -> bool {
        let collected: Result<_, StoreError> = store.collect(AT_ONCE, &[]);
        collected.is_ok()
    }

    fn check(&mut self, dir: &Path, store: Store, _: bool) {
        drop(store);
        check(dir, false);
    }
}

// Spec: STORE-11
#[test]
fn a_collection_that_fails_anywhere_harms_nothing_that_is_tagged() {
    let failed = fail_everywhere(&mut Collect);
    assert!(failed.writes > 0 && failed.syncs > 0, "{failed:?}");
}
