//! The collector frees garbage, and only that.

use std::fs;

use super::{assert_equal, assert_sound_store, files, frozen, new_store, noise, pull};
use super::{pulled_path, push, store_verb};
use crate::support::{Home, coldframe, keys, names};

const BLOCKS: usize = 64;

// Parity: D37, F41
#[test]
fn only_garbage_is_freed_and_a_dry_run_says_how_much() {
    let home = Home::new();
    let store = new_store(&home);
    let one = frozen(&home, "one", &noise(31, BLOCKS));
    let two = frozen(&home, "two", &noise(32, BLOCKS));
    push(&one, &store, &["--name", "one"]).done();
    push(&two, &store, &["--name", "two"]).done();
    let nothing = store_verb("gc", &store, &["--grace", "0"]).done().json();
    let all = [
        "acquitted",
        "compacted_packs",
        "condemned_files",
        "condemned_packs",
        "deleted_bytes",
        "deleted_files",
        "deleted_packs",
        "dry_run",
        "live_chunks",
        "temporaries",
        "unreadable_packs",
        "waiting",
    ];
    assert_eq!(keys(&nothing), all);
    assert_eq!(
        (&nothing["deleted_packs"], &nothing["deleted_files"]),
        (&0.into(), &0.into())
    );
    assert_eq!(nothing["live_chunks"], 2 * BLOCKS);

    fs::remove_file(store.join("tags/one")).unwrap();
    let dry = store_verb("gc", &store, &["--grace", "0", "--dry-run"])
        .done()
        .json();
    assert_eq!(
        (&dry["dry_run"], &dry["deleted_packs"]),
        (&true.into(), &0.into())
    );
    assert_eq!(
        (&dry["condemned_packs"], &dry["condemned_files"]),
        (&1.into(), &2.into())
    );
    assert_eq!(files(&store, "packs").len(), 2);
    // Young garbage may be what somebody is about to name.
    let young = store_verb("gc", &store, &[]).done().json();
    assert_eq!(
        (&young["condemned_packs"], &young["deleted_packs"]),
        (&0.into(), &0.into())
    );

    let freed = store_verb("gc", &store, &["--grace", "0"]).done().json();
    assert_eq!(
        (&freed["deleted_packs"], &freed["deleted_files"]),
        (&1.into(), &2.into())
    );
    assert_eq!(freed["live_chunks"], BLOCKS);
    assert!(freed["deleted_bytes"].as_u64().unwrap() > (BLOCKS * super::BLOCK) as u64);
    assert_eq!(files(&store, "packs").len(), 1);
    assert_sound_store(&store);
    let report = pull("two", &store, &home.at("out"), &[]).done().json();
    assert_equal(&two, &pulled_path(&report));
    // What was freed is stored anew when it comes again.
    let again = push(&one, &store, &["--name", "one"]).done().json();
    assert_eq!(again["sent_blocks"], BLOCKS);
}

#[test]
fn a_collection_says_what_it_did() {
    let home = Home::new();
    let store = new_store(&home);
    let one = frozen(&home, "one", &noise(33, BLOCKS));
    push(&one, &store, &["--name", "one"]).done();
    fs::remove_file(store.join("tags/one")).unwrap();
    let gc = |more: &str| {
        coldframe(&[
            &"store", &"gc", &"--store", &store, &"--grace", &"0s", &more,
        ])
    };
    let dry = gc("--dry-run").done();
    let said = "0 chunks are needed; 1 packs and 2 files would be condemned\n";
    assert_eq!(dry.stdout, said);
    let done = coldframe(&[&"store", &"gc", &"--store", &store, &"--grace", &"0s"]).done();
    assert!(
        done.stdout.starts_with("0 chunks are needed; 1 packs"),
        "{done:#?}"
    );
    assert!(
        done.stdout.contains("1 packs and 2 files deleted, 4"),
        "{done:#?}"
    );
}

// Parity: F41
#[test]
fn what_is_condemned_waits_for_the_push_that_was_under_way() {
    let home = Home::new();
    let store = new_store(&home);
    let one = frozen(&home, "one", &noise(34, BLOCKS));
    push(&one, &store, &["--name", "one"]).done();
    fs::remove_file(store.join("tags/one")).unwrap();
    // A lease is a lock on a file that is in its folder: this process plays the push.
    let path = store.join("leases/00000000000000aa.lease");
    let lease = fs::File::create(&path).unwrap();
    lease.lock().unwrap();
    let waits = store_verb("gc", &store, &["--grace", "0"]).done().json();
    assert_eq!(
        (&waits["condemned_packs"], &waits["deleted_packs"]),
        (&1.into(), &0.into())
    );
    assert!(waits["waiting"].as_u64().unwrap() > 0);
    let said = coldframe(&[&"store", &"gc", &"--store", &store, &"--grace", &"0"]).done();
    assert!(said.stdout.contains("wait for a push to end"), "{said:#?}");
    assert_eq!(files(&store, "packs").len(), 1);
    // The push dies: its file stays, its lock does not.
    drop(lease);
    let freed = store_verb("gc", &store, &["--grace", "0"]).done().json();
    assert_eq!(freed["deleted_packs"], 1);
    assert!(files(&store, "packs").is_empty());
    assert!(names(&store.join("leases")).is_empty());
}

#[test]
fn one_collects_at_a_time() {
    let home = Home::new();
    let store = new_store(&home);
    let other = fs::File::create(store.join("collector")).unwrap();
    other.lock().unwrap();
    let gc = store_verb("gc", &store, &[]);
    gc.fails(
        3,
        &[
            "cannot collect garbage",
            "garbage is being collected already",
        ],
    );
}
