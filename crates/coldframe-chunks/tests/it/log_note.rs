//! The log that a disk's tag names.

use std::time::Duration;

use coldframe_chunkfile::{LogPlace, Tag};
use coldframe_chunks::{CollectOptions, LogNote, StoreError};

use crate::support::{index_of, mem, name, push_image, put, reopened, untag};

fn note(store: &coldframe_chunks::PackStore<crate::backend::MemBackend>) -> LogNote {
    LogNote {
        id: store.new_log_id().unwrap(),
        place: LogPlace::new(b"host", b"/logs/a.wal"),
    }
}

// Spec: STORE-40, STORE-41
#[test]
fn a_log_is_named_and_given_up_by_whoever_knows_the_tag() {
    let (store, backend) = mem();
    push_image(&store, "a", &[1, 2]).unwrap();
    let bare = store.tag(&name("a")).unwrap().unwrap();
    let (disk, log) = (store.new_disk_id().unwrap(), note(&store));
    let noted = store.set_log(&name("a"), bare, Some(disk), Some(log.clone()));
    let noted = noted.unwrap();
    let other = reopened(&backend);
    assert_eq!(other.tag(&name("a")).unwrap(), Some(noted));
    assert_eq!(noted.disk, Some(disk));
    assert_eq!(other.log_note(&name("a")).unwrap(), Some(log.clone()));
    assert_eq!(log.to_string(), "/logs/a.wal on host host");
    let late = other.set_log(&name("a"), bare, Some(disk), Some(note(&store)));
    assert!(matches!(late, Err(StoreError::TagMoved { .. })), "{late:?}");
    let cleared = other.set_log(&name("a"), noted, noted.disk, None).unwrap();
    assert_eq!((cleared.disk, cleared.log), (Some(disk), None));
    assert_eq!(store.log_note(&name("a")).unwrap(), None);
    untag(&store, "a");
}

// Spec: STORE-42
#[test]
fn a_tag_that_names_a_log_is_neither_removed_nor_taken_nor_collected() {
    let (store, _) = mem();
    let root = push_image(&store, "a", &[1, 2]).unwrap();
    let bare = store.tag(&name("a")).unwrap().unwrap();
    let log = note(&store);
    let noted = store.set_log(
        &name("a"),
        bare,
        store.new_disk_id().ok(),
        Some(log.clone()),
    );
    let noted = noted.unwrap();
    let refused = |result: Result<(), StoreError>| match result {
        Err(StoreError::UnfoldedLog { log: found, .. }) => assert_eq!(*found, log),
        other => panic!("{other:?}"),
    };
    refused(store.remove_tag(&name("a"), noted));
    let push = store.push().unwrap();
    let ids = put(&push, &[3]).unwrap();
    let new = push.put_root(&[&index_of(&ids)]).unwrap();
    refused(push.tag(&name("a"), Some(noted), Tag::disk(new, noted.disk.unwrap())));
    let strange = Tag {
        log: Some(store.new_log_id().unwrap()),
        ..noted
    };
    refused(push.tag(&name("a"), Some(noted), strange));
    // Whoever has the log moves the tag, and the log stays named.
    let moved = Tag { root: new, ..noted };
    push.tag(&name("a"), Some(noted), moved).unwrap();
    push.finish().unwrap();
    assert_eq!(store.log_note(&name("a")).unwrap(), Some(log));
    let at_once = CollectOptions {
        grace: Duration::ZERO,
        ..CollectOptions::USUAL
    };
    store.collect(at_once, &[]).unwrap();
    store.collect(at_once, &[]).unwrap();
    assert!(store.image(new).is_ok(), "what the log is based on stays");
    assert!(store.image(root).is_err(), "what nobody names goes");
}
