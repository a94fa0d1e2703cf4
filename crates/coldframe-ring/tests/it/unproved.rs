//! What the host shows and the disk may not have.

use std::sync::atomic::{AtomicI64, Ordering};

use coldframe_ring::{RingError, RingWal};
use coldframe_ring::{RingOptions, Sequence};
use coldframe_storage::{MemStorage, Storage, StorageError};
use coldframe_testkit::fault::{Call, EIO, Fault, FaultStorage};
use coldframe_testkit::pagecache::{CachedFile, PageCacheDisk};
use coldframe_units::{ByteLen, FileOffset};
use coldframe_walframe::ring::RING_START;

use super::sample::{create, open, payload, records, region};

const RING: u64 = 16_384;

fn fresh() -> PageCacheDisk {
    PageCacheDisk::new(create(RING).storage().to_vec())
}

fn log_on(disk: &PageCacheDisk) -> RingWal<CachedFile> {
    RingWal::open(disk.open(), region(RING), RingOptions::ON_DEMAND).unwrap()
}

/// The numbers of the records that a power cut leaves.
fn left(disk: &PageCacheDisk, seed: u64) -> Vec<u64> {
    let log = open(&disk.power_cut(seed), RING).unwrap();
    records(&log)
        .into_iter()
        .map(|(number, _)| number)
        .collect()
}

/// A log with record 1 on the disk and record 2 in the cache alone.
fn two() -> PageCacheDisk {
    let disk = fresh();
    let log = log_on(&disk);
    log.append(&payload(1, 100)).unwrap();
    log.sync().unwrap();
    // In pages of its own.
    log.append(&payload(2, 6000)).unwrap();
    disk.fail_next_sync(EIO, 0);
    log.sync().unwrap_err();
    assert_eq!(left(&disk, 1), [1]);
    disk
}

// Spec: RING-27
#[test]
fn a_flush_of_a_log_that_was_opened_again_after_a_failed_one_is_true() {
    let disk = two();
    let log = log_on(&disk);
    assert_eq!(records(&log).len(), 2);
    log.sync().unwrap();
    assert_eq!(left(&disk, 0), [1, 2]);
    log.append(&payload(3, 100)).unwrap();
    log.sync().unwrap();
    assert_eq!(left(&disk, 0), [1, 2, 3]);
}

// Spec: RING-21, RING-27
#[test]
fn reading_says_what_is_not_proved_and_writes_nothing() {
    let disk = two();
    let calls = disk.operations();
    let reader = RingWal::open_read_only(disk.open(), region(RING)).unwrap();
    assert_eq!(reader.recovery().records, 2);
    assert_eq!(reader.recovery().proved.get(), 1);
    assert_eq!(reader.stats().durable.get(), 1);
    assert_eq!(disk.operations(), calls);
}

// Spec: RING-27
#[test]
fn only_what_is_not_proved_is_written_again() {
    let log = create(RING);
    for number in 1..=20 {
        log.append(&payload(number, 400)).unwrap();
    }
    let image = log.storage().to_vec();
    let written = |image: Vec<u8>| {
        let storage = FaultStorage::new(MemStorage::from_vec(image), &[]);
        let log = RingWal::open(&storage, region(RING), RingOptions::SYNC_EACH).unwrap();
        assert_eq!(log.pending(), 20);
        let counts = storage.counts();
        log.close().unwrap();
        let closed = storage.inner().to_vec();
        (counts, closed)
    };
    let blocks = 2 * 128;
    let (counts, closed) = written(image);
    assert_eq!(counts.bytes_written, blocks + 448);
    assert_eq!(counts.syncs, 2);
    let (counts, _) = written(closed);
    assert_eq!(counts.bytes_written, blocks);
    assert_eq!(counts.syncs, 1);
}

// Spec: RING-28
#[test]
fn space_that_a_checkpoint_did_not_free_for_sure_is_not_written_to() {
    // Full to the byte, so that the head is where the first record is.
    let disk = fresh();
    let log = log_on(&disk);
    for number in 1..=4 {
        log.append(&payload(number, RING as usize / 4 - 48))
            .unwrap();
    }
    log.sync().unwrap();
    disk.fail_next_sync(EIO, 0);
    log.checkpoint(Sequence::new(4)).unwrap_err();
    drop(log);
    let from = disk.operations();
    let log = log_on(&disk);
    assert_eq!(log.pending(), 0);
    log.append(&payload(5, 100)).unwrap();
    log.sync().unwrap();
    for moment in from..=disk.operations() {
        for seed in 0..40 {
            let image = disk.power_cut_at(moment, seed).0;
            let numbers: Vec<_> = records(&open(&image, RING).unwrap())
                .into_iter()
                .map(|(number, _)| number)
                .collect();
            let known: [&[u64]; 3] = [&[1, 2, 3, 4], &[], &[5]];
            assert!(known.contains(&&*numbers), "{numbers:?} at {moment}");
        }
    }
    assert_eq!(left(&disk, 0), [5]);
}

// Spec: RING-27, RING-62
#[test]
fn a_gap_that_only_the_cache_has_is_written_again() {
    let log = create(RING);
    for number in 1..=3 {
        log.append(&payload(number, 5000)).unwrap();
    }
    let mut image = log.storage().to_vec();
    image[RING_START as usize + 5056 + 100] ^= 1;
    let disk = PageCacheDisk::new(image);
    let reader = RingWal::open_read_only(disk.open(), region(RING)).unwrap();
    let plan = reader.check().unwrap();
    drop(reader);
    disk.fail_next_sync(EIO, 0);
    RingWal::repair(disk.open(), region(RING), &plan).unwrap_err();
    let log = log_on(&disk);
    assert_eq!(log.recovery().lost_records, 1);
    log.sync().unwrap();
    assert_eq!(left(&disk, 0), [1, 3]);
}

/// Evicts clean pages before a read.
struct Evicting<'a> {
    disk: &'a PageCacheDisk,
    file: CachedFile,
    left: AtomicI64,
}

impl Storage for Evicting<'_> {
    fn read_at(&self, offset: FileOffset, buf: &mut [u8]) -> Result<(), StorageError> {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 0 {
            self.disk.evict();
        }
        self.file.read_at(offset, buf)
    }

    fn write_at(&self, offset: FileOffset, bytes: &[u8]) -> Result<(), StorageError> {
        self.file.write_at(offset, bytes)
    }

    fn len(&self) -> Result<ByteLen, StorageError> {
        self.file.len()
    }

    fn set_len(&self, len: ByteLen) -> Result<(), StorageError> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> Result<(), StorageError> {
        self.file.sync_data()
    }

    fn path(&self) -> &std::path::Path {
        self.file.path()
    }
}

// Spec: RING-29
#[test]
fn a_record_that_is_evicted_while_the_log_is_opened_is_not_shown_as_durable() {
    let (mut gone, mut whole, mut short) = (0, 0, 0);
    for nth in 0..12 {
        let disk = two();
        let storage = Evicting {
            disk: &disk,
            file: disk.open(),
            left: AtomicI64::new(nth),
        };
        let options = RingOptions::ON_DEMAND;
        match RingWal::open(storage, region(RING), options) {
            Ok(log) => {
                let found: Vec<u64> = (1..=log.last_sequence().get()).collect();
                assert_eq!(left(&disk, 0), found, "evicted before read {nth}");
                whole += u64::from(found.len() == 2);
                short += u64::from(found.len() == 1);
            }
            Err(RingError::Gone { sequence, .. }) => {
                assert_eq!(sequence.get(), 2);
                gone += 1;
                assert_eq!(log_on(&disk).last_sequence().get(), 1);
            }
            Err(error) => panic!("{error:?}"),
        }
    }
    assert!(gone > 0 && whole > 0 && short > 0, "{gone} {whole} {short}");
}

// Spec: RING-36
#[test]
fn a_log_that_failed_acknowledges_nothing_though_all_its_records_are_durable() {
    let disk = fresh();
    let mut log = log_on(&disk);
    log.append(b"durable").unwrap();
    log.sync().unwrap();
    disk.fail_next_sync(EIO, 0);
    let failed = |error: RingError| matches!(error, RingError::Failed { .. });
    assert!(failed(log.checkpoint(Sequence::new(1)).unwrap_err()));
    assert!(failed(log.sync().unwrap_err()));
    assert!(failed(log.grow(region(2 * RING).size()).unwrap_err()));
    assert!(failed(log.close().unwrap_err()));
    assert_eq!(left(&disk, 1), [1]);
}

// Spec: RING-36, RING-50
#[test]
fn growing_whose_sync_failed_acknowledges_nothing_more() {
    let storage = FaultStorage::new(MemStorage::from_vec(create(RING).storage().to_vec()), &[]);
    let mut log = RingWal::open(&storage, region(RING), RingOptions::ON_DEMAND).unwrap();
    log.append(b"kept").unwrap();
    let (call, errno) = (Call::Sync, EIO);
    // Its records are synced first.
    let nth = storage.counts().syncs + 1;
    storage.inject(Fault::Nth { call, nth, errno });
    let error = log.grow(region(2 * RING).size()).unwrap_err();
    assert!(matches!(error, RingError::Failed { .. }), "{error:?}");
    log.append(b"refused").unwrap_err();
    drop(log);
    let image = storage.inner().to_vec();
    assert_eq!(
        records(&open(&image, RING).unwrap()),
        [(1, b"kept".to_vec())]
    );
}
