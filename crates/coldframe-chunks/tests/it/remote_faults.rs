//! A service that fails, one request or all of them: what was acknowledged is there, what was not
//! can be done again, and nothing that failed is taken for data or for damage.

use std::time::{Duration, Instant};

use coldframe_chunks::{Backend, ChunkStore, Folder, Key, Options, RemoteOptions, StoreError};
use coldframe_testkit::rng::Rng;
use coldframe_units::ByteLen;

use crate::faulty::{Call, Fault, Faulty};
use crate::places::QUICK;
use crate::support::{AT_ONCE, OPTIONS, bytes, chunk, id, name, push_image, untag};

const SLOW: Fault = Fault::Slow(Duration::from_millis(300));

/// A try may not take as long as [`SLOW`].
const HASTY: RemoteOptions = RemoteOptions {
    attempt_timeout: Duration::from_millis(100),
    ..QUICK
};

/// What one request may do without anyone noticing.
const HARMLESS: [Fault; 9] = [
    Fault::Refused,
    Fault::LostAnswer,
    SLOW,
    Fault::Cut,
    Fault::Flipped,
    Fault::ErrorBody,
    Fault::ShortRange,
    Fault::OtherRange,
    Fault::PartialList,
];

// Failure modes 3, 5, 6, 11: a single request that fails, is slow, is cut, or answers wrongly.
// Spec: STORE-23, STORE-25
#[test]
fn any_one_request_of_a_push_that_goes_wrong_is_made_again() {
    let clean = Faulty::default();
    let store = clean.store();
    let before = clean.calls();
    push_image(&store, "a", &[1, 2]).unwrap();
    let calls = clean.calls() - before;
    assert!(calls > 10, "{calls}");
    for fault in HARMLESS {
        for nth in 1..=calls {
            let faulty = Faulty::default();
            let store = faulty.store_with(HASTY, OPTIONS);
            faulty.spoil_nth(nth, fault);
            let pushed = push_image(&store, "a", &[1, 2]);
            faulty.heal();
            pushed.unwrap_or_else(|error| panic!("{fault:?} of request {nth}: {error:?}"));
            let other = faulty.store();
            assert!(other.verify(&[]).unwrap().is_sound());
            assert_eq!(other.get(id(1)).unwrap(), bytes(1));
        }
    }
}

// Spec: STORE-11, STORE-25
#[test]
fn any_one_request_of_a_collection_that_goes_wrong_loses_nothing() {
    let prepare = |faulty: &Faulty| {
        let store = faulty.store_with(HASTY, OPTIONS);
        push_image(&store, "kept", &[1, 2, 3]).unwrap();
        push_image(&store, "gone", &[3, 4, 5, 6, 7, 8]).unwrap();
        untag(&store, "gone");
        store
    };
    let clean = Faulty::default();
    let store = prepare(&clean);
    let before = clean.calls();
    store.collect(AT_ONCE, &[]).unwrap();
    let calls = clean.calls() - before;
    let faults = HARMLESS
        .into_iter()
        .chain([Fault::NotFound, Fault::Conflict, Fault::Denied]);
    for (turn, fault) in faults.enumerate() {
        // Every third request, each fault beginning at another: all of them take minutes.
        for nth in (1 + turn as u64 % 3..=calls).step_by(3) {
            let faulty = Faulty::default();
            let store = prepare(&faulty);
            faulty.spoil_nth(nth, fault);
            let _ = store.collect(AT_ONCE, &[]);
            faulty.heal();
            drop(store);
            let other = faulty.store();
            assert!(other.verify(&[]).unwrap().is_sound(), "{fault:?} {nth}");
            let again = other.collect(AT_ONCE, &[]);
            again.unwrap_or_else(|error| panic!("{fault:?} {nth}: {error:?}"));
            let done = other.collect(AT_ONCE, &[]).unwrap();
            assert_eq!((done.live_chunks, done.waiting), (3, 0), "{fault:?} {nth}");
            for number in 1..9 {
                let is_there = other.has(id(number)).unwrap();
                assert_eq!(is_there, number < 4, "{fault:?} {nth}: {number}");
            }
        }
    }
}

// Failure mode 3: what comes instead of data is never data, and no reason to call the chunk
// damaged.
// Spec: STORE-3, STORE-25
// Parity: M3
#[test]
fn a_service_that_is_down_is_an_io_error_and_not_damage() {
    let faulty = Faulty::default();
    let store = faulty.store();
    store.put_many(&[chunk(1), chunk(2)]).unwrap();
    let faults = [
        Fault::Refused,
        Fault::Denied,
        Fault::Cut,
        Fault::ErrorBody,
        Fault::ShortRange,
        Fault::OtherRange,
    ];
    for fault in faults {
        faulty.spoil(Call::Get, "packs/", u64::MAX, fault);
        let error = store.get(id(1)).unwrap_err();
        assert!(
            matches!(error, StoreError::Storage { .. }),
            "{fault:?}: {error:?}"
        );
        assert!(!error.is_corrupt() && !error.is_missing());
        faulty.heal();
        assert_eq!(store.get(id(1)).unwrap(), bytes(1));
    }
    // Nothing was taken for damaged: it is not stored anew.
    assert_eq!(store.put(&chunk(1)).unwrap().deduplicated, 1);
}

// Failure mode 3: wrong bytes.
// Spec: STORE-3
// Parity: F26
#[test]
fn bytes_that_are_wrong_twice_are_damage_and_once_are_not() {
    let faulty = Faulty::default();
    let store = faulty.store();
    store.put(&chunk(1)).unwrap();
    faulty.spoil(Call::Get, "packs/", 1, Fault::Flipped);
    assert_eq!(store.get(id(1)).unwrap(), bytes(1));
    faulty.spoil(Call::Get, "packs/", 4, Fault::Flipped);
    let error = store.get(id(1)).unwrap_err();
    assert!(matches!(error, StoreError::DamagedChunk { id: hurt, .. } if hurt == id(1)));
    faulty.heal();
    // Until another copy is put, which heals it.
    assert_eq!(store.put(&chunk(1)).unwrap().written, 1);
    assert_eq!(store.get(id(1)).unwrap(), bytes(1));
}

// Failure mode 5: a conflict with nothing behind it, and a success whose answer was lost.
// Spec: STORE-23
// Parity: M5
#[test]
fn a_conditional_write_whose_effect_is_open_is_read_back() {
    let faulty = Faulty::default();
    let place = faulty.backend(QUICK);
    let key = Key::Tag(name("a"));
    for fault in [Fault::Conflict, Fault::LostAnswer, Fault::Refused] {
        faulty.spoil(Call::Put, "tags/", 2, fault);
        assert!(place.replace(&key, None, Some(b"x")).unwrap(), "{fault:?}");
        faulty.spoil(Call::Put, "tags/", 2, fault);
        assert!(
            place.replace(&key, Some(b"x"), Some(b"y")).unwrap(),
            "{fault:?}"
        );
        faulty.spoil(Call::Put, "tags/", 2, fault);
        assert!(place.replace(&key, Some(b"y"), None).unwrap(), "{fault:?}");
        assert_eq!(place.read(&key, ByteLen::new(9)).unwrap(), None);
        faulty.spoil(Call::Put, "packs/", 1, fault);
        let pack = Key::Pack(coldframe_chunks::FileId::new(faulty.calls()));
        assert!(place.create(&pack, &[b"z"]).unwrap(), "{fault:?}");
        faulty.heal();
    }
    // With a conflict for ever it is neither done nor said to be someone else's.
    faulty.spoil(Call::Put, "tags/", u64::MAX, Fault::Conflict);
    assert!(place.replace(&key, None, Some(b"x")).is_err());
    assert_eq!(place.read(&key, ByteLen::new(9)).unwrap(), None);
}

// Failure mode 5: equal bytes are no proof that they are ours.
// Spec: STORE-23
// Parity: M5
#[test]
fn the_same_bytes_by_someone_else_are_someone_elses() {
    let faulty = Faulty::default();
    let (one, other) = (faulty.backend(QUICK), faulty.backend(QUICK));
    let key = Key::Tag(name("a"));
    assert!(one.replace(&key, None, Some(b"same")).unwrap());
    assert!(!other.replace(&key, None, Some(b"same")).unwrap());
    faulty.spoil(Call::Put, "tags/", 1, Fault::LostAnswer);
    assert!(!other.replace(&key, None, Some(b"same")).unwrap());
}

// Failure mode 6: a service slower than anyone waits.
// Spec: STORE-25
// Parity: M6
#[test]
fn a_slow_service_is_given_up_in_time_and_asked_again() {
    let faulty = Faulty::default();
    let store = faulty.store_with(HASTY, OPTIONS);
    store.put(&chunk(1)).unwrap();
    faulty.spoil(
        Call::Get,
        "packs/",
        1,
        Fault::Slow(Duration::from_secs(600)),
    );
    assert_eq!(store.get(id(1)).unwrap(), bytes(1));
    faulty.spoil(
        Call::Get,
        "packs/",
        u64::MAX,
        Fault::Slow(Duration::from_secs(600)),
    );
    let began = Instant::now();
    let error = store.get(id(1)).unwrap_err();
    assert!(matches!(error, StoreError::Storage { .. }), "{error:?}");
    let source = std::error::Error::source(&error).unwrap().source().unwrap();
    assert!(source.to_string().contains("within"), "{source}");
    let attempts = HASTY.attempt_timeout * HASTY.attempts;
    assert!(began.elapsed() < attempts + Duration::from_secs(10));
    faulty.heal();
    assert_eq!(store.get(id(1)).unwrap(), bytes(1));
}

// Spec: STORE-25
#[test]
fn a_request_is_tried_as_often_as_allowed_and_no_more() {
    let faulty = Faulty::default();
    let store = faulty.store();
    store.put(&chunk(1)).unwrap();
    faulty.spoil(Call::Get, "packs/", u64::MAX, Fault::Refused);
    let before = faulty.count(Call::Get, "packs/");
    store.get(id(1)).unwrap_err();
    let tries = faulty.count(Call::Get, "packs/") - before;
    assert_eq!(tries, QUICK.attempts as usize);
    faulty.heal();
    faulty.spoil(Call::Get, "packs/", u64::MAX, Fault::Denied);
    let before = faulty.count(Call::Get, "packs/");
    store.get(id(1)).unwrap_err();
    assert_eq!(faulty.count(Call::Get, "packs/") - before, 1);
}

// Failure mode 11: an incomplete list.
// Spec: STORE-11, STORE-25
// Parity: M11
#[test]
fn an_incomplete_list_hides_nothing_for_long_and_deletes_nothing() {
    let faulty = Faulty::default();
    let store = faulty.store();
    for number in 0..6 {
        push_image(&store, &format!("t{number}"), &[number]).unwrap();
    }
    faulty.spoil(Call::List, "packs", 1, Fault::PartialList);
    store.refresh().unwrap();
    assert!((0..6).all(|number| store.get(id(number)).is_ok()));
    faulty.spoil(Call::List, "tags", 1, Fault::PartialList);
    let done = store.collect(AT_ONCE, &[]).unwrap();
    assert_eq!((done.deleted_packs, done.deleted_roots), (0, 0));
    // The ledger names the tags that the list lacks.
    assert_eq!((done.live_chunks, done.condemned_packs), (6, 0));
    let other = faulty.store();
    assert!((0..6).all(|number| other.get(id(number)).is_ok()));
    assert!(other.verify(&[]).unwrap().is_sound());
}

// Failure mode 7: no room at the service.
// Spec: STORE-5
// Parity: M7
#[test]
fn writes_that_are_refused_lose_nothing_and_work_again_later() {
    let faulty = Faulty::default();
    let store = faulty.store();
    store.put(&chunk(1)).unwrap();
    faulty.spoil(Call::Put, "packs/", u64::MAX, Fault::Denied);
    assert!(store.put(&chunk(2)).is_err());
    assert!(store.get(id(2)).unwrap_err().is_missing());
    assert!(store.get(id(1)).is_ok());
    faulty.heal();
    assert_eq!(store.put(&chunk(2)).unwrap().written, 1);
    assert!(faulty.store().get(id(2)).is_ok());
}

// Failure mode 12: half of an upload, and the process is gone.
// Spec: STORE-22
// Parity: F80
#[test]
fn an_upload_that_goes_wrong_leaves_no_pack_and_one_that_is_repeated_a_whole_one() {
    let large = Options {
        pack_bytes: 32 << 20,
        ..OPTIONS
    };
    let data: Vec<Vec<u8>> = (0..12).map(|seed| Rng::new(seed).bytes(2 << 20)).collect();
    let chunks: Vec<_> = data
        .iter()
        .map(|data| coldframe_chunks::Chunk::new(data.clone().into()).unwrap())
        .collect();
    let put = |faulty: &Faulty| faulty.store_with(QUICK, large).put_many(&chunks);
    let clean = Faulty::default();
    put(&clean).unwrap();
    assert!(clean.count(Call::Part, "packs/") > 4);
    for (call, fault) in [
        (Call::Part, Fault::Refused),
        (Call::Part, Fault::LostAnswer),
        (Call::Complete, Fault::Refused),
        (Call::Complete, Fault::LostAnswer),
    ] {
        let faulty = Faulty::default();
        faulty.spoil(call, "packs/", 1, fault);
        put(&faulty).unwrap_or_else(|error| panic!("{call:?} {fault:?}: {error:?}"));
        let store = faulty.store();
        assert_eq!(store.get(chunks[11].id()).unwrap(), data[11]);
        assert_eq!(faulty.backend(QUICK).list(Folder::Packs).unwrap().len(), 1);
    }
    let faulty = Faulty::default();
    faulty.spoil(Call::Part, "packs/", u64::MAX, Fault::Denied);
    assert!(put(&faulty).is_err());
    faulty.heal();
    assert!(
        faulty
            .backend(QUICK)
            .list(Folder::Packs)
            .unwrap()
            .is_empty()
    );
    put(&faulty).unwrap();
    assert!(faulty.store().verify(&[]).unwrap().is_sound());
}

// Azure takes no metadata with an upload in parts: then the bytes tell whose the object is.
// Spec: STORE-22, STORE-23
#[test]
fn an_upload_that_takes_no_mark_is_known_by_its_bytes() {
    let faulty = Faulty::with_plain_parts();
    let place = faulty.backend(QUICK);
    let key = |number| Key::Pack(coldframe_chunks::FileId::new(number));
    let bytes = Rng::new(1).bytes(17 << 20);
    assert!(place.create(&key(1), &[&bytes]).unwrap());
    assert!(!place.create(&key(1), &[&bytes]).unwrap());
    for (number, fault) in [(2, Fault::LostAnswer), (3, Fault::Refused)] {
        faulty.spoil(Call::Complete, "packs/", 1, fault);
        assert!(place.create(&key(number), &[&bytes]).unwrap(), "{fault:?}");
    }
    assert!(faulty.count(Call::Part, "packs/") > 9, "not in parts");
    let limit = ByteLen::new(18 << 20);
    for number in 1..4 {
        assert_eq!(place.read(&key(number), limit).unwrap().unwrap(), bytes);
    }
}

// Failure mode 12: what a dead process has begun to send.
// Spec: STORE-22
// Parity: F41, M12
#[test]
fn uploads_of_dead_processes_are_swept_and_those_of_the_living_are_not() {
    use object_store::ObjectStoreExt as _;
    use object_store::multipart::MultipartStore as _;
    let faulty = Faulty::default();
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    let pack = object_store::path::Path::from("p/packs/0000000000000001.pack");
    let id = runtime.block_on(async {
        let id = faulty.inner.create_multipart(&pack).await.unwrap();
        let part = faulty
            .inner
            .put_part(&pack, &id, 0, b"part".to_vec().into());
        part.await.unwrap();
        let record = object_store::path::Path::from("p/uploads/0123456789abcdef");
        let text = format!("packs/0000000000000001.pack\n{id}\n");
        let put = faulty.inner.put(&record, text.into_bytes().into());
        put.await.unwrap();
        id
    });
    assert_eq!(faulty.backend(QUICK).sweep().unwrap(), 0);
    std::thread::sleep(Duration::from_millis(20));
    let impatient = RemoteOptions {
        abandoned_after: Duration::from_millis(10),
        ..QUICK
    };
    assert_eq!(faulty.backend(impatient).sweep().unwrap(), 1);
    assert_eq!(faulty.backend(impatient).sweep().unwrap(), 0);
    let late = faulty
        .inner
        .put_part(&pack, &id, 1, b"part".to_vec().into());
    assert!(runtime.block_on(late).is_err(), "the upload is still there");
}

// A panic over an answer is an error of the call, wherever it comes: also of the call that gives a
// lease back while its holder unwinds, where a second panic would end the process.
// Spec: STORE-25
#[test]
fn a_client_library_that_panics_is_an_error_and_not_the_end_of_the_process() {
    let clean = Faulty::default();
    let store = clean.store();
    push_image(&store, "gone", &[3]).unwrap();
    untag(&store, "gone");
    let before = clean.calls();
    push_image(&store, "a", &[1, 2]).unwrap();
    store.collect(AT_ONCE, &[]).unwrap();
    let calls = clean.calls() - before;
    for nth in 1..=calls {
        let faulty = Faulty::default();
        let store = faulty.store();
        push_image(&store, "gone", &[3]).unwrap();
        untag(&store, "gone");
        faulty.spoil_nth(nth, Fault::Panics);
        let done = push_image(&store, "a", &[1, 2]).and_then(|_| store.collect(AT_ONCE, &[]));
        if let Err(error) = done {
            // The lease may be lost by it, too; nothing is taken for missing or damaged.
            let text = crate::poor::told(&error);
            assert!(!error.is_wanting(), "request {nth}: {text}");
        }
        faulty.heal();
        let other = faulty.store();
        push_image(&other, "a", &[1, 2]).unwrap();
        assert_eq!(other.get(id(1)).unwrap(), bytes(1), "request {nth}");
    }
    let faulty = Faulty::default();
    let lease = faulty.backend(QUICK).lease().unwrap();
    faulty.spoil(Call::Delete, "leases/", 1, Fault::Panics);
    let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _held = lease;
        panic!("the holder");
    }));
    assert!(unwound.is_err());
}
