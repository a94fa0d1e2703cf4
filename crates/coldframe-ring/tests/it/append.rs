//! Appending, limits, checkpoints, statistics.

use std::sync::Arc;

use coldframe_ring::{CheckpointPolicy, Region, RingOptions, Sequence};
use coldframe_ring::{RingError, RingWal};
use coldframe_storage::MemStorage;
use coldframe_testkit::alloc::alloc_peak;
use coldframe_testkit::fault::FaultStorage;
use coldframe_units::{ByteLen, FileOffset};

use super::sample::{create, open, payload, records, records_after, region};

// Spec: RING-1
#[test]
fn impossible_regions_are_refused() {
    let shape = |offset, size| Region::new(FileOffset::new(offset), ByteLen::new(size));
    for (offset, size) in [
        (0, 0),
        (0, 8192),
        (0, 8239),
        (0, 8248),
        (16, 16384),
        (!4095, 16384),
    ] {
        assert!(matches!(
            shape(offset, size),
            Err(RingError::RegionShape { .. })
        ));
    }
    assert!(shape(4096, 8240).is_ok());
}

// Spec: RING-30
// Parity: F57
#[test]
fn sequences_count_from_one_across_openings() {
    let log = create(1024);
    assert_eq!(log.append(b"a").unwrap().get(), 1);
    assert_eq!(log.append(b"b").unwrap().get(), 2);
    let image = log.storage().to_vec();
    let log = open(&image, 1024).unwrap();
    assert_eq!(log.append(b"c").unwrap().get(), 3);
    assert_eq!(log.last_sequence().get(), 3);
    assert_eq!(log.stats().epoch, 2);
}

// Spec: RING-32
// Parity: F62
#[test]
fn a_full_log_says_how_much_to_free() {
    let log = create(256); // four records of 64
    for number in 0..4 {
        log.append(&payload(number, 16)).unwrap();
    }
    let error = log.append(&[0; 60]).unwrap_err();
    let RingError::Full {
        need,
        free,
        release,
        checkpoint_to,
    } = error
    else {
        panic!("{error:?}");
    };
    assert_eq!((need.get(), free.get(), release.get()), (112, 0, 112));
    assert_eq!(checkpoint_to.get(), 2);
    log.checkpoint(checkpoint_to).unwrap();
    assert_eq!(log.append(&[0; 60]).unwrap().get(), 5);
}

// Spec: RING-33
// Parity: F58
#[test]
fn a_payload_as_long_as_the_ring_allows_fits_wherever_the_head_is() {
    let log = create(512);
    for number in 0..9 {
        let long = payload(number, 512 - 48);
        let sequence = log.append(&long).unwrap();
        assert_eq!(records(&log), [(2 * number + 1, long)]);
        log.checkpoint(sequence).unwrap();
        let short = log.append(&payload(number, 5)).unwrap();
        log.checkpoint(short).unwrap();
    }
    let error = log.append(&[0; 465]).unwrap_err();
    assert!(
        matches!(error, RingError::TooLong { max, .. } if max.get() == 464),
        "{error:?}"
    );
}

// Spec: RING-31
// Parity: F57
#[test]
fn a_batch_is_one_write_and_all_or_nothing_for_room() {
    let log = create(512);
    let payloads: Vec<_> = (0..4).map(|number| payload(number, 20)).collect();
    let range = log.append_batch(&payloads).unwrap().unwrap();
    assert_eq!((range.start().get(), range.end().get()), (1, 4));
    assert_eq!((log.stats().writes, log.stats().syncs), (1, 1));
    assert!(log.append_batch(&payloads).unwrap_err().is_full());
    assert_eq!(log.pending(), 4);
    assert_eq!(log.append_batch::<&[u8]>(&[]).unwrap(), None);
}

// Spec: RING-31
// Parity: F57
#[test]
fn sync_each_is_one_write_and_one_sync() {
    let storage = Arc::new(FaultStorage::new(MemStorage::new(), &[]));
    let options = RingOptions::SYNC_EACH;
    let log = RingWal::create(Arc::clone(&storage), region(65536), options).unwrap();
    let before = storage.counts();
    for number in 0..10 {
        log.append(&payload(number, 700)).unwrap();
    }
    let after = storage.counts();
    assert_eq!(
        (after.writes - before.writes, after.syncs - before.syncs),
        (10, 10)
    );
    assert_eq!(after.reads, before.reads);
}

// Spec: RING-31
#[test]
fn an_append_allocates_nothing_once_the_buffers_are_there() {
    let log = create(1 << 20);
    let bytes = payload(1, 1000);
    for _ in 0..4 {
        log.append(&bytes).unwrap();
    }
    let (_, peak) = alloc_peak(|| {
        for _ in 0..100 {
            log.append(&bytes).unwrap();
        }
    });
    assert_eq!(peak, 0);
}

// Spec: RING-40
#[test]
fn a_checkpoint_is_of_a_record_that_is_there() {
    let log = create(1024);
    for _ in 0..3 {
        log.append(b"x").unwrap();
    }
    let refused = |to| {
        let result = log.checkpoint(Sequence::new(to));
        matches!(result, Err(RingError::UnknownSequence { .. }))
    };
    assert!(refused(4) && refused(u64::MAX));
    log.checkpoint(Sequence::new(2)).unwrap();
    assert!(refused(1));
    log.checkpoint(Sequence::new(2)).unwrap();
    assert_eq!(records(&log), [(3, b"x".to_vec())]);
    assert_eq!(records_after(&log, 3), []);
    assert_eq!(records_after(&log, u64::MAX), []);
    let log = open(&log.storage().to_vec(), 1024).unwrap();
    assert_eq!(records(&log), [(3, b"x".to_vec())]);
}

// Spec: RING-42
// Parity: F62
#[test]
fn a_checkpoint_is_due_by_occupancy_or_by_count() {
    let log = create(64 * 100);
    for number in 1..=75 {
        assert!(!log.should_checkpoint());
        log.append(&payload(number, 16)).unwrap();
    }
    assert!(log.should_checkpoint());
    log.checkpoint(Sequence::new(10)).unwrap();
    assert!(!log.should_checkpoint());
    let options = RingOptions {
        checkpoint: CheckpointPolicy {
            occupancy_percent: 100,
            records: 3,
        },
        ..RingOptions::ON_DEMAND
    };
    let log = RingWal::create(MemStorage::new(), region(4096), options).unwrap();
    for due in [false, false, true] {
        log.append(b"").unwrap();
        assert_eq!(log.should_checkpoint(), due);
    }
    log.checkpoint(Sequence::new(3)).unwrap();
    assert!(!log.should_checkpoint());
    assert_eq!(CheckpointPolicy::STANDARD.records, 1000);
}

// Spec: RING-25
// Parity: F62
#[test]
fn recovery_reports_records_and_laps() {
    let log = create(256);
    for number in 1..=10 {
        let sequence = log.append(&payload(number, 30)).unwrap();
        if number != 10 {
            log.checkpoint(sequence).unwrap();
        }
    }
    let stats = log.stats();
    assert_eq!(
        (stats.pending, stats.checkpoints, stats.appended),
        (1, 9, 10)
    );
    assert_eq!(stats.used.get(), 80);
    let log = open(&log.storage().to_vec(), 256).unwrap();
    let recovery = log.recovery();
    assert_eq!(
        (recovery.records, recovery.bytes, recovery.laps),
        (1, 80, 3)
    );
    assert_eq!(recovery.range, Some((Sequence::new(10), Sequence::new(10))));
    assert!(!recovery.is_torn() && !recovery.is_corrupt());
}

// Spec: RING-50, RING-51
// Parity: F63
#[test]
fn growing_keeps_all_records_and_makes_room() {
    let mut log = create(256);
    for number in 1..=5 {
        log.append(&payload(number, 30)).unwrap_or_else(|_| {
            log.checkpoint(Sequence::new(number - 2)).unwrap();
            log.append(&payload(number, 30)).unwrap()
        });
    }
    let before = records(&log);
    let error = log.grow(region(256 + 16).size()).unwrap_err();
    assert!(
        matches!(error, RingError::GrowTooLittle { .. }),
        "{error:?}"
    );
    log.grow(region(1024).size()).unwrap();
    assert_eq!(records(&log), before);
    log.append(&[7; 700]).unwrap();
    let image = log.storage().to_vec();
    let log = open(&image, 1024).unwrap();
    assert_eq!(records(&log).len(), before.len() + 1);
    assert_eq!(records(&log)[..before.len()], before);
    // A region that is said to be larger is taken for what it is.
    let storage = MemStorage::from_vec([image, vec![9; 4096]].concat());
    let log = RingWal::open(storage, region(4096), RingOptions::SYNC_EACH).unwrap();
    assert_eq!(log.region(), region(1024));
}

// Spec: RING-34
#[test]
fn records_that_were_checkpointed_while_being_read_are_told_from_damage() {
    let log = create(256);
    for number in 0..4 {
        log.append(&payload(number, 16)).unwrap();
    }
    let mut reading = log.records_after(Sequence::ZERO);
    log.checkpoint(Sequence::new(4)).unwrap();
    for number in 4..8 {
        log.append(&payload(number, 16)).unwrap();
    }
    assert!(matches!(reading.next(), Err(RingError::Passed { .. })));
}
