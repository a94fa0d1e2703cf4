//! Many threads at one log.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use coldframe_ring::{RingOptions, RingWal, Sequence};
use coldframe_storage::{MemStorage, Storage, StorageError};
use coldframe_units::{ByteLen, FileOffset};

use super::sample::{records, region};

// Spec: RING-37
#[test]
fn threads_get_distinct_sequences_and_all_records_are_there() {
    for options in [RingOptions::SYNC_EACH, RingOptions::ON_DEMAND] {
        let storage = Arc::new(MemStorage::new());
        let log = RingWal::create(Arc::clone(&storage), region(1 << 20), options).unwrap();
        let seen = Mutex::new(BTreeSet::new());
        std::thread::scope(|scope| {
            for thread in 0..16_u8 {
                let (log, seen) = (&log, &seen);
                scope.spawn(move || {
                    for round in 0..50_u8 {
                        let sequence = log.append(&[thread, round]).unwrap().get();
                        assert!(seen.lock().unwrap().insert((sequence, vec![thread, round])));
                        if round % 16 == 7 {
                            assert!(log.sync().unwrap().get() >= sequence);
                            assert!(log.stats().durable.get() >= sequence);
                        }
                    }
                });
            }
        });
        let seen: Vec<_> = seen.into_inner().unwrap().into_iter().collect();
        assert_eq!(records(&log), seen);
        let again = super::sample::open(&storage.to_vec(), 1 << 20).unwrap();
        assert_eq!(records(&again), seen);
    }
}

// Spec: RING-37
// Parity: F57
#[test]
fn one_sync_serves_many() {
    // Where a sync costs nothing, as on tmpfs, it may be over before a second thread has come.
    let storage = Slow(MemStorage::new());
    let log = RingWal::create(storage, region(1 << 20), RingOptions::SYNC_EACH).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(|| {
                for _ in 0..10 {
                    log.append(b"together").unwrap();
                }
            });
        }
    });
    let stats = log.stats();
    assert_eq!(stats.appended, 320);
    assert!(stats.syncs < 200, "{stats:?}");
    assert_eq!(stats.durable.get(), 320);
}

/// Memory with syncs so slow that threads which are served have time to come back.
#[derive(Debug)]
struct Slow(MemStorage);

impl Slow {
    const SYNC: Duration = Duration::from_millis(50);
}

impl Storage for Slow {
    fn read_at(&self, offset: FileOffset, buf: &mut [u8]) -> Result<(), StorageError> {
        self.0.read_at(offset, buf)
    }

    fn write_at(&self, offset: FileOffset, bytes: &[u8]) -> Result<(), StorageError> {
        self.0.write_at(offset, bytes)
    }

    fn len(&self) -> Result<ByteLen, StorageError> {
        self.0.len()
    }

    fn set_len(&self, len: ByteLen) -> Result<(), StorageError> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> Result<(), StorageError> {
        std::thread::sleep(Self::SYNC);
        self.0.sync_data()
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

// Spec: RING-37
#[test]
fn threads_that_come_back_share_the_next_sync() {
    let options = RingOptions::SYNC_EACH;
    let log = RingWal::create(Slow(MemStorage::new()), region(1 << 20), options).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..8 {
                    log.append(b"again").unwrap();
                }
            });
        }
    });
    // One for the first to come, one for the others, then one a round; two a round without waiting.
    let syncs = log.stats().syncs;
    assert!(syncs <= 12, "{syncs} syncs");
}

// Spec: RING-40, RING-37
#[test]
fn checkpoints_run_beside_appends() {
    let storage = Arc::new(MemStorage::new());
    let options = RingOptions::SYNC_EACH;
    let log = RingWal::create(Arc::clone(&storage), region(8192), options).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let log = &log;
            scope.spawn(move || {
                for round in 0..200 {
                    let bytes = super::sample::payload(thread * 1000 + round, 40);
                    while let Err(error) = log.append(&bytes) {
                        assert!(error.is_full(), "{error:?}");
                        let up_to = log.stats().durable;
                        // Another thread may have been here first.
                        let _ = log.checkpoint(up_to);
                    }
                }
            });
        }
    });
    assert_eq!(log.last_sequence(), Sequence::new(800));
    let kept = records(&log);
    let again = super::sample::open(&storage.to_vec(), 8192).unwrap();
    assert_eq!(records(&again), kept);
}
