//! Files by their root that a listing leaves out: the ledger has their names.

use std::collections::BTreeSet;
use std::time::Duration;

use coldframe_chunkfile::Ledger;
use coldframe_chunks::{
    ChunkStore, CollectOptions, Collected, Finding, Folder, Key, PackStore, StoreError,
};
use coldframe_testkit::fault::EIO;
use coldframe_testkit::unreadable::{Ailment, EACCES};
use coldframe_units::RootHash;

use crate::ailing::Ailing;
use crate::faulty::{Call, Fault, Faulty};
use crate::support::{
    AT_ONCE, OPTIONS, bytes, chunk, id, index_of, name, push_image, put, tag_of, untag,
};

fn filled() -> (Ailing, RootHash) {
    let place = Ailing::default();
    let store = PackStore::create_at(place.clone(), OPTIONS).unwrap();
    let root = push_image(&store, "a", &[1, 2]).unwrap();
    push_image(&store, "b", &[3]).unwrap();
    (place, root)
}

fn key_of(place: &Ailing, root: RootHash) -> Key {
    let keys = place.inner.keys(Folder::Roots);
    let is_it = |key: &&Key| matches!(key, Key::Root(found, _) if *found == root);
    keys.iter().find(is_it).unwrap().clone()
}

fn ledger(place: &Ailing) -> Ledger {
    Ledger::decode(&place.inner.files()[&Key::Ledger]).unwrap()
}

fn give_up(place: &Ailing, root: RootHash) -> Result<Collected, StoreError> {
    let mut done = Collected::default();
    let given_up = BTreeSet::from([root]);
    let store = place.store()?;
    store.collect_into(AT_ONCE, &[], &given_up, &mut done)?;
    Ok(done)
}

// Spec: STORE-45
// Parity: M11
#[test]
fn a_file_that_every_listing_leaves_out_is_read_and_protected_though_it_is_given_up() {
    let (place, root) = filled();
    place.spoil(&key_of(&place, root), Ailment::LeftOut);
    let store = place.store().unwrap();
    assert_eq!(store.index(root).unwrap().root(), root);
    assert!(place.store().unwrap().has_root(root).unwrap());
    for _ in 0..2 {
        let done = place.store().unwrap().collect(AT_ONCE, &[]).unwrap();
        assert_eq!((done.live_chunks, done.deleted_packs), (3, 0));
        let done = give_up(&place, root).unwrap();
        assert_eq!((done.live_chunks, done.deleted_packs), (3, 0));
    }
    place.heal();
    let store = place.store().unwrap();
    assert!(store.verify(&[]).unwrap().is_sound());
    assert_eq!(store.get(id(1)).unwrap(), bytes(1));
}

// Spec: STORE-43, STORE-45
#[test]
fn a_file_that_is_gone_stops_the_collector_until_it_is_given_up_by_name() {
    let (place, root) = filled();
    place.store().unwrap().put(&chunk(9)).unwrap();
    let key = key_of(&place, root);
    place.inner.take(&key);
    let before = place.inner.files();
    let error = place.store().unwrap().collect(AT_ONCE, &[]).unwrap_err();
    assert!(
        matches!(&error, StoreError::LostFile { key: lost } if *lost == key),
        "{error}"
    );
    let other = RootHash::from_bytes([7; 32]);
    assert!(give_up(&place, other).is_err());
    assert_eq!(place.inner.files(), before);
    let verified = place.store().unwrap().verify_tables(&[]).unwrap();
    assert!(matches!(&verified.findings[..], [Finding::Root { root: lost, .. }] if *lost == root));
    let done = give_up(&place, root).unwrap();
    assert_eq!((done.live_chunks, done.deleted_packs), (1, 2));
    assert_eq!(ledger(&place).files.len(), 1);
}

// Also of a file that no tag needs: what it protects for the grace is not known any more.
#[test]
fn a_young_file_that_is_gone_stops_the_collector_and_one_left_out_is_young() {
    let young = CollectOptions {
        grace: Duration::from_secs(3600),
        ..AT_ONCE
    };
    let (place, root) = filled();
    let store = place.store().unwrap();
    untag(&store, "a");
    let key = key_of(&place, root);
    place.spoil(&key, Ailment::LeftOut);
    let done = place.store().unwrap().collect(young, &[]).unwrap();
    assert_eq!(done.live_chunks, 3);
    place.inner.take(&key);
    let error = place.store().unwrap().collect(young, &[]).unwrap_err();
    assert!(matches!(error, StoreError::LostFile { .. }), "{error}");
    let verified = place.store().unwrap().verify_tables(&[]).unwrap();
    assert!(matches!(&verified.findings[..], [Finding::Root { root: lost, .. }] if *lost == root));
    assert_eq!(give_up(&place, root).unwrap().live_chunks, 1);
    assert!(place.store().unwrap().verify(&[]).unwrap().is_sound());
}

// Spec: STORE-45
#[test]
fn a_file_that_cannot_be_looked_for_is_not_given_up() {
    for ailment in [Ailment::Errno(EIO), Ailment::Errno(EACCES)] {
        let (place, root) = filled();
        let key = key_of(&place, root);
        place.spoil(&key, ailment);
        place.hide(&key);
        let before = place.inner.files();
        let error = give_up(&place, root).unwrap_err();
        assert!(matches!(error, StoreError::Storage { .. }), "{error}");
        assert_eq!(place.inner.files(), before);
        let verified = place.store().unwrap().verify_tables(&[]).unwrap();
        assert!(!verified.is_sound());
    }
    let faulty = Faulty::default();
    let root = push_image(&faulty.store(), "a", &[1]).unwrap();
    faulty.spoil(Call::Get, "roots/", u64::MAX, Fault::Denied);
    faulty.spoil(Call::List, "roots", u64::MAX, Fault::PartialList);
    let (store, mut done) = (faulty.store(), Collected::default());
    let collected = store.collect_into(AT_ONCE, &[], &[root].into(), &mut done);
    assert!(collected.is_err());
    faulty.heal();
    assert_eq!(faulty.store().get(id(1)).unwrap(), bytes(1));
}

// Spec: STORE-45
#[test]
fn the_ledger_names_the_files_of_pushes_and_those_that_were_listed_and_forgets_the_deleted() {
    let (place, root) = filled();
    assert_eq!(ledger(&place).files.len(), 2);
    let store = place.store().unwrap();
    // Without a tag too.
    let push = store.push().unwrap();
    let ids = put(&push, &[4]).unwrap();
    push.put_root(&[&index_of(&ids)]).unwrap();
    push.finish().unwrap();
    assert_eq!(ledger(&place).files.len(), 3);
    // As writers of earlier versions leave it.
    place.inner.rot(&Key::Ledger, |bytes| {
        let mut ledger = Ledger::decode(bytes).unwrap();
        ledger.files.clear();
        *bytes = ledger
            .encode(coldframe_envelope::Producer::new("test", "1").unwrap())
            .unwrap();
    });
    let early = store.push().unwrap();
    store.collect(AT_ONCE, &[]).unwrap();
    assert_eq!(ledger(&place).files.len(), 3);
    drop(early);
    let done = store.collect(AT_ONCE, &[]).unwrap();
    assert_eq!((done.deleted_roots, ledger(&place).files.len()), (1, 2));
    let key = key_of(&place, root);
    assert!(
        ledger(&place)
            .files
            .iter()
            .any(|(root, file)| { key == Key::Root(*root, coldframe_chunks::FileId::new(*file)) })
    );
}

// A copy that is gone loses nothing while another one is there.
#[test]
fn a_lost_copy_of_a_file_that_has_another_is_forgotten() {
    let (place, root) = filled();
    let key = key_of(&place, root);
    let (one, two) = (place.store().unwrap(), place.store().unwrap());
    let (push, other) = (one.push().unwrap(), two.push().unwrap());
    for push in [&push, &other] {
        let ids = put(push, &[5]).unwrap();
        push.put_root(&[&index_of(&ids)]).unwrap();
    }
    push.finish().unwrap();
    other.finish().unwrap();
    let copies: Vec<Key> = place.inner.keys(Folder::Roots);
    let root_of = |key: &Key| match key {
        Key::Root(root, _) => *root,
        _ => panic!("{key}"),
    };
    let twice = copies.iter().find(|key| {
        copies
            .iter()
            .filter(|other| root_of(other) == root_of(key))
            .count()
            == 2
    });
    place.inner.take(twice.unwrap());
    let young = CollectOptions {
        grace: Duration::from_secs(3600),
        ..AT_ONCE
    };
    let done = place.store().unwrap().collect(young, &[]).unwrap();
    assert_eq!((done.live_chunks, ledger(&place).files.len()), (4, 3));
    assert!(place.inner.files().contains_key(&key));
}

// Spec: STORE-45
#[test]
fn a_tag_can_be_made_of_a_file_that_a_listing_leaves_out() {
    let (place, root) = filled();
    place.spoil(&key_of(&place, root), Ailment::LeftOut);
    let store = place.store().unwrap();
    let push = store.push().unwrap();
    push.tag(&name("again"), None, tag_of(root)).unwrap();
    push.finish().unwrap();
    assert_eq!(store.tags().unwrap().len(), 3);
}

// What is deleted on purpose takes nothing else with it: the other copy of a neighbour is damaged.
#[test]
fn the_neighbours_of_a_chunk_that_is_deleted_are_read_and_not_believed_to_be_elsewhere() {
    let place = Ailing::default();
    let store = PackStore::create_at(place.clone(), OPTIONS).unwrap();
    let (one, two) = (place.store().unwrap(), place.store().unwrap());
    let (push, other) = (one.push().unwrap(), two.push().unwrap());
    put(&push, &[1, 2]).unwrap();
    put(&other, &[2]).unwrap();
    push.finish().unwrap();
    other.finish().unwrap();
    let needle = bytes(1);
    let files = place.inner.files();
    let alone = files.iter().find(|(key, file)| {
        let has = file.windows(needle.len()).any(|part| part == needle);
        matches!(key, Key::Pack(_)) && !has
    });
    let alone = alone.unwrap().0.clone();
    for ailment in [Ailment::Errno(EIO), Ailment::Errno(EACCES)] {
        let store = place.store().unwrap();
        place.spoil_behind(&alone, ailment, 0);
        let _ = store.delete(&[id(1)]);
        place.heal();
        assert_eq!(place.store().unwrap().get(id(2)).unwrap(), bytes(2));
        place.store().unwrap().put(&chunk(1)).unwrap();
    }
    place.inner.rot(&alone, |bytes| bytes[170] ^= 1);
    store.delete(&[id(1)]).unwrap();
    assert_eq!(place.store().unwrap().get(id(2)).unwrap(), bytes(2));
}

// What a push has found is deleted when no listing has its lease: it must not be tagged.
// Spec: STORE-46
// Parity: M11
#[test]
fn a_push_whose_lease_a_listing_left_out_is_told_and_tags_nothing() {
    // When the leases are listed, of three collections.
    for listed in [[false; 3], [false, true, true], [true, false, true]] {
        let place = Ailing::default();
        let store = PackStore::create_at(place.clone(), OPTIONS).unwrap();
        store.put_many(&[chunk(1), chunk(2)]).unwrap();
        let push = store.push().unwrap();
        let ids = put(&push, &[1]).unwrap();
        assert_eq!(push.count().deduplicated, 1);
        for is_listed in listed {
            place.hide_leases(!is_listed);
            place.store().unwrap().collect(AT_ONCE, &[]).unwrap();
            // There is something to condemn each time.
            place.store().unwrap().put(&chunk(9)).unwrap();
        }
        assert!(place.store().unwrap().get(id(1)).is_err(), "{listed:?}");
        let root = push.put_root(&[&index_of(&ids)]).unwrap();
        let error = push.tag(&name("a"), None, tag_of(root)).unwrap_err();
        assert!(
            matches!(error, StoreError::LeaseLost),
            "{listed:?}: {error}"
        );
        assert!(matches!(push.finish(), Err(StoreError::LeaseLost)));
        place.hide_leases(false);
        assert!(place.store().unwrap().tags().unwrap().is_empty());
        // Done again it holds.
        push_image(&store, "a", &[1]).unwrap();
        place.store().unwrap().collect(AT_ONCE, &[]).unwrap();
        assert!(place.store().unwrap().verify(&[]).unwrap().is_sound());
    }
}

// Spec: STORE-46
#[test]
fn a_push_whose_lease_was_seen_each_time_goes_on() {
    let place = Ailing::default();
    let store = PackStore::create_at(place.clone(), OPTIONS).unwrap();
    store.put_many(&[chunk(1), chunk(2)]).unwrap();
    let push = store.push().unwrap();
    let ids = put(&push, &[1]).unwrap();
    for number in 10..80 {
        place.store().unwrap().collect(AT_ONCE, &[]).unwrap();
        place.store().unwrap().put(&chunk(number)).unwrap();
    }
    assert!(ledger(&place).rounds.len() <= 80);
    let root = push.put_root(&[&index_of(&ids)]).unwrap();
    push.tag(&name("a"), None, tag_of(root)).unwrap();
    push.finish().unwrap();
    for _ in 0..3 {
        place.store().unwrap().collect(AT_ONCE, &[]).unwrap();
    }
    assert!(ledger(&place).rounds.len() <= 64);
    let done = place.store().unwrap().collect(AT_ONCE, &[]).unwrap();
    assert_eq!((done.waiting, done.live_chunks), (0, 1));
    assert!(place.store().unwrap().verify(&[]).unwrap().is_sound());
}

// What the ledger says of the chunks of a pack is not forgotten because no listing has the pack.
#[test]
fn damage_of_a_pack_that_is_not_listed_stays_in_the_ledger() {
    let place = Ailing::default();
    let store = PackStore::create_at(place.clone(), OPTIONS).unwrap();
    push_image(&store, "a", &[1]).unwrap();
    let pack = place.inner.keys(Folder::Packs)[0].clone();
    place.inner.rot(&pack, |bytes| bytes[170] ^= 1);
    place.store().unwrap().verify(&[]).unwrap();
    let damaged = ledger(&place).damaged;
    assert_eq!(damaged.len(), 1);
    place.hide(&pack);
    place.store().unwrap().verify(&[]).unwrap();
    assert_eq!(ledger(&place).damaged, damaged);
    place.heal();
    // So the next push heals it.
    assert_eq!(place.store().unwrap().put(&chunk(1)).unwrap().written, 1);
}
