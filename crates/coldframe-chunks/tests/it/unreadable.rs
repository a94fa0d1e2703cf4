//! What cannot be read: another copy answers, other chunks are read, other garbage goes, and what
//! it may protect stays.

use coldframe_chunks::{ChunkStore, Finding, Folder, Key, StoreError};
use coldframe_testkit::fault::EIO;
use coldframe_testkit::unreadable::{Ailment, EACCES};

use crate::ailing::Ailing;
use crate::backend::MemBackend;
use crate::faulty::{Call, Fault, Faulty};
use crate::support::{
    AT_ONCE, OPTIONS, bytes, chunk, id, index_of, name, push_image, put, tag_of, untag,
};

const BAD_SECTOR: Ailment = Ailment::Errno(EIO);

fn new() -> Ailing {
    let place = Ailing::default();
    coldframe_chunks::PackStore::create_at(place.clone(), OPTIONS).unwrap();
    place
}

fn packs(place: &Ailing) -> Vec<Key> {
    place.inner.keys(Folder::Packs)
}

fn pack_of(place: &Ailing, number: u64) -> Key {
    let needle = bytes(number);
    let files = place.inner.files();
    let has = |key: &&Key| files[*key].windows(needle.len()).any(|part| part == needle);
    packs(place).iter().find(has).unwrap().clone()
}

// Spec: STORE-3
#[test]
fn a_second_sound_copy_answers_whichever_cannot_be_read() {
    let place = new();
    let (one, two) = (place.store().unwrap(), place.store().unwrap());
    // Both begin before either is done.
    let (push, other) = (one.push().unwrap(), two.push().unwrap());
    put(&push, &[1]).unwrap();
    put(&other, &[1]).unwrap();
    push.finish().unwrap();
    other.finish().unwrap();
    let packs = packs(&place);
    assert_eq!(packs.len(), 2);
    let store = place.store().unwrap();
    for pack in &packs {
        place.spoil(pack, BAD_SECTOR);
        assert_eq!(store.get(id(1)).unwrap(), bytes(1));
    }
}

// Spec: STORE-3
#[test]
fn a_second_copy_of_a_file_answers_whichever_cannot_be_read() {
    let place = new();
    let (one, two) = (place.store().unwrap(), place.store().unwrap());
    let (push, other) = (one.push().unwrap(), two.push().unwrap());
    let mut roots = Vec::new();
    for push in [&push, &other] {
        let ids = put(push, &[1]).unwrap();
        roots.push(push.put_root(&[&index_of(&ids)]).unwrap());
    }
    let copies = place.inner.keys(Folder::Roots);
    assert_eq!((copies.len(), roots[0]), (2, roots[1]));
    for copy in &copies {
        place.spoil(copy, BAD_SECTOR);
        let store = place.store().unwrap();
        assert_eq!(store.index(roots[0]).unwrap().root(), roots[0]);
    }
}

// Spec: STORE-3
#[test]
fn a_pack_whose_table_cannot_be_read_leaves_the_others_and_is_tried_again() {
    let place = new();
    for number in [1, 2] {
        push_image(&place.store().unwrap(), &format!("t{number}"), &[number]).unwrap();
    }
    let pack = pack_of(&place, 1);
    for ailment in [BAD_SECTOR, Ailment::Errno(EACCES), Ailment::ListedNotFound] {
        place.spoil(&pack, ailment);
        let store = place.store().unwrap();
        assert_eq!(store.get(id(2)).unwrap(), bytes(2));
        // It is not known to be missing, and the error says where it may be.
        let error = store.get(id(1)).unwrap_err();
        assert!(!error.is_missing(), "{error}");
        assert!(matches!(&error, StoreError::Unlocated { pack: named, .. }
            if Key::Pack(*named) == pack));
        assert!(store.stat(id(1)).is_err() && store.stat(id(2)).is_ok());
        let verified = store.verify_tables(&[]).unwrap();
        assert!(matches!(&verified.findings[..],
            [Finding::Pack { pack: named, .. }, Finding::Chunk { id: chunk, .. }]
                if Key::Pack(*named) == pack && *chunk == id(1)));
        assert_eq!(verified.hurt_tags, [(name("t1"), 1)].into());
        // The same process sees it again.
        place.heal();
        assert_eq!(store.get(id(1)).unwrap(), bytes(1));
        assert!(store.verify(&[]).unwrap().is_sound());
    }
}

// Spec: STORE-3
#[test]
fn a_damaged_pack_is_looked_at_again_too() {
    let place = new();
    place.store().unwrap().put(&chunk(1)).unwrap();
    let pack = packs(&place)[0].clone();
    place.inner.rot(&pack, |bytes| bytes[40] ^= 1);
    let store = place.store().unwrap();
    assert!(store.get(id(1)).unwrap_err().is_missing());
    place.inner.rot(&pack, |bytes| bytes[40] ^= 1);
    assert_eq!(store.get(id(1)).unwrap(), bytes(1));
}

// Spec: STORE-12
#[test]
fn a_bad_sector_is_a_finding_and_the_next_push_heals_it() {
    let place = new();
    push_image(&place.store().unwrap(), "a", &[1, 2, 3]).unwrap();
    let store = place.store().unwrap();
    place.spoil(&packs(&place)[0], BAD_SECTOR);
    let verified = store.verify(&[]).unwrap();
    assert_eq!(verified.findings.len(), 3, "{verified:?}");
    assert_eq!(verified.hurt_tags, [(name("a"), 3)].into());
    // Another process, for which the table can be read.
    place.spoil_behind(&packs(&place)[0], BAD_SECTOR, 0);
    let table_only = Ailing::new(place.inner.clone());
    let other = table_only.store().unwrap();
    assert_eq!(other.put(&chunk(2)).unwrap().written, 1);
}

// Spec: STORE-12
#[test]
fn damage_that_cannot_be_put_down_is_told_all_the_same() {
    let place = new();
    push_image(&place.store().unwrap(), "a", &[1]).unwrap();
    place.inner.rot(&packs(&place)[0], |bytes| bytes[170] ^= 1);
    place.inner.trouble(crate::backend::Trouble::Full);
    let verified = place.store().unwrap().verify(&[]).unwrap();
    assert!(matches!(&verified.findings[..], [Finding::Chunk { .. }]));
    assert!(verified.not_recorded.is_some() && !verified.is_sound());
    place.inner.heal();
    let verified = place.store().unwrap().verify(&[]).unwrap();
    assert!(verified.not_recorded.is_none() && !verified.is_sound());
}

// Spec: STORE-26
#[test]
fn a_tag_that_every_listing_leaves_out_is_a_tag() {
    let place = new();
    let store = place.store().unwrap();
    push_image(&store, "a", &[1]).unwrap();
    push_image(&store, "b", &[2]).unwrap();
    place.spoil(&Key::Tag(name("a")), Ailment::LeftOut);
    let store = place.store().unwrap();
    assert_eq!(store.tags().unwrap().len(), 2);
    for _ in 0..2 {
        let done = place.store().unwrap().collect(AT_ONCE, &[]).unwrap();
        assert_eq!((done.live_chunks, done.deleted_packs), (2, 0));
    }
    place.heal();
    assert!(place.store().unwrap().verify(&[]).unwrap().is_sound());
    // One that was removed is none, and what it named is garbage.
    untag(&store, "a");
    let done = place.store().unwrap().collect(AT_ONCE, &[]).unwrap();
    assert_eq!((done.live_chunks, done.deleted_packs), (1, 1));
    let ledger = place.inner.files()[&Key::Ledger].clone();
    let names = coldframe_chunkfile::Ledger::decode(&ledger).unwrap().names;
    assert_eq!(names, ["b".to_owned()].into());
}

// What a service refuses, or does not answer, says nothing of the bytes.
#[test]
fn a_copy_that_is_only_out_of_reach_is_not_put_down_as_damaged() {
    let place = new();
    push_image(&place.store().unwrap(), "a", &[1]).unwrap();
    let store = place.store().unwrap();
    place.spoil(&packs(&place)[0], Ailment::Errno(EACCES));
    assert!(!store.verify(&[]).unwrap().is_sound());
    place.heal();
    assert_eq!(place.store().unwrap().put(&chunk(1)).unwrap().written, 0);
}

// Spec: STORE-13
#[test]
fn a_pack_that_cannot_be_read_stays_and_other_garbage_goes() {
    let place = new();
    let store = place.store().unwrap();
    let push = store.push().unwrap();
    put(&push, &[1, 2, 3, 4, 5]).unwrap();
    push.finish().unwrap();
    push_image(&store, "a", &[1]).unwrap();
    let half = packs(&place)[0].clone();
    for number in 10..14 {
        store.put(&chunk(number)).unwrap();
    }
    place.spoil(&half, BAD_SECTOR);
    let done = store.collect(AT_ONCE, &[]).unwrap();
    assert_eq!((done.deleted_packs, packs(&place)), (4, vec![half.clone()]));
    // For a process that never read its table too.
    place.store().unwrap().put(&chunk(10)).unwrap();
    let done = place.store().unwrap().collect(AT_ONCE, &[]).unwrap();
    assert_eq!((done.deleted_packs, done.unreadable_packs), (1, 1));
    assert_eq!(packs(&place), [half]);
    place.heal();
    assert_eq!(place.store().unwrap().get(id(1)).unwrap(), bytes(1));
}

/// A pack that was condemned while nothing needed it, of which a push that had begun before has
/// tagged a chunk since.
fn condemned_and_needed() -> (Ailing, Key) {
    let place = new();
    let store = place.store().unwrap();
    store.put_many(&[chunk(1), chunk(2)]).unwrap();
    let push = store.push().unwrap();
    let ids = put(&push, &[1]).unwrap();
    assert_eq!(store.collect(AT_ONCE, &[]).unwrap().waiting, 1);
    let root = push.put_root(&[&index_of(&ids)]).unwrap();
    push.tag(&name("a"), None, tag_of(root)).unwrap();
    push.finish().unwrap();
    let pack = packs(&place)[0].clone();
    (place, pack)
}

// Spec: STORE-11
#[test]
fn a_condemned_pack_that_nobody_can_look_into_is_not_deleted() {
    let ailments = [BAD_SECTOR, Ailment::Errno(EACCES), Ailment::LeftOut];
    for ailment in ailments {
        let (place, pack) = condemned_and_needed();
        place.spoil(&pack, ailment);
        let done = place.store().unwrap().collect(AT_ONCE, &[]).unwrap();
        assert_eq!(done.deleted_packs, 0, "{ailment:?}");
        place.heal();
        let store = place.store().unwrap();
        assert_eq!(store.get(id(1)).unwrap(), bytes(1), "{ailment:?}");
    }
}

// Spec: STORE-11
#[test]
fn a_condemned_copy_of_a_file_goes_only_if_the_one_that_stays_can_be_read() {
    let place = new();
    let store = place.store().unwrap();
    let root = push_image(&store, "a", &[1]).unwrap();
    untag(&store, "a");
    let early = store.push().unwrap();
    assert_eq!(store.collect(AT_ONCE, &[]).unwrap().waiting, 2);
    let condemned = place.inner.keys(Folder::Roots)[0].clone();
    push_image(&store, "a", &[1]).unwrap();
    drop(early);
    let copies = place.inner.keys(Folder::Roots);
    let fresh = copies.iter().find(|key| **key != condemned).unwrap();
    place.spoil(fresh, BAD_SECTOR);
    place.store().unwrap().collect(AT_ONCE, &[]).unwrap();
    assert_eq!(place.inner.keys(Folder::Roots), copies);
    assert!(place.store().unwrap().index(root).is_ok());
}

// Spec: STORE-10
#[test]
fn a_tag_that_is_listed_and_not_found_stops_the_collector() {
    let place = new();
    push_image(&place.store().unwrap(), "a", &[1]).unwrap();
    place.spoil(&Key::Tag(name("a")), Ailment::ListedNotFound);
    let error = place.store().unwrap().collect(AT_ONCE, &[]).unwrap_err();
    assert!(error.to_string().contains("tags/a"), "{error}");
    let verified = place.store().unwrap().verify_tables(&[]).unwrap();
    assert!(
        matches!(&verified.findings[..], [Finding::Tag { name: tag, .. }] if *tag == name("a"))
    );
    let faulty = Faulty::default();
    push_image(&faulty.store(), "a", &[1]).unwrap();
    let store = faulty.store();
    faulty.spoil(Call::Get, "tags/a", u64::MAX, Fault::NotFound);
    assert!(store.collect(AT_ONCE, &[]).is_err());
    faulty.heal();
    assert!(faulty.store().get(id(1)).is_ok());
}

// Spec: STORE-17
#[test]
fn a_ledger_that_is_not_found_and_cannot_be_made_is_an_error_and_not_an_endless_loop() {
    let place = new();
    let store = place.store().unwrap();
    push_image(&store, "a", &[1]).unwrap();
    store.put(&chunk(2)).unwrap();
    let early = store.push().unwrap();
    store.collect(AT_ONCE, &[]).unwrap();
    drop(early);
    place.spoil(&Key::Ledger, Ailment::ListedNotFound);
    let error = place.store().unwrap().collect(AT_ONCE, &[]).unwrap_err();
    assert!(matches!(error, StoreError::LedgerStuck { .. }), "{error}");
    assert_eq!(packs(&place).len(), 2);
}

// Spec: STORE-11
#[test]
fn what_cannot_be_removed_does_not_keep_the_rest() {
    let (store, backend) = crate::support::mem();
    for number in 1..4 {
        store.put(&chunk(number)).unwrap();
    }
    let before = backend.calls();
    let counting = MemBackend::with_files(backend.files());
    let dry = crate::support::reopened(&counting);
    let opened = counting.calls();
    dry.collect(AT_ONCE, &[]).unwrap();
    let calls = counting.calls() - opened;
    // The ledger, and a look for packs, come after the removals.
    let mut stuck = 0;
    for nth in 1..=calls {
        let place = MemBackend::with_files(backend.files());
        let store = crate::support::reopened(&place);
        place.trouble(crate::backend::Trouble::Fail(nth, false));
        let collected = store.collect(AT_ONCE, &[]);
        if place.keys(Folder::Packs).len() == 1 {
            assert!(collected.is_err());
            stuck += 1;
        }
    }
    assert_eq!(stuck, 3);
    assert!(before > 0);
}
