//! A place that fails: nothing that was acknowledged is lost, and nothing is believed that failed.

use coldframe_chunks::{ChunkStore, Folder, StoreError};

use crate::backend::Trouble;
use crate::support::{
    AT_ONCE, chunk, id, index_of, mem, name, push_image, put, reopened, tag_of, untag,
};

// Failure mode 7: disk full, then freed.
// Spec: STORE-5
// Parity: D34, D76, F80, M7
#[test]
fn a_full_disk_loses_nothing_and_works_again_when_freed() {
    let (store, backend) = mem();
    store.put(&chunk(1)).unwrap();
    backend.trouble(Trouble::Full);
    let push = store.push().unwrap();
    put(&push, &[2, 3]).unwrap();
    let error = push.flush().unwrap_err();
    assert!(error.is_out_of_space(), "{error}");
    // The push is over: what it had counted on is not taken for stored.
    assert!(matches!(put(&push, &[2]), Err(StoreError::PushFailed)));
    assert!(matches!(
        push.put_root(&[&index_of(&[id(2)])]),
        Err(StoreError::PushFailed)
    ));
    assert!(matches!(push.finish(), Err(StoreError::PushFailed)));
    assert!(store.get(id(1)).is_ok());
    assert!(store.get(id(2)).unwrap_err().is_missing());
    assert!(store.put(&chunk(2)).unwrap_err().is_out_of_space());
    backend.heal();
    assert_eq!(store.put_many(&[chunk(2), chunk(3)]).unwrap().written, 2);
    assert!(reopened(&backend).get(id(3)).is_ok());
}

// Failure mode 4: an index that is durable before its data.
// Spec: STORE-7
// Parity: D31, M4
#[test]
fn a_file_is_kept_only_after_the_chunks_that_it_names() {
    let (store, backend) = mem();
    let push = store.push().unwrap();
    let missing = push.put_root(&[&index_of(&[id(1)])]).unwrap_err();
    assert!(matches!(missing, StoreError::MissingChunk { id: named } if named == id(1)));
    let ids = put(&push, &[1]).unwrap();
    let root = push.put_root(&[&index_of(&ids)]).unwrap();
    push.tag(&name("a"), None, tag_of(root)).unwrap();
    drop(push);
    // In the history of the place, no state has a file without its chunks, or a tag without its
    // file.
    for files in backend.history() {
        let later = crate::backend::MemBackend::with_files(files);
        let has = |folder| !later.keys(folder).is_empty();
        assert!(!has(Folder::Roots) || has(Folder::Packs));
        assert!(!has(Folder::Tags) || has(Folder::Roots));
    }
}

// Every single call of a push fails once, with and without its effect: afterwards the store is
// sound, and the same push again succeeds.
// Spec: STORE-8
// Parity: D34, F42, F80
#[test]
fn any_one_failure_leaves_a_sound_store_and_a_push_that_can_be_repeated() {
    let (store, backend) = mem();
    let before = backend.calls();
    push_image(&store, "a", &[1, 2]).unwrap();
    let calls = backend.calls() - before;
    assert!(calls > 8, "{calls}");
    for nth in 1..=calls {
        for has_effect in [false, true] {
            let (store, backend) = mem();
            backend.trouble(Trouble::Fail(nth, has_effect));
            let first = push_image(&store, "a", &[1, 2]);
            backend.heal();
            let verified = reopened(&backend).verify(&[]).unwrap();
            assert!(verified.is_sound(), "call {nth}: {verified:?}");
            if first.is_err() {
                push_image(&store, "a", &[1, 2]).unwrap();
            }
            let other = reopened(&backend);
            assert!(other.tag(&name("a")).unwrap().is_some());
            assert!(other.get(id(2)).is_ok());
        }
    }
}

// Every single call of a collection fails once: nothing that is tagged is lost, and the next
// collection finishes the work.
// Spec: STORE-11
#[test]
fn any_one_failure_of_a_collection_loses_nothing() {
    let prepare = || {
        let (store, backend) = mem();
        push_image(&store, "kept", &[1, 2, 3]).unwrap();
        push_image(&store, "gone", &[3, 4, 5, 6, 7, 8]).unwrap();
        untag(&store, "gone");
        (store, backend)
    };
    let (store, backend) = prepare();
    let before = backend.calls();
    store.collect(AT_ONCE, &[]).unwrap();
    let calls = backend.calls() - before;
    for nth in 1..=calls {
        for has_effect in [false, true] {
            let (store, backend) = prepare();
            backend.trouble(Trouble::Fail(nth, has_effect));
            let _ = store.collect(AT_ONCE, &[]);
            backend.heal();
            let other = reopened(&backend);
            assert!(other.verify(&[]).unwrap().is_sound(), "call {nth}");
            other.collect(AT_ONCE, &[]).unwrap();
            assert!(
                (1..4).all(|number| other.get(id(number)).is_ok()),
                "call {nth}"
            );
            assert!(
                (4..9).all(|number| !other.has(id(number)).unwrap()),
                "call {nth}"
            );
            assert_eq!(backend.keys(Folder::Roots).len(), 1, "call {nth}");
        }
    }
}

// Failure mode 8: one bad file does not stop the store from being opened.
// Parity: M8
#[test]
fn an_unreadable_tag_stops_the_collector_and_not_the_readers() {
    let (store, backend) = mem();
    push_image(&store, "a", &[1]).unwrap();
    push_image(&store, "b", &[2]).unwrap();
    let key = coldframe_chunks::Key::Tag(name("b"));
    backend.rot(&key, |bytes| bytes.truncate(99));
    let other = reopened(&backend);
    assert!(other.get(id(2)).is_ok());
    assert!(other.tag(&name("a")).unwrap().is_some());
    let error = other.collect(AT_ONCE, &[]).unwrap_err();
    assert!(matches!(error, StoreError::DamagedTag { name: tag, .. } if tag == name("b")));
    assert!(other.get(id(2)).is_ok());
}
