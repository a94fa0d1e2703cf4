//! Check and repair.

use coldframe_ring::{Finding, Plan, RingError, RingWal};
use coldframe_storage::MemStorage;
use coldframe_walframe::ring::RING_START;

use super::sample::{create, inspect, open, payload, records, region};

const RING: u64 = 1024;

pub fn plan(image: &[u8], ring: u64) -> Plan {
    let storage = MemStorage::from_vec(image.to_vec());
    let reader = RingWal::open_read_only(&storage, region(ring)).unwrap();
    let plan = reader.check().unwrap();
    drop(reader);
    assert_eq!(storage.to_vec(), image, "a plan writes nothing");
    plan
}

/// Eight records of 64 bytes, closed.
fn eight() -> Vec<u8> {
    let log = create(RING);
    for number in 1..=8 {
        log.append(&payload(number, 16)).unwrap();
    }
    let storage = std::sync::Arc::clone(log.storage());
    log.close().unwrap();
    storage.to_vec()
}

fn at(record: u64, byte: u64) -> usize {
    (RING_START + (record - 1) * 64 + byte) as usize
}

fn repair(image: Vec<u8>) -> Vec<u8> {
    let found = plan(&image, RING);
    let storage = MemStorage::from_vec(image);
    RingWal::repair(&storage, region(RING), &found).unwrap();
    storage.to_vec()
}

// Spec: RING-60
#[test]
fn a_sound_log_has_no_findings() {
    let found = plan(&eight(), RING);
    assert!(found.is_sound() && found.findings.is_empty());
    assert_eq!(found.records, 8);
}

// Spec: RING-61, RING-62
// Parity: D56, F67
#[test]
fn repair_keeps_every_sound_record_around_damage() {
    // Damage in the middle, twice, of neighbours, and at the end of a closed log.
    for damaged in [
        vec![3],
        vec![2, 5],
        vec![4, 5, 6],
        vec![1],
        vec![8],
        vec![7, 8],
    ] {
        let mut image = eight();
        for record in &damaged {
            image[at(*record, 20)] ^= 4;
        }
        assert!(open(&image, RING).unwrap_err().is_corrupt());
        let found = plan(&image, RING);
        assert!(found.findings.iter().all(Finding::is_damage));
        assert_eq!(found.records as usize, 8 - damaged.len());
        let log = open(&repair(image), RING).unwrap();
        let kept: Vec<u64> = records(&log).iter().map(|(number, _)| *number).collect();
        let expected: Vec<u64> = (1..=8).filter(|number| !damaged.contains(number)).collect();
        assert_eq!(kept, expected);
        assert_eq!(log.recovery().lost_records as usize, damaged.len());
        // Lost numbers are never given out again, and checkpoints go over them.
        assert_eq!(log.append(b"next").unwrap().get(), 9);
        log.checkpoint(coldframe_ring::Sequence::new(damaged[0]))
            .unwrap();
        let image = log.storage().to_vec();
        let again = open(&image, RING).unwrap();
        assert_eq!(records(&again).last().unwrap().0, 9);
        let left = expected
            .iter()
            .filter(|number| **number > damaged[0])
            .count()
            + 1;
        assert_eq!(records(&again).len(), left, "damaged {damaged:?}");
    }
}

// Spec: RING-60
#[test]
fn a_damaged_control_block_is_found_and_written_anew() {
    let mut image = eight();
    image[4096 + 50] ^= 1;
    let found = plan(&image, RING);
    assert!(!found.is_sound());
    assert_eq!(found.findings[0].code(), "control-slot");
    let repaired = repair(image);
    assert!(plan(&repaired, RING).is_sound());
}

// Spec: RING-60
#[test]
fn a_torn_tail_is_a_finding_and_no_damage() {
    let log = create(RING);
    log.append(b"whole").unwrap();
    log.append(b"torn").unwrap();
    let mut image = log.storage().to_vec();
    image[at(2, 50)] ^= 1;
    let found = plan(&image, RING);
    assert!(found.is_sound());
    assert!(matches!(
        found.findings[..],
        [Finding::TornTail { bytes: 64, .. }]
    ));
    assert_eq!(inspect(&image, RING).unwrap().records, 1);
}

// Spec: RING-61
// Parity: F67
#[test]
fn an_outdated_plan_is_refused() {
    let mut image = eight();
    image[at(3, 20)] ^= 4;
    let found = plan(&image, RING);
    image[at(5, 20)] ^= 4;
    let storage = MemStorage::from_vec(image.clone());
    let error = RingWal::repair(&storage, region(RING), &found).unwrap_err();
    assert!(matches!(error, RingError::PlanOutdated));
    assert_eq!(storage.to_vec(), image);
}

// Spec: RING-61
// Parity: F65, F67
#[test]
fn a_crash_during_a_repair_loses_nothing_more() {
    use coldframe_testkit::crash::{CrashStorage, SECTOR_512};
    let mut image = eight();
    image[at(3, 20)] ^= 4;
    let found = plan(&image, RING);
    let storage = CrashStorage::new(image);
    RingWal::repair(&storage, region(RING), &found).unwrap();
    for moment in 0..=storage.operations() {
        for state in storage.crash_states_at(moment, SECTOR_512, 5, 200) {
            assert_eq!(plan(&state, RING).records, 7);
            assert_eq!(records(&open(&repair(state), RING).unwrap()).len(), 7);
        }
    }
}
