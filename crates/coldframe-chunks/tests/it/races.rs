//! Two that push and one that collects, all at once.

use std::sync::atomic::{AtomicBool, Ordering};

use coldframe_chunks::{Backend, ChunkStore, LocalStore, PackStore};
use coldframe_testkit::rng::Rng;

use crate::places::remotes;
use crate::support::{AT_ONCE, OPTIONS, id, name, push_image, untag};

/// Both draw from the same few chunks, so that orphans are found again.
fn push_for_a_while<B: Backend>(open: &impl Fn() -> PackStore<B>, pusher: u64, rounds: usize) {
    let store = open();
    let tag = format!("tag-{pusher}");
    let mut rng = Rng::new(pusher);
    for _ in 0..rounds {
        let numbers: Vec<u64> = (0..6).map(|_| rng.below(24)).collect();
        push_image(&store, &tag, &numbers).unwrap();
        for number in &numbers {
            store.get(id(*number)).unwrap();
        }
        let fresh = open();
        assert!(numbers.iter().all(|number| fresh.get(id(*number)).is_ok()));
        if rng.below(3) == 0 {
            untag(&store, &tag);
        }
    }
    push_image(&store, &tag, &[pusher]).unwrap();
}

fn race<B: Backend>(open: &(impl Fn() -> PackStore<B> + Sync), rounds: usize) {
    open();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let pushers =
            [0, 1].map(|pusher| scope.spawn(move || push_for_a_while(open, pusher, rounds)));
        let collector = scope.spawn(|| {
            let store = open();
            let mut deleted = 0;
            while !done.load(Ordering::Relaxed) {
                deleted += store.collect(AT_ONCE, &[]).unwrap().deleted_packs;
            }
            deleted
        });
        for pusher in pushers {
            pusher.join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
        assert!(collector.join().unwrap() > 0);
    });
    let store = open();
    assert!(store.verify(&[]).unwrap().is_sound());
    let done = store.collect(AT_ONCE, &[]).unwrap();
    assert_eq!(done.waiting, 0);
    assert_eq!(done.live_chunks, 2);
    assert!(store.tag(&name("tag-1")).unwrap().is_some());
    assert!(store.get(id(0)).is_ok() && store.get(id(1)).is_ok());
}

// Spec: STORE-11
// Parity: M10
#[test]
fn two_pushes_and_a_collector_at_once_lose_nothing_that_is_tagged() {
    let dir = coldframe_testkit::scratch::on_disk();
    race(&|| LocalStore::create(dir.path()).unwrap(), 40);
}

// Spec: STORE-11, STORE-24
// Parity: M1
#[test]
fn two_pushes_and_a_collector_at_once_lose_nothing_in_object_storage() {
    for place in remotes() {
        let rounds = if place.name == "memory" { 25 } else { 6 };
        race(
            &|| PackStore::create_at(place.open(), OPTIONS).unwrap(),
            rounds,
        );
    }
}

// A list that is older than a push of another thread once made the catalog forget the pack.
// Parity: M10
#[test]
fn threads_of_one_store_do_not_forget_each_others_packs() {
    let dir = coldframe_testkit::scratch::on_disk();
    let store = LocalStore::create(dir.path()).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let store = &store;
            scope.spawn(move || {
                for round in 0..25 {
                    let numbers = [thread * 100 + round];
                    push_image(store, &format!("t{thread}"), &numbers).unwrap();
                }
            });
        }
    });
    assert_eq!(store.tags().unwrap().len(), 4);
    assert!(store.verify(&[]).unwrap().is_sound());
}
