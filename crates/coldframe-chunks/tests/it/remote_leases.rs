//! Leases and the collector's right as objects: they run out by the clock of the service, and what
//! ran out never comes back.

use std::thread::sleep;
use std::time::{Duration, Instant};

use coldframe_chunks::{Backend, ChunkStore, LeaseId, RemoteOptions, StoreError};

use coldframe_testkit::poor_service::{Lack, PoorService};

use crate::faulty::{Call, Fault, Faulty};
use crate::places::{QUICK, client, moto_endpoint, new_prefix, remote, s3s_endpoint};
use crate::support::{AT_ONCE, OPTIONS, chunk, id, index_of, name, push_image, put, tag_of};

const TTL: Duration = Duration::from_millis(800);

const SHORT: RemoteOptions = RemoteOptions {
    lease_ttl: TTL,
    attempts: 1,
    ..QUICK
};

// Spec: STORE-24
#[test]
fn a_lease_is_renewed_for_as_long_as_its_holder_lives() {
    let faulty = Faulty::default();
    let (place, other) = (faulty.backend(SHORT), faulty.backend(SHORT));
    let lease = place.lease().unwrap();
    let right = place.exclusive().unwrap().unwrap();
    for _ in 0..8 {
        sleep(TTL / 3);
        assert!(lease.is_held());
        assert_eq!(other.leases().unwrap(), [lease.id()].into());
        assert!(other.exclusive().unwrap().is_none());
    }
    assert!(lease.confirm().unwrap() && right.confirm().unwrap());
}

// Spec: STORE-24, STORE-25
#[test]
fn a_push_outlasts_an_outage_of_the_time_that_requests_are_retried() {
    let usual = RemoteOptions::USUAL;
    let same = usual.retrying_for(usual.give_up_after);
    assert_eq!(usual.lease_ttl, same.lease_ttl);
    assert_eq!(
        usual.retrying_for(Duration::ZERO).lease_ttl,
        usual.lease_ttl
    );
    for limit in [Duration::from_secs(24 * 3600), Duration::MAX] {
        let lease_ttl = usual.retrying_for(limit).lease_ttl;
        assert_eq!(lease_ttl, Duration::from_secs(3600));
    }
    let limit = Duration::from_secs(2);
    let options = RemoteOptions {
        attempts: u32::MAX,
        lease_ttl: TTL,
        attempt_timeout: Duration::from_millis(200),
        ..QUICK
    };
    let faulty = Faulty::default();
    let store = faulty.store_with(options.retrying_for(limit), OPTIONS);
    let push = store.push().unwrap();
    put(&push, &[1]).unwrap();
    // It begins when a renewal is nearly due.
    sleep(options.retrying_for(limit).lease_ttl / 9);
    for call in [Call::Put, Call::Get, Call::Head, Call::List] {
        faulty.spoil(call, "", u64::MAX, Fault::Refused);
    }
    std::thread::scope(|scope| {
        let healed = scope.spawn(|| {
            sleep(limit - Duration::from_millis(200));
            faulty.heal();
        });
        let ids = put(&push, &[2]).unwrap();
        healed.join().unwrap();
        let root = push.put_root(&[&index_of(&ids)]).unwrap();
        push.tag(&name("a"), None, tag_of(root)).unwrap();
    });
    push.finish().unwrap();
    assert!(store.verify(&[]).unwrap().is_sound());
}

// Spec: STORE-24
#[test]
fn a_lease_lives_for_no_more_than_an_hour_whatever_its_holder_wants() {
    let faulty = Faulty::default();
    let endless = RemoteOptions {
        lease_ttl: Duration::MAX,
        ..QUICK
    };
    let place = faulty.backend(endless);
    let lease = place.lease().unwrap();
    assert!(lease.confirm().unwrap());
    assert_eq!(faulty.backend(QUICK).leases().unwrap(), [lease.id()].into());
}

// Spec: STORE-24, STORE-25
#[test]
fn a_renewal_waits_as_long_as_the_service_asks() {
    let service = PoorService::start().unwrap();
    let place = remote(service.endpoint(), "p", QUICK);
    let lease = place.lease().unwrap();
    service.forget();
    let began = Instant::now();
    service.lacks(Lack::SlowDown(Duration::from_millis(600), Some("1")));
    assert!(lease.confirm().unwrap());
    assert_eq!(service.count("PUT", "leases/"), 2);
    assert!(began.elapsed() > Duration::from_secs(1));
}

// A holder that cannot reach the service takes its lease for lost before anyone else does.
// Spec: STORE-24
#[test]
fn a_lease_that_ran_out_never_comes_back() {
    let faulty = Faulty::default();
    let (place, other) = (faulty.backend(SHORT), faulty.backend(SHORT));
    let lease = place.lease().unwrap();
    let second = other.lease().unwrap();
    faulty.spoil(Call::Put, "leases/", u64::MAX, Fault::Refused);
    while lease.is_held() {
        assert!(other.leases().unwrap().contains(&lease.id()));
        sleep(TTL / 20);
    }
    sleep(TTL);
    assert!(other.leases().unwrap().is_empty());
    assert_eq!(faulty.count(Call::Delete, "leases/"), 2);
    faulty.heal();
    sleep(TTL / 4);
    assert!(!lease.is_held() && !lease.confirm().unwrap() && !second.confirm().unwrap());
    assert!(place.leases().unwrap().is_empty());
}

// A machine that stood still: by its own clock no time has passed, and its lease is gone.
// Spec: STORE-24
#[test]
fn a_push_whose_lease_was_taken_for_void_says_so_and_takes_its_tag_back() {
    let faulty = Faulty::default();
    let store = faulty.store();
    store.put(&chunk(1)).unwrap();
    let sleeper = faulty.store();
    let push = sleeper.push().unwrap();
    let ids = put(&push, &[1]).unwrap();
    assert_eq!(push.count().deduplicated, 1);
    let root = push.put_root(&[&index_of(&ids)]).unwrap();
    // What a collector does that finds the lease too old.
    let listed = faulty.backend(QUICK).leases().unwrap();
    assert_eq!(listed.len(), 1);
    remove_leases(&faulty);
    store.collect(AT_ONCE, &[]).unwrap();
    assert!(!faulty.store().has(id(1)).unwrap());
    let error = push.tag(&name("a"), None, tag_of(root)).unwrap_err();
    assert!(matches!(error, StoreError::LeaseLost), "{error:?}");
    assert!(matches!(push.finish(), Err(StoreError::LeaseLost)));
    assert_eq!(store.tag(&name("a")).unwrap(), None);
    assert!(store.verify(&[]).unwrap().is_sound());
    // Done again, it holds.
    push_image(&sleeper, "a", &[1]).unwrap();
    store.collect(AT_ONCE, &[]).unwrap();
    assert!(faulty.store().get(id(1)).is_ok());
}

// The tag was swapped while the lease was good, so the collector that then took the lease for void
// has kept what the tag points to, and deleted what it pointed to before.
// Spec: STORE-11
#[test]
fn a_tag_is_never_taken_back_to_a_root_that_is_gone() {
    let faulty = Faulty::default();
    let old = push_image(&faulty.store(), "t", &[1]).unwrap();
    let sleeper = faulty.store();
    let push = sleeper.push().unwrap();
    let ids = put(&push, &[2]).unwrap();
    let new = push.put_root(&[&index_of(&ids)]).unwrap();
    // Its machine stands still between the swap and the confirmation of the lease.
    for call in [Call::Put, Call::Get, Call::Head] {
        faulty.spoil(call, "leases/", 1, Fault::Slow(Duration::from_secs(1)));
    }
    let told = std::thread::scope(|scope| {
        let pushing = scope.spawn(|| push.tag(&name("t"), Some(tag_of(old)), tag_of(new)));
        let store = faulty.store();
        while store.tag(&name("t")).unwrap() != Some(tag_of(new)) {
            std::thread::yield_now();
        }
        remove_leases(&faulty);
        assert_eq!(store.collect(AT_ONCE, &[]).unwrap().deleted_roots, 1);
        pushing.join().unwrap()
    });
    assert!(matches!(told, Err(StoreError::LeaseLost)), "{told:?}");
    let store = faulty.store();
    assert_eq!(store.tag(&name("t")).unwrap(), Some(tag_of(new)));
    assert!(store.verify(&[]).unwrap().is_sound());
}

fn remove_leases(faulty: &Faulty) {
    use futures_util::TryStreamExt as _;
    use object_store::{ObjectStore as _, ObjectStoreExt as _};
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    runtime.block_on(async {
        let path = object_store::path::Path::from("p/leases");
        let found: Vec<_> = faulty.inner.list(Some(&path)).try_collect().await.unwrap();
        for meta in found {
            faulty.inner.delete(&meta.location).await.unwrap();
        }
    });
}

// Failure mode 1: two collectors at once.
// Spec: STORE-24
// Parity: M1
#[test]
fn the_right_of_a_collector_that_died_is_taken_over_and_not_given_back_to_it() {
    let faulty = Faulty::default();
    let (place, other) = (faulty.backend(SHORT), faulty.backend(SHORT));
    let right = place.exclusive().unwrap().unwrap();
    faulty.spoil(Call::Put, "collector", u64::MAX, Fault::Refused);
    sleep(TTL + TTL / 2);
    faulty.heal();
    let taken = other.exclusive().unwrap().unwrap();
    assert!(!right.confirm().unwrap());
    assert!(taken.confirm().unwrap());
    // What the first gives back is not the second's.
    drop(right);
    assert!(place.exclusive().unwrap().is_none());
    assert!(taken.confirm().unwrap());
}

// Spec: STORE-11, STORE-24
#[test]
fn a_collector_that_lost_its_right_deletes_nothing_more() {
    let faulty = Faulty::default();
    let store = faulty.store_with(SHORT, OPTIONS);
    for number in 0..4 {
        store.put(&chunk(number)).unwrap();
    }
    // Each list takes long enough for the right to run out, and it cannot be renewed.
    faulty.spoil(Call::List, "tags", 2, Fault::Slow(TTL));
    faulty.spoil_after_first(Call::Put, "collector", Fault::NotFound);
    let error = store.collect(AT_ONCE, &[]).unwrap_err();
    assert!(matches!(error, StoreError::ExclusiveLost), "{error:?}");
    faulty.heal();
    let left = faulty.store();
    assert!((0..4).all(|number| left.has(id(number)).unwrap()));
    sleep(TTL);
    assert_eq!(left.collect(AT_ONCE, &[]).unwrap().deleted_packs, 4);
}

// By the clocks of real servers, which tell whole seconds.
// Spec: STORE-24
#[test]
fn leases_run_out_by_the_clock_of_the_service() {
    use object_store::ObjectStoreExt as _;
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    let patient = RemoteOptions {
        lease_ttl: Duration::from_secs(10),
        ..QUICK
    };
    for endpoint in [Some(s3s_endpoint()), moto_endpoint()]
        .into_iter()
        .flatten()
    {
        let prefix = new_prefix();
        let place = remote(endpoint, &prefix, patient);
        // That of a process which is gone.
        let object = format!("{prefix}/leases/00000000000000ab.3000.lease");
        let object = object_store::path::Path::from(object);
        let began = Instant::now();
        let put = async { client(endpoint).put(&object, "ab".into()).await };
        runtime.block_on(put).unwrap();
        let (dead, living) = (LeaseId::new(0xab), place.lease().unwrap());
        assert_eq!(place.leases().unwrap(), [dead, living.id()].into());
        while place.leases().unwrap().contains(&dead) {
            assert!(began.elapsed() < Duration::from_secs(30), "{endpoint}");
            sleep(Duration::from_millis(200));
        }
        assert!(began.elapsed() > Duration::from_secs(2), "{endpoint}");
        let head = async { client(endpoint).head(&object).await };
        assert!(runtime.block_on(head).is_err(), "{endpoint}");
        assert_eq!(place.leases().unwrap(), [living.id()].into());
        assert!(living.confirm().unwrap());
    }
}
