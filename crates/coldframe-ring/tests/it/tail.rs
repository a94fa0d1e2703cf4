//! The end of a log: torn at every byte, closed, stale.

use coldframe_ring::{Finding, RingError};
use coldframe_units::FileOffset;
use coldframe_walframe::ring::{End, RING_START, record_extent};

use super::sample::{create, inspect, open, payload, records};

const RING: u64 = 4096;

/// Six records, and where each begins in the file.
fn six() -> (Vec<u8>, Vec<usize>) {
    let log = create(RING);
    let mut starts = vec![RING_START as usize];
    for (number, len) in (1..).zip([20, 0, 100, 33, 0, 64]) {
        log.append(&payload(number, len)).unwrap();
        starts.push(starts.last().unwrap() + record_extent(len as u64) as usize);
    }
    (log.storage().to_vec(), starts)
}

// Spec: RING-22, RING-25
#[test]
fn a_tail_cut_at_every_byte_of_the_last_record_drops_only_that() {
    let (image, starts) = six();
    for cut in starts[5]..starts[6] {
        let mut torn = image.clone();
        torn[cut..].fill(0);
        let whole = torn == image;
        let log = open(&torn, RING).unwrap();
        let kept = records(&log).len();
        assert_eq!(kept, if whole { 6 } else { 5 }, "cut at {cut}");
        let recovery = log.recovery();
        let begun = torn[starts[5]..].iter().any(|byte| *byte != 0);
        assert_eq!(recovery.torn_bytes > 0, begun && !whole, "cut at {cut}");
        assert!(recovery.torn_bytes <= (starts[6] - starts[5]) as u64);
        assert_eq!(log.append(b"next").unwrap().get(), kept as u64 + 1);
    }
}

// Spec: RING-22
// Parity: F59
#[test]
fn a_tail_of_unsynced_records_cut_at_every_byte_keeps_the_whole_ones() {
    let (image, starts) = six_unsynced();
    for cut in starts[3]..starts[6] {
        let mut torn = image.clone();
        torn[cut..].fill(0);
        let whole = (3..6)
            .filter(|n| torn[..starts[n + 1]] == image[..starts[n + 1]])
            .count()
            + 3;
        let log = open(&torn, RING).unwrap();
        assert_eq!(records(&log).len(), whole, "cut at {cut}");
    }
}

fn six_unsynced() -> (Vec<u8>, Vec<usize>) {
    use coldframe_ring::{RingOptions, RingWal};
    use coldframe_storage::MemStorage;
    let options = RingOptions::ON_DEMAND;
    let log = RingWal::create(MemStorage::new(), super::sample::region(RING), options).unwrap();
    let mut starts = vec![RING_START as usize];
    for (number, len) in (1..).zip([20, 0, 100, 33, 0, 64]) {
        log.append(&payload(number, len)).unwrap();
        starts.push(starts.last().unwrap() + record_extent(len as u64) as usize);
    }
    (log.storage().to_vec(), starts)
}

// Spec: RING-15, RING-23
#[test]
fn synced_records_that_are_cut_off_under_a_later_one_are_damage() {
    let (image, starts) = six();
    let mut damaged = image;
    damaged[starts[4]..starts[5]].fill(0);
    let error = open(&damaged, RING).unwrap_err();
    let RingError::Corrupt {
        offset,
        sequence,
        witness,
    } = error
    else {
        panic!("{error:?}");
    };
    assert_eq!(offset, FileOffset::new(starts[4] as u64));
    assert_eq!((sequence.get(), witness.unwrap().get()), (5, 6));
}

// Spec: RING-41
#[test]
fn the_last_record_of_a_closed_log_cannot_pass_for_torn() {
    let storage = {
        let log = create(RING);
        log.append(b"first").unwrap();
        log.append(b"last").unwrap();
        let storage = std::sync::Arc::clone(log.storage());
        log.close().unwrap();
        storage
    };
    let image = storage.to_vec();
    assert!(matches!(
        inspect(&image, RING).unwrap().end,
        End::Clean { .. }
    ));
    let mut damaged = image;
    damaged[RING_START as usize + 64 + 48] ^= 1;
    let error = open(&damaged, RING).unwrap_err();
    assert!(
        error.is_corrupt() && error.to_string().contains("record 2"),
        "{error}"
    );
}

// Spec: RING-12
// Parity: F59
#[test]
fn a_record_of_an_earlier_lap_is_no_continuation() {
    // Records of equal size: without a lap in the record the old ones would follow smoothly.
    let log = create(64 * 4);
    for number in 1..=6 {
        if number > 4 {
            log.checkpoint(coldframe_ring::Sequence::new(number - 1))
                .unwrap();
        }
        log.append(&payload(number, 16)).unwrap();
    }
    let mut image = log.storage().to_vec();
    // The zeros behind record 6 are lost: record 3 of the first lap shows again.
    let at = RING_START as usize + 128;
    let old = {
        let log = create(64 * 4);
        for number in 1..=4 {
            log.append(&payload(number, 16)).unwrap();
        }
        log.storage().to_vec()
    };
    image[at..at + 128].copy_from_slice(&old[at..at + 128]);
    let log = open(&image, 64 * 4).unwrap();
    assert_eq!(records(&log), [(6, payload(6, 16))]);
}

// Spec: RING-22
#[test]
fn what_was_dropped_once_is_not_reported_again() {
    let (mut image, starts) = six();
    image[starts[5] + 50] ^= 1;
    let log = open(&image, RING).unwrap();
    assert_eq!(log.recovery().torn_bytes, 112);
    let image = log.storage().to_vec();
    assert_eq!(inspect(&image, RING).unwrap().torn_bytes, 0);
    let plan = super::check::plan(&image, RING);
    assert!(
        !plan
            .findings
            .iter()
            .any(|f| matches!(f, Finding::TornTail { .. }))
    );
}

// Spec: RING-64, RING-41
#[test]
fn rot_in_the_last_synced_record_is_damage_once_anything_later_proves_it() {
    let rot = |mut image: Vec<u8>, starts: &[usize]| {
        image[starts[5] + 60] ^= 1;
        image
    };
    // Synced, and nothing since: it cannot be told from a record that a power cut tore.
    let (image, starts) = six();
    let found = inspect(&rot(image, &starts), RING).unwrap();
    assert!(
        matches!(found.end, End::Torn { dropped: 0, .. }),
        "{found:?}"
    );
    assert_eq!(found.records, 5, "no more than the last one");
    // A later record, a checkpoint, and a closing each prove it.
    let proofs: [fn(&super::sample::Log); 2] = [
        |log| assert_eq!(log.append(b"later").unwrap().get(), 7),
        |log| log.checkpoint(coldframe_ring::Sequence::new(1)).unwrap(),
    ];
    for prove in proofs {
        let (image, starts) = six();
        let log = reopened(image);
        prove(&log);
        let image = log.storage().to_vec();
        assert!(inspect(&rot(image, &starts), RING).unwrap().is_corrupt());
    }
    let (image, starts) = six();
    let log = reopened(image);
    let storage = std::sync::Arc::clone(log.storage());
    log.close().unwrap();
    let image = rot(storage.to_vec(), &starts);
    assert!(open(&image, RING).unwrap_err().is_corrupt());
}

fn reopened(image: Vec<u8>) -> super::sample::Log {
    let storage = std::sync::Arc::new(coldframe_storage::MemStorage::from_vec(image));
    let options = coldframe_ring::RingOptions::SYNC_EACH;
    coldframe_ring::RingWal::open(storage, super::sample::region(RING), options).unwrap()
}
