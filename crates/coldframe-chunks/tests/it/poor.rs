//! A service that does one thing wrong, whatever is done with a store in it: the right result or an
//! error that says what is wrong, and nothing that is needed is deleted.

use std::collections::BTreeSet;
use std::error::Error;
use std::time::{Duration, Instant};

use bytes::Bytes;
use coldframe_chunks::{
    AnyBackend, Backend, ChunkStore, Exclusive, Folder, Key, Lease, LeaseId, Listed, PackStore,
    RemoteOptions, StoreError,
};
use coldframe_storage::StorageError;
use coldframe_testkit::poor_service::{Lack, PoorService};
use coldframe_units::{ByteLen, FileOffset};

use crate::places::{QUICK, remote};
use crate::support::{AT_ONCE, OPTIONS, bytes, id, name, push_image, untag};

const PREFIX: &str = "stores/1";

const OFTEN: RemoteOptions = RemoteOptions {
    attempts: u32::MAX,
    ..QUICK
};

fn backend(service: &PoorService) -> AnyBackend {
    AnyBackend::new(remote(service.endpoint(), PREFIX, OFTEN))
}

fn opened<B: Backend>(backend: B) -> Result<PackStore<B>, StoreError> {
    PackStore::open_at(backend, OPTIONS)
}

/// A store with an image that is needed and one that is not.
fn filled() -> PoorService {
    let service = PoorService::start().unwrap();
    let store = PackStore::create_at(backend(&service), OPTIONS).unwrap();
    push_image(&store, "kept", &[1, 2, 3]).unwrap();
    push_image(&store, "gone", &[3, 4, 5, 6, 7, 8]).unwrap();
    untag(&store, "gone");
    drop(store);
    service
}

/// What an error says, down to its first cause.
pub fn told(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}

/// Does with the store what can be done; returns what went wrong. What is read must be right.
fn used<B: Backend>(open: &dyn Fn() -> Result<PackStore<B>, StoreError>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut note = |what: &str, error: StoreError| wrong.push(format!("{what}: {}", told(&error)));
    let store = match open() {
        Ok(store) => store,
        Err(error) => {
            note("open", error);
            return wrong;
        }
    };
    for number in 1..4 {
        match store.get(id(number)) {
            Ok(found) => assert_eq!(found, bytes(number)),
            Err(error) => note("get", error),
        }
    }
    match store.verify(&[]) {
        Ok(verified) if verified.is_sound() => {}
        Ok(verified) => note("verify", first_of(verified)),
        Err(error) => note("verify", error),
    }
    if let Err(error) = push_image(&store, "new", &[1, 10, 11]) {
        note("push", error);
    }
    for _ in 0..2 {
        if let Err(error) = store.collect(AT_ONCE, &[]) {
            note("collect", error);
        }
    }
    if let Err(error) = store.tags() {
        note("tags", error);
    }
    wrong
}

fn first_of(verified: coldframe_chunks::Verified) -> StoreError {
    println!("{:?}", verified.findings);
    verified.not_recorded.unwrap_or(StoreError::Busy)
}

/// What must hold when the service is well again.
fn sound(service: &PoorService, wrong: &[String]) {
    service.heal();
    let store = opened(backend(service)).unwrap();
    for number in 1..4 {
        let found = store.get(id(number));
        assert_eq!(found.unwrap(), bytes(number), "{number} is needed");
    }
    assert!(store.tag(&name("kept")).unwrap().is_some());
    let is_undone = |error: &String| error.starts_with("open") || error.starts_with("push");
    if !wrong.iter().any(is_undone) {
        assert!(store.tag(&name("new")).unwrap().is_some());
        assert_eq!(store.get(id(11)).unwrap(), bytes(11));
    }
    let verified = store.verify(&[]).unwrap();
    assert!(verified.is_sound(), "{:?}", verified.findings);
}

/// Uses the store while the service lacks this; returns what went wrong.
fn under(lack: Lack) -> (PoorService, Vec<String>) {
    let service = filled();
    service.lacks(lack);
    let began = Instant::now();
    let wrong = used(&|| opened(backend(&service)));
    assert!(began.elapsed() < Duration::from_secs(60), "{lack:?}");
    let has_panicked = wrong.iter().any(|error| error.contains("panic"));
    assert!(!has_panicked, "{lack:?}: {wrong:#?}");
    sound(&service, &wrong);
    (service, wrong)
}

#[track_caller]
fn works(lack: Lack) -> PoorService {
    let (service, wrong) = under(lack);
    assert!(wrong.is_empty(), "{lack:?}: {wrong:#?}");
    let keys = service.keys();
    let left = |folder: &str| keys.iter().any(|key| key.contains(folder));
    assert!(!left("leases/") && !left("probes/"), "{lack:?}: {keys:#?}");
    service
}

#[track_caller]
fn refused(lack: Lack, text: &str) -> Vec<String> {
    let (_, wrong) = under(lack);
    let is_told = wrong.iter().any(|error| error.contains(text));
    assert!(is_told, "{lack:?}: {wrong:#?}");
    wrong
}

// Spec: STORE-25
#[test]
fn what_may_pass_is_tried_again_until_it_does() {
    works(Lack::Nothing);
    for status in [408, 429, 500, 502, 503, 504] {
        works(Lack::Fails(status, 4));
    }
    works(Lack::Slow(Duration::from_millis(3)));
    works(Lack::CutsBodies(3));
    works(Lack::EmptiesBodies(3));
}

// Spec: STORE-23, STORE-25
#[test]
fn requests_whose_answers_are_lost_are_done_once() {
    for nth in [3, 5, 7] {
        works(Lack::LosesAnswers(nth));
    }
}

// Spec: STORE-23
#[test]
fn wrong_etags_refuse_a_write_and_damage_nothing() {
    works(Lack::WrongETags(4));
}

// Spec: STORE-25
#[test]
fn a_service_that_throttles_is_waited_for_as_long_as_it_asks() {
    let window = Duration::from_millis(600);
    works(Lack::SlowDown(window, None));
    let began = Instant::now();
    works(Lack::SlowDown(window, Some("1")));
    assert!(began.elapsed() > Duration::from_secs(1));
    // Longer than anybody waits: it is not begun.
    let began = Instant::now();
    let day = Lack::SlowDown(Duration::from_secs(60), Some("86400"));
    refused(day, "asks to wait 86400 s");
    assert!(began.elapsed() < Duration::from_secs(10));
    let late = Lack::SlowsDownLate(Duration::from_millis(1200), "18446744073709551615");
    refused(late, "asks to wait 18446744073709551615 s");
}

// Spec: STORE-25
#[test]
fn a_refusal_is_not_asked_for_twice() {
    for status in [400, 401, 403, 405, 411, 501] {
        let service = filled();
        service.lacks(Lack::Fails(status, 1));
        service.forget();
        let error = opened(backend(&service)).unwrap_err();
        let asked = service.count("GET", "stores/1/store");
        assert_eq!(asked, 1, "{status}: {}", told(&error));
        assert!(matches!(error, StoreError::Storage { .. }), "{error:?}");
    }
    refused(Lack::Redirects, "open");
}

// Spec: STORE-1
#[test]
fn keys_of_others_are_passed_over() {
    works(Lack::ForeignKeys);
}

// Spec: STORE-25
#[test]
fn a_list_that_repeats_itself_is_each_entry_once_and_one_without_end_is_an_error() {
    works(Lack::RepeatsPages);
    refused(Lack::EndlessListing, "does not end");
}

// Spec: STORE-27
#[test]
fn what_is_forbidden_because_it_is_missing_is_missing_if_no_list_has_it() {
    let service = works(Lack::ForbidsMissing);
    let place = backend(&service);
    service.lacks(Lack::ForbidsMissing);
    let pack = Key::Pack(coldframe_chunks::FileId::new(7));
    assert_eq!(place.read(&pack, ByteLen::new(9)).unwrap(), None);
    let range = place.read_range(&pack, FileOffset::ZERO, ByteLen::new(1));
    assert_eq!(range.unwrap(), None);
    let wrong = refused(Lack::ForbidsMissingAndListing, "s3:ListBucket");
    assert!(!wrong.is_empty());
}

// Spec: STORE-25, STORE-27
#[test]
fn what_is_forbidden_is_looked_for_in_the_listing_by_any_name_and_not_behind_it() {
    let small = ByteLen::new(9);
    for prefix in [PREFIX, ""] {
        let service = PoorService::start().unwrap();
        let place = remote(service.endpoint(), prefix, OFTEN);
        let there = ["d", "dd", "0", "a0", "-", "--", "@", "z", "d-", "d.d"];
        for tag in there {
            let made = place.replace(&Key::Tag(name(tag)), None, Some(b"a tag"));
            assert!(made.unwrap());
        }
        for number in 0..40 {
            let pack = Key::Pack(coldframe_chunks::FileId::new(number));
            assert!(place.create(&pack, &[b"a pack"]).unwrap());
        }
        service.lacks(Lack::Forbids("tags/"));
        for tag in there {
            let read = place.read(&Key::Tag(name(tag)), small);
            let error = told(&read.unwrap_err());
            assert!(error.contains("AccessDenied"), "{tag}: {error}");
        }
        service.lacks(Lack::ForbidsMissing);
        let tags = ["c", "e", "1", "ddd", "A", "zz", "="];
        let tags = tags.map(|tag| Key::Tag(name(tag)));
        for key in tags.into_iter().chain([Key::Ledger]) {
            service.forget();
            assert_eq!(place.read(&key, small).unwrap(), None, "{key}");
            assert_eq!(
                service.count("GET", ""),
                2,
                "{prefix}, {key}: pages of a listing"
            );
        }
    }
}

// Where a service lists in no order, all of the folder is looked at.
// Spec: STORE-25, STORE-27
#[test]
fn what_is_forbidden_is_looked_for_in_all_of_a_listing_without_order() {
    let service = PoorService::start().unwrap();
    let store = std::sync::Arc::new(crate::places::client(service.endpoint()));
    let place = coldframe_chunks::Remote::new(store, None, "s3://b", PREFIX, OFTEN).unwrap();
    for number in 0..20 {
        let made = place.replace(&Key::Tag(name(&format!("t{number}"))), None, Some(b"a tag"));
        assert!(made.unwrap());
    }
    service.lacks(Lack::ForbidsMissing);
    service.forget();
    let read = place.read(&Key::Tag(name("s")), ByteLen::new(9));
    assert_eq!(read.unwrap(), None);
    assert!(service.count("GET", "") > 2);
    service.lacks(Lack::Forbids("tags/"));
    let read = place.read(&Key::Tag(name("t7")), ByteLen::new(9));
    assert!(told(&read.unwrap_err()).contains("AccessDenied"));
}

// Spec: STORE-27
#[test]
fn what_is_forbidden_and_listed_is_never_missing() {
    let wrong = refused(Lack::Forbids("packs/"), "get");
    assert!(
        !wrong.iter().any(|error| error.contains("not in the store")),
        "{wrong:#?}"
    );
    refused(Lack::Forbids("tags/"), "collect");
    refused(Lack::Forbids("ledger"), "collect");
    refused(Lack::Forbids("roots/"), "collect");
    refused(Lack::ListedNotFound("packs/"), "get");
    refused(Lack::ListedNotFound("tags/"), "collect");
    under(Lack::LeavesOut("packs/"));
    under(Lack::LeavesOut("roots/"));
    under(Lack::LeavesOut("tags/"));
    under(Lack::FlipsBits(5));
}

// Spec: STORE-28
#[test]
fn a_service_without_conditional_writes_is_refused_before_the_first_write() {
    for lack in [Lack::IgnoresConditions, Lack::HasNoConditions] {
        let wrong = refused(lack, "does not honour conditional writes");
        let reads = ["open", "get", "tags"];
        let is_read = |error: &String| reads.iter().any(|what| error.starts_with(what));
        assert!(!wrong.iter().any(is_read), "{lack:?}: {wrong:#?}");
        let service = PoorService::start().unwrap();
        service.lacks(lack);
        let error = PackStore::create_at(backend(&service), OPTIONS).unwrap_err();
        assert!(told(&error).contains("does not honour conditional writes"));
        assert_eq!(service.keys(), [""; 0], "{lack:?} left something behind");
    }
}

// Spec: STORE-28
#[test]
fn a_process_probes_once() {
    let service = filled();
    service.forget();
    let store = opened(backend(&service)).unwrap();
    assert_eq!(service.count("", "probes/"), 0, "a reader writes nothing");
    push_image(&store, "new", &[10]).unwrap();
    let asked = service.count("", "probes/");
    assert!(asked > 0);
    push_image(&store, "newer", &[11]).unwrap();
    store.collect(AT_ONCE, &[]).unwrap();
    assert_eq!(service.count("", "probes/"), asked);
}

// Spec: STORE-25
#[test]
fn a_bucket_that_wants_checksums_is_told_how() {
    refused(Lack::WantsChecksum, "AWS_CHECKSUM_ALGORITHM=SHA256");
}

// Spec: STORE-11
#[test]
fn what_is_retained_stays_and_all_other_garbage_goes() {
    let service = filled();
    let packs = |service: &PoorService| {
        let keys = service.keys();
        keys.into_iter()
            .filter(|key| key.contains("packs/"))
            .count()
    };
    let roots = |service: &PoorService| {
        let keys = service.keys();
        keys.into_iter()
            .filter(|key| key.contains("roots/"))
            .count()
    };
    let before = (packs(&service), roots(&service));
    service.lacks(Lack::Retains("packs/"));
    let store = opened(backend(&service)).unwrap();
    let error = store.collect(AT_ONCE, &[]).and(store.collect(AT_ONCE, &[]));
    let error = told(&error.unwrap_err());
    assert!(
        error.contains("cannot remove") && error.contains("packs/"),
        "{error}"
    );
    assert_eq!((packs(&service), roots(&service)), (before.0, before.1 - 1));
    // Once it may go, it goes.
    service.heal();
    store.collect(AT_ONCE, &[]).unwrap();
    assert!(packs(&service) < before.0);
    sound(&service, &["push".to_owned()]);
}

/// The planted bug: what cannot be read is taken for absent.
#[derive(Debug)]
struct Gullible(AnyBackend);

impl Backend for Gullible {
    fn place(&self) -> String {
        self.0.place()
    }

    fn create(&self, key: &Key, parts: &[&[u8]]) -> Result<bool, StorageError> {
        self.0.create(key, parts)
    }

    fn replace(
        &self,
        key: &Key,
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<bool, StorageError> {
        self.0.replace(key, expected, new)
    }

    fn read(&self, key: &Key, limit: ByteLen) -> Result<Option<Bytes>, StorageError> {
        Ok(self.0.read(key, limit).unwrap_or(None))
    }

    fn read_range(
        &self,
        key: &Key,
        offset: FileOffset,
        len: ByteLen,
    ) -> Result<Option<Bytes>, StorageError> {
        self.0.read_range(key, offset, len)
    }

    fn list(&self, folder: Folder) -> Result<Vec<Listed>, StorageError> {
        let mut listed = self.0.list(folder)?;
        let is_there = |file: &Listed| matches!(self.read(&file.key, file.len), Ok(Some(_)));
        listed.retain(|file| is_there(file));
        Ok(listed)
    }

    fn remove(&self, key: &Key) -> Result<bool, StorageError> {
        self.0.remove(key)
    }

    fn lease(&self) -> Result<Box<dyn Lease>, StorageError> {
        self.0.lease()
    }

    fn leases(&self) -> Result<BTreeSet<LeaseId>, StorageError> {
        self.0.leases()
    }

    fn exclusive(&self) -> Result<Option<Box<dyn Exclusive>>, StorageError> {
        self.0.exclusive()
    }

    fn sweep(&self) -> Result<u64, StorageError> {
        self.0.sweep()
    }
}

#[test]
fn a_planted_bug_is_found() {
    let service = filled();
    service.lacks(Lack::Forbids("tags/"));
    let wrong = used(&|| opened(Gullible(backend(&service))));
    let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        sound(&service, &wrong);
    }));
    assert!(
        checked.is_err(),
        "it deletes what is needed, and nobody has seen it"
    );
}

// Spec: STORE-28
#[test]
fn a_service_without_versions_is_refused_at_once() {
    let service = PoorService::start().unwrap();
    service.lacks(Lack::HasNoETags);
    let error = PackStore::create_at(backend(&service), OPTIONS).unwrap_err();
    assert!(told(&error).contains("no ETag"), "{}", told(&error));
    assert_eq!(service.count("PUT", ""), 2, "a probe, made twice");
    assert_eq!(service.keys(), [""; 0]);
    refused(Lack::HasNoETags, "no ETag");
}

// Spec: STORE-25
#[test]
fn of_a_service_that_ignores_ranges_the_whole_answer_is_cut() {
    let service = works(Lack::IgnoresRanges);
    let place = backend(&service);
    let key = Key::Store;
    let whole = place.read(&key, ByteLen::new(1 << 20)).unwrap().unwrap();
    service.lacks(Lack::IgnoresRanges);
    for (start, len) in [(0, 1), (7, 30), (0, whole.len()), (whole.len() - 1, 1)] {
        let (at, count) = (FileOffset::new(start as u64), ByteLen::new(len as u64));
        let cut = place.read_range(&key, at, count).unwrap().unwrap();
        assert_eq!(cut, whole[start..start + len]);
    }
    let past = FileOffset::new(whole.len() as u64 - 1);
    let error = place.read_range(&key, past, ByteLen::new(2)).unwrap_err();
    assert!(
        matches!(error, StorageError::UnexpectedEnd { .. }),
        "{error}"
    );
}

// Spec: STORE-25
#[test]
fn a_refusal_is_told_by_its_code_and_what_fits_it() {
    for (code, advice) in [
        ("InvalidAccessKeyId", "does not accept the credentials"),
        ("SignatureDoesNotMatch", "does not accept the credentials"),
        ("RequestTimeTooSkewed", "clock"),
        ("ExpiredToken", "expired"),
        ("AllAccessDisabled", "AllAccessDisabled"),
        ("AccessDenied", "s3:ListBucket"),
    ] {
        let service = filled();
        service.lacks(Lack::Denies(code));
        let error = opened(backend(&service)).unwrap_err();
        let text = told(&error);
        assert!(text.contains(code) && text.contains(advice), "{text}");
        let blames_permission = text.contains("s3:ListBucket");
        assert_eq!(blames_permission, code == "AccessDenied", "{text}");
        let listed = backend(&service).list(Folder::Packs).unwrap_err();
        let text = told(&listed);
        assert!(text.contains(code) && text.contains(advice), "{text}");
    }
}

// Spec: STORE-27
#[test]
fn what_is_listed_and_not_found_is_not_said_to_be_absent() {
    let service = filled();
    for within in ["/store", "tags/kept", "ledger"] {
        service.lacks(Lack::Nothing);
        let store = opened(backend(&service)).unwrap();
        service.lacks(Lack::ListedNotFound(within));
        let error = match within {
            "/store" => opened(backend(&service)).unwrap_err(),
            "ledger" => store.push().unwrap_err(),
            _ => store.tag(&name("kept")).unwrap_err(),
        };
        let text = told(&error);
        assert!(text.contains("listed, but not found"), "{within}: {text}");
        assert!(matches!(error, StoreError::Storage { .. }), "{error:?}");
        service.heal();
        assert_eq!(store.tag(&name("none")).unwrap(), None);
    }
}

// Spec: STORE-24
#[test]
fn a_lease_or_right_that_is_not_found_once_it_was_written_is_an_error_in_time() {
    let service = filled();
    let options = RemoteOptions {
        give_up_after: Duration::from_millis(300),
        ..OFTEN
    };
    let place = remote(service.endpoint(), PREFIX, options);
    service.lacks(Lack::ListedNotFound("leases/"));
    let began = Instant::now();
    let error = place.lease().unwrap_err();
    assert!(told(&error).contains("not found"), "{}", told(&error));
    assert!(began.elapsed() < Duration::from_secs(10));
    assert!(!service.keys().iter().any(|key| key.contains("leases/")));
    service.lacks(Lack::ListedNotFound("collector"));
    let error = place.exclusive().unwrap_err();
    assert!(told(&error).contains("not found"), "{}", told(&error));
    service.lacks(Lack::ListedNotFound("probes/"));
    let other = remote(service.endpoint(), PREFIX, options);
    let error = other.exclusive().unwrap_err();
    assert!(told(&error).contains("not found"), "{}", told(&error));
    service.heal();
    assert!(place.lease().unwrap().confirm().unwrap());
}
