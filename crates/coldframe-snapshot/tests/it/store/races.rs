//! Several at once.

use std::thread;

use coldframe_snapshot::store::SnapshotTracer;

use super::{assert_equal, chain_in, new_store, pull, push, reopened};
use crate::support::Home;

// Spec: STORE-8, STORE-20
#[test]
fn two_pushes_at_once_both_end_well() {
    let home = Home::new();
    let chain = chain_in(&home);
    new_store(&home);
    thread::scope(|scope| {
        for tag in ["a", "b", "a"] {
            let (home, chain) = (&home, &chain);
            // Of two to one tag the slower may be told that the other made it.
            scope.spawn(move || {
                let pushed = push(chain, &reopened(home), tag);
                let moved = pushed.as_ref().is_err_and(|error| {
                    let text = format!("{error:?}");
                    text.contains("TagMoved")
                });
                assert!(pushed.is_ok() || (tag == "a" && moved), "{pushed:?}");
            });
        }
    });
    let store = reopened(&home);
    assert_eq!(store.tags().unwrap().len(), 2);
    assert!(store.verify(&[&SnapshotTracer]).unwrap().is_sound());
    let pulled = pull(&store, chain.youngest().root(), &home.at("out")).unwrap();
    assert_equal(&chain, &pulled);
}

// Spec: STORE-21
#[test]
fn two_pulls_at_once_into_one_directory_both_end_well() {
    let home = Home::new();
    let chain = chain_in(&home);
    let root = push(&chain, &new_store(&home), "two").unwrap().root;
    let out = home.at("out");
    thread::scope(|scope| {
        for _ in 0..3 {
            let (home, out, chain) = (&home, &out, &chain);
            scope.spawn(move || {
                let pulled = pull(&reopened(home), root, out).unwrap();
                assert_equal(chain, &pulled);
            });
        }
    });
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), 3);
}
