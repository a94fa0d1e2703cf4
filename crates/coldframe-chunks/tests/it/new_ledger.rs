//! A damaged ledger, and a new one in its place.

use coldframe_chunkfile::Ledger;
use coldframe_chunks::{Backend as _, ChunkStore as _, Folder, Key, NewLedger, StoreError};
use coldframe_envelope::Producer;

use crate::backend::{MemBackend, Trouble};
use crate::support::{
    AT_ONCE, bytes, id, index_of, mem, name, push_image, put, reopened, tag_of, untag,
};

/// Flips a byte of a section that is not the last: names of tags and files stay to be read.
fn damage(backend: &MemBackend) {
    backend.rot(&Key::Ledger, |bytes| {
        let mut ledger = Ledger::decode(bytes).unwrap();
        ledger.damaged.insert((id(99), 7));
        *bytes = ledger.encode(Producer::new("test", "1").unwrap()).unwrap();
        let is_damage = |at: &usize| {
            let mut spoilt = bytes.clone();
            spoilt[*at] ^= 1;
            let salvaged = Ledger::salvage(&spoilt);
            let has_all = !salvaged.names.is_empty() && !salvaged.files.is_empty();
            Ledger::decode(&spoilt).is_err_and(|error| error.is_corrupt()) && has_all
        };
        let at = (0..bytes.len()).find(is_damage).unwrap();
        bytes[at] ^= 1;
    });
}

fn ledger(backend: &MemBackend) -> Ledger {
    Ledger::decode(&backend.files()[&Key::Ledger]).unwrap()
}

// Spec: STORE-47
#[test]
fn a_store_with_a_damaged_ledger_is_written_to_again_after_a_new_one() {
    let (store, backend) = mem();
    assert_eq!(store.renew_ledger().unwrap(), None);
    push_image(&store, "a", &[1]).unwrap();
    push_image(&store, "gone", &[2]).unwrap();
    untag(&store, "gone");
    assert_eq!(store.renew_ledger().unwrap(), None);
    let sound = backend.files()[&Key::Ledger].clone();
    let mut renewed = 0;
    for at in 0..sound.len() {
        backend.rot(&Key::Ledger, |bytes| bytes[at] ^= 0x80);
        let store = reopened(&backend);
        assert!(store.push().is_err(), "byte {at}");
        match store.renew_ledger() {
            Ok(Some(new)) => {
                let (tags, files) = (1..=2, 2..=3);
                let is_all = tags.contains(&new.tags) && files.contains(&new.files);
                assert!(is_all, "byte {at}: {new:?}");
                renewed += 1;
                push_image(&store, "b", &[3]).unwrap();
                assert_eq!(store.get(id(1)).unwrap(), bytes(1));
                untag(&store, "b");
            }
            Err(StoreError::DamagedLedger { source }) => {
                assert!(source.is_unsupported_version(), "byte {at}: {source}");
            }
            other => panic!("byte {at}: {other:?}"),
        }
        backend.rot(&Key::Ledger, |bytes| *bytes = sound.to_vec());
    }
    assert!(renewed > sound.len() / 2, "{renewed} of {}", sound.len());
    backend.rot(&Key::Ledger, Vec::clear);
    let store = reopened(&backend);
    store.renew_ledger().unwrap().unwrap();
    let done = store.collect(AT_ONCE, &[]).unwrap();
    assert_eq!(done.live_chunks, 1);
    assert!(store.verify(&[]).unwrap().is_sound());
}

// What was condemned counts as there again: a later push may rely upon it.
// Spec: STORE-47
#[test]
fn what_was_condemned_is_needed_again_when_a_push_finds_it() {
    let (store, backend) = mem();
    push_image(&store, "a", &[1]).unwrap();
    push_image(&store, "old", &[2]).unwrap();
    untag(&store, "old");
    let reader = backend.lease().unwrap();
    assert_eq!(store.collect(AT_ONCE, &[]).unwrap().waiting, 2);
    damage(&backend);
    let new = store.renew_ledger().unwrap();
    assert_eq!(new, Some(NewLedger { tags: 1, files: 2 }));
    assert!(ledger(&backend).condemned.is_empty());
    let push = store.push().unwrap();
    assert!(push.has(id(2)).unwrap());
    let ids = put(&push, &[2]).unwrap();
    let root = push.put_root(&[&index_of(&ids)]).unwrap();
    assert_eq!(store.collect(AT_ONCE, &[]).unwrap().deleted_packs, 0);
    push.tag(&name("new"), None, tag_of(root)).unwrap();
    push.finish().unwrap();
    drop(reader);
    for _ in 0..2 {
        store.collect(AT_ONCE, &[]).unwrap();
    }
    assert_eq!(reopened(&backend).get(id(2)).unwrap(), bytes(2));
    assert!(reopened(&backend).verify(&[]).unwrap().is_sound());
}

// A collector may have overlooked its lease, and that is not known any more.
// Spec: STORE-46, STORE-47
#[test]
fn a_push_that_began_before_the_new_ledger_fails_and_leaves_no_tag() {
    let (store, backend) = mem();
    push_image(&store, "a", &[1]).unwrap();
    let push = store.push().unwrap();
    let ids = put(&push, &[1, 2]).unwrap();
    let root = push.put_root(&[&index_of(&ids)]).unwrap();
    damage(&backend);
    assert!(matches!(
        push.tag(&name("b"), None, tag_of(root)),
        Err(StoreError::DamagedLedger { .. })
    ));
    store.renew_ledger().unwrap().unwrap();
    let lost = push.tag(&name("b"), None, tag_of(root));
    assert!(matches!(lost, Err(StoreError::LeaseLost)), "{lost:?}");
    assert_eq!(store.tag(&name("b")).unwrap(), None);
    assert!(matches!(push.finish(), Err(StoreError::LeaseLost)));
    push_image(&store, "b", &[1, 2]).unwrap();
    // And once more: each new ledger is later than the one before.
    let push = store.push().unwrap();
    put(&push, &[1]).unwrap();
    store.collect(AT_ONCE, &[]).unwrap();
    damage(&backend);
    std::thread::sleep(std::time::Duration::from_millis(2));
    store.renew_ledger().unwrap().unwrap();
    assert!(matches!(push.finish(), Err(StoreError::LeaseLost)));
}

// The damaged ledger's own names count as long as their section holds.
// Spec: STORE-26, STORE-47
#[test]
fn a_tag_that_a_listing_leaves_out_meanwhile_is_needed_all_the_same() {
    let (store, backend) = mem();
    push_image(&store, "a", &[1]).unwrap();
    damage(&backend);
    backend.trouble(Trouble::EmptyList(Folder::Tags));
    backend.trouble(Trouble::EmptyList(Folder::Roots));
    let new = store.renew_ledger().unwrap();
    assert_eq!(new, Some(NewLedger { tags: 1, files: 1 }));
    backend.trouble(Trouble::EmptyList(Folder::Tags));
    assert_eq!(store.collect(AT_ONCE, &[]).unwrap().live_chunks, 1);
}

#[test]
fn a_new_ledger_is_made_by_one_at_a_time() {
    let (store, backend) = mem();
    push_image(&store, "a", &[1]).unwrap();
    damage(&backend);
    let right = backend.exclusive().unwrap();
    assert!(matches!(store.renew_ledger(), Err(StoreError::Busy)));
    drop(right);
    assert!(store.renew_ledger().unwrap().is_some());
}
