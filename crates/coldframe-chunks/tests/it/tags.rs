//! Names for roots.

use coldframe_chunks::{Backend as _, ChunkStore as _, Key, StoreError, TagName};
use coldframe_units::RootHash;

use crate::backend::Trouble;
use crate::support::{AT_ONCE, id, index_of, mem, name, push_image, put, reopened, tag_of, untag};

// Spec: STORE-9
// Parity: D24, F29
#[test]
fn names_are_safe_file_names() {
    let long = "x".repeat(129);
    for bad in [
        "",
        ".",
        "..",
        ".hidden",
        "a/b",
        "../../etc",
        "a b",
        "\u{e4}",
        "a\0",
        &long,
    ] {
        assert!(bad.parse::<TagName>().is_err(), "{bad:?}");
    }
    for good in ["a", "web-1_2026.11:a@b+c=d", &long[1..]] {
        assert_eq!(good.parse::<TagName>().unwrap().as_str(), good);
    }
}

// Spec: STORE-8
#[test]
fn a_tag_is_changed_only_from_what_it_was_thought_to_be() {
    let (store, backend) = mem();
    let push = store.push().unwrap();
    let ids = put(&push, &[1, 2]).unwrap();
    let one = tag_of(push.put_root(&[&index_of(&ids[..1])]).unwrap());
    let two = tag_of(push.put_root(&[&index_of(&ids)]).unwrap());
    let moved = |result: Result<(), StoreError>| {
        assert!(
            matches!(result, Err(StoreError::TagMoved { .. })),
            "{result:?}"
        );
    };
    moved(push.tag(&name("a"), Some(one), two));
    push.tag(&name("a"), None, one).unwrap();
    moved(push.tag(&name("a"), None, two));
    moved(push.tag(&name("a"), Some(two), one));
    push.tag(&name("a"), Some(one), two).unwrap();
    push.tag(&name("b"), None, one).unwrap();
    let other = reopened(&backend);
    assert_eq!(other.tag(&name("a")).unwrap(), Some(two));
    assert_eq!(
        other.tags().unwrap(),
        [(name("a"), two), (name("b"), one)].into()
    );
    moved(other.remove_tag(&name("a"), one));
    other.remove_tag(&name("a"), two).unwrap();
    assert_eq!(store.tag(&name("a")).unwrap(), None);
    let error = store.remove_tag(&name("a"), two).unwrap_err();
    assert!(error.is_missing());
}

// Spec: STORE-8
#[test]
fn a_tag_names_only_what_is_there() {
    let (store, _) = mem();
    let push = store.push().unwrap();
    let lost = RootHash::from_bytes([1; 32]);
    let error = push.tag(&name("a"), None, tag_of(lost)).unwrap_err();
    assert!(matches!(error, StoreError::MissingRoot { root } if root == lost));
}

// Failure mode 5: a swap whose outcome is not known.
// Spec: STORE-8
// Parity: M5
#[test]
fn a_swap_that_failed_after_its_effect_is_told_apart_by_looking() {
    let (store, backend) = mem();
    let root = push_image(&store, "a", &[1]).unwrap();
    let push = store.push().unwrap();
    let ids = put(&push, &[1, 2]).unwrap();
    let new = tag_of(push.put_root(&[&index_of(&ids)]).unwrap());
    // The ledger is swapped; a tag is read, then swapped.
    backend.trouble(crate::backend::Trouble::Fail(3, true));
    let error = push.tag(&name("a"), Some(tag_of(root)), new).unwrap_err();
    assert!(matches!(error, StoreError::Storage { .. }));
    // The tag says who won; to try again is refused, not done twice.
    assert_eq!(store.tag(&name("a")).unwrap(), Some(new));
    let again = push.tag(&name("a"), Some(tag_of(root)), new);
    assert!(matches!(again, Err(StoreError::TagMoved { .. })));
    assert!(push.has(id(2)).unwrap());
}

// Spec: STORE-8
#[test]
fn of_many_that_race_for_a_tag_one_wins() {
    let dir = coldframe_testkit::scratch::on_disk();
    let store = coldframe_chunks::LocalStore::create(dir.path()).unwrap();
    let wins = std::thread::scope(|scope| {
        let race = |number: u64| {
            let store = &store;
            scope.spawn(move || {
                let push = store.push().unwrap();
                let ids = put(&push, &[number]).unwrap();
                let root = push.put_root(&[&index_of(&ids)]).unwrap();
                push.tag(&name("a"), None, tag_of(root)).is_ok()
            })
        };
        let racers: Vec<_> = (0..8).map(race).collect();
        let won = racers.into_iter().map(|racer| racer.join().unwrap());
        won.filter(|won| *won).count()
    });
    assert_eq!(wins, 1);
}

// What the ledger still knows by its old spelling is no tag, and keeps nobody from collecting.
// Spec: STORE-9
#[test]
fn a_tag_that_came_back_in_another_spelling_is_one_tag_where_case_is_ignored() {
    let (store, backend) = mem();
    push_image(&store, "nightly", &[1]).unwrap();
    push_image(&store, "other", &[3]).unwrap();
    untag(&store, "nightly");
    backend.trouble(Trouble::IgnoresCase);
    push_image(&store, "Nightly", &[2]).unwrap();
    let there = || Vec::from_iter(store.tags().unwrap().into_keys());
    assert_eq!(there(), [name("Nightly"), name("other")]);
    assert!(store.read_tags().unwrap().values().all(Result::is_ok));
    let error = store.tag(&name("nightly")).unwrap_err();
    assert!(matches!(error, StoreError::TagFolded { .. }), "{error}");
    for _ in 0..2 {
        store.collect(AT_ONCE, &[]).unwrap();
        assert!(store.verify(&[]).unwrap().is_sound());
        assert_eq!(there(), [name("Nightly"), name("other")]);
        assert!(store.get(id(2)).is_ok() && store.get(id(3)).is_ok());
    }
    assert!(reopened(&backend).get(id(1)).unwrap_err().is_missing());
    // What is listed is never absent for that reason.
    let error = push_image(&store, "nightly", &[1]).unwrap_err();
    assert!(matches!(error, StoreError::TagFolded { .. }), "{error}");
}

#[test]
fn a_damaged_tag_is_removed_by_name_and_a_sound_or_newer_one_is_not() {
    let (store, backend) = mem();
    push_image(&store, "a", &[1]).unwrap();
    push_image(&store, "b", &[2]).unwrap();
    let (a, key) = (name("a"), Key::Tag(name("a")));
    assert!(!store.remove_damaged_tag(&a).unwrap());
    let sound = backend.files()[&key].clone();
    for at in 0..sound.len() {
        backend.rot(&key, |bytes| bytes[at] ^= 0x80);
        let removed = store.remove_damaged_tag(&a);
        match &removed {
            // A newer version, as far as anyone can tell.
            Err(StoreError::DamagedTag { source, .. }) => {
                assert!(source.is_unsupported_version(), "byte {at}: {source}");
            }
            removed => assert!(matches!(removed, Ok(true)), "byte {at}: {removed:?}"),
        }
        if removed.is_ok() {
            assert_eq!(store.tag(&a).unwrap(), None);
            backend.replace(&key, None, Some(&sound)).unwrap();
        }
        backend.rot(&key, |bytes| *bytes = sound.to_vec());
    }
    backend.rot(&key, |bytes| bytes.clear());
    assert!(store.collect(AT_ONCE, &[]).is_err());
    assert!(store.remove_damaged_tag(&a).unwrap());
    let missing = store.remove_damaged_tag(&a);
    assert!(matches!(missing, Err(StoreError::MissingTag { .. })));
    let done = store.collect(AT_ONCE, &[]).unwrap();
    assert_eq!((done.live_chunks, done.deleted_packs), (1, 1));
}

// Each is a round trip, and a sync.
#[test]
fn a_push_reads_the_ledger_when_it_begins_and_once_for_each_tag_and_swaps_it_once() {
    let (store, backend) = mem();
    backend.ledger_calls();
    push_image(&store, "a", &[1]).unwrap();
    assert_eq!(backend.ledger_calls(), (2, 1));
    push_image(&store, "a", &[2]).unwrap();
    assert_eq!(backend.ledger_calls(), (2, 1), "a file");
    push_image(&store, "a", &[1]).unwrap();
    assert_eq!(backend.ledger_calls(), (2, 0), "nothing new");
    let push = store.push().unwrap();
    let ids = put(&push, &[3]).unwrap();
    let root = push.put_root(&[&index_of(&ids)]).unwrap();
    push.announce(&name("c"));
    push.tag(&name("b"), None, tag_of(root)).unwrap();
    push.tag(&name("c"), None, tag_of(root)).unwrap();
    push.finish().unwrap();
    assert_eq!(backend.ledger_calls(), (3, 1), "two tags");
    // What was taken since the last tag is confirmed at the end.
    let push = store.push().unwrap();
    push.tag(&name("d"), None, tag_of(root)).unwrap();
    assert!(push.has(id(3)).unwrap());
    push.finish().unwrap();
    assert_eq!(backend.ledger_calls(), (3, 1));
}
