//! Calls that fail.

use std::sync::Arc;

use coldframe_ring::{RingError, RingWal};
use coldframe_ring::{RingOptions, Sequence};
use coldframe_storage::MemStorage;
use coldframe_testkit::fault::{Call, EIO, ENOSPC, Fault, FaultStorage};

use super::sample::{open, records, region};

type Faulty = Arc<FaultStorage<MemStorage>>;

fn faulty(options: RingOptions) -> (Faulty, RingWal<Faulty>) {
    let storage = Arc::new(FaultStorage::new(MemStorage::new(), &[]));
    let log = RingWal::create(Arc::clone(&storage), region(2048), options).unwrap();
    (storage, log)
}

fn fail_next(storage: &Faulty, call: Call, errno: i32) {
    let counts = storage.counts();
    let nth = match call {
        Call::Read => counts.reads,
        Call::Write => counts.writes,
        Call::Sync => counts.syncs,
    };
    storage.inject(Fault::Nth { call, nth, errno });
}

// Spec: RING-36
#[test]
fn a_failed_sync_poisons_the_log_until_it_is_opened_again() {
    for call in [Call::Sync, Call::Write] {
        let (storage, log) = faulty(RingOptions::SYNC_EACH);
        log.append(b"durable").unwrap();
        fail_next(
            &storage,
            call,
            if call == Call::Sync { EIO } else { ENOSPC },
        );
        let failed = |error: &RingError| matches!(error, RingError::Failed { .. });
        assert!(failed(&log.append(b"unknown").unwrap_err()));
        // The host would say yes now; the log does not.
        assert!(failed(&log.append(b"refused").unwrap_err()));
        assert!(failed(&log.sync().unwrap_err()));
        assert!(failed(&log.checkpoint(Sequence::new(1)).unwrap_err()));
        assert!(failed(&log.append_batch(&[b"refused"]).unwrap_err()));
        assert_eq!(log.stats().durable.get(), 1);
        assert!(failed(&log.close().unwrap_err()));
        let again = open(&storage.inner().to_vec(), 2048).unwrap();
        let found = records(&again);
        assert_eq!(found[0].1, b"durable");
        assert!(found.len() <= 2 && found.iter().all(|(_, bytes)| bytes != b"refused"));
        assert_eq!(again.append(b"on").unwrap().get(), found.len() as u64 + 1);
    }
}

// Spec: RING-36
#[test]
fn a_sync_that_fails_on_demand_acknowledges_nothing() {
    let (storage, log) = faulty(RingOptions::ON_DEMAND);
    log.append(b"written").unwrap();
    fail_next(&storage, Call::Sync, EIO);
    assert!(log.sync().is_err());
    assert_eq!(log.stats().durable.get(), 0);
    assert!(log.sync().is_err());
}

// Spec: RING-37
#[test]
fn every_thread_of_a_group_gets_the_error() {
    let (storage, log) = faulty(RingOptions::SYNC_EACH);
    fail_next(&storage, Call::Sync, EIO);
    let errors = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| log.append(b"x").is_err()))
            .collect();
        threads
            .into_iter()
            .filter(|_| true)
            .map(|t| t.join().unwrap())
            .filter(|e| *e)
            .count()
    });
    assert_eq!(errors, 8);
    assert_eq!(log.stats().durable.get(), 0);
}

// Spec: RING-20
#[test]
fn an_error_of_any_read_is_an_error_and_not_a_shorter_log() {
    let (storage, log) = faulty(RingOptions::SYNC_EACH);
    for _ in 0..5 {
        log.append(&[1; 100]).unwrap();
    }
    drop(log);
    let mut failures = 0;
    for nth in 0..100 {
        let image = MemStorage::from_vec(storage.inner().to_vec());
        let call = Call::Read;
        let faults = [Fault::Nth {
            call,
            nth,
            errno: EIO,
        }];
        let storage = FaultStorage::new(image, &faults);
        match RingWal::open(&storage, region(2048), RingOptions::SYNC_EACH) {
            Ok(log) => assert_eq!(log.pending(), 5),
            Err(error) => {
                failures += 1;
                assert!(matches!(error, RingError::Read { .. }), "{error:?}");
            }
        }
    }
    assert!(failures >= 3, "{failures}");
}

// Spec: RING-20
#[test]
fn a_failure_while_opening_loses_nothing() {
    let (storage, log) = faulty(RingOptions::SYNC_EACH);
    log.append(b"kept").unwrap();
    let image = storage.inner().to_vec();
    for call in [Call::Write, Call::Sync] {
        for nth in 0..3 {
            let faults = [Fault::Nth {
                call,
                nth,
                errno: EIO,
            }];
            let storage = FaultStorage::new(MemStorage::from_vec(image.clone()), &faults);
            let _ = RingWal::open(&storage, region(2048), RingOptions::SYNC_EACH);
            let log = open(&storage.inner().to_vec(), 2048).unwrap();
            assert_eq!(records(&log), [(1, b"kept".to_vec())]);
        }
    }
}

// Spec: RING-50
// Parity: F63
#[test]
fn growing_that_fails_leaves_the_log_as_it_was() {
    for nth in 0..4 {
        let (storage, mut log) = faulty(RingOptions::SYNC_EACH);
        log.append(b"kept").unwrap();
        let counts = storage.counts();
        let (call, errno) = (Call::Write, ENOSPC);
        storage.inject(Fault::Nth {
            call,
            nth: counts.writes + nth,
            errno,
        });
        let grown = log.grow(region(4096).size());
        drop(log);
        let log = open(&storage.inner().to_vec(), 4096).unwrap();
        assert_eq!(records(&log), [(1, b"kept".to_vec())]);
        if let Err(error) = grown {
            assert!(matches!(
                error,
                RingError::Prepare { .. } | RingError::Failed { .. }
            ));
        }
    }
}
