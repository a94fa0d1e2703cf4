//! A store, or a directory to pull to, that is full: an error, nothing lost, and room helps.

use std::fs;

use coldframe_testkit::small::Small;

use super::{assert_equal, assert_sound_store, frozen, noise, pull, pulled_path, push, store_verb};
use crate::support::{Home, coldframe, names};

// Parity: D34, F80
#[test]
fn a_full_store_is_an_error_that_loses_nothing_and_room_helps() {
    let home = Home::new();
    let Some(small) = Small::new(48 << 20) else {
        return;
    };
    let store = small.path().join("store");
    coldframe(&[&"store", &"init", &"--store", &store]).done();
    let one = frozen(&home, "one", &noise(41, 64));
    let two = frozen(&home, "two", &noise(42, 512));
    push(&one, &store, &["--name", "one"]).done();
    let before = store_verb("ls", &store, &[]).done().json();
    fs::write(small.path().join("filler"), noise(43, 256)).unwrap();
    let failed = push(&two, &store, &["--name", "two"]);
    failed.fails(
        3,
        &["cannot push", "the store failed", "No space left on device"],
    );
    assert_eq!(store_verb("ls", &store, &[]).done().json(), before);
    assert_sound_store(&store);
    let report = pull("one", &store, &home.at("out"), &[]).done().json();
    assert_equal(&one, &pulled_path(&report));
    // No half-written pack keeps the room that is missing.
    let left = names(&store.join("packs"));
    assert!(left.iter().all(|name| !name.starts_with('.')), "{left:?}");

    fs::remove_file(small.path().join("filler")).unwrap();
    push(&two, &store, &["--name", "two"]).done();
    assert_sound_store(&store);
    let report = pull("two", &store, &home.at("out"), &[]).done().json();
    assert_equal(&two, &pulled_path(&report));
}

#[test]
fn a_pull_to_a_full_disk_is_an_error_and_goes_on_when_there_is_room() {
    let home = Home::new();
    let Some(small) = Small::new(24 << 20) else {
        return;
    };
    let store = super::new_store(&home);
    let one = frozen(&home, "one", &noise(44, 256));
    push(&one, &store, &["--name", "one"]).done();
    fs::write(small.path().join("filler"), noise(45, 256)).unwrap();
    let out = small.path().join("out");
    let failed = pull("one", &store, &out, &[]);
    failed.fails(3, &["cannot pull one", "No space left on device"]);
    assert!(names(&out).iter().all(|name| name.starts_with('.')));
    fs::remove_file(small.path().join("filler")).unwrap();
    let report = pull("one", &store, &out, &[]).done().json();
    assert_equal(&one, &pulled_path(&report));
    // Some of it had been fetched.
    assert!(
        report["fetched_blocks"].as_u64().unwrap() < 256,
        "{report:#}"
    );
    assert_eq!(names(&out).len(), 1);
}
