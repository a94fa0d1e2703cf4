//! Stretches of the file that the host cannot read: readers go on around them, writers refuse.

use std::sync::Arc;

use coldframe_ring::RingOptions;
use coldframe_ring::{Finding, RingError, RingReader, RingWal, Salvaged, SlotState};
use coldframe_storage::{MemStorage, Unreadable};
use coldframe_testkit::fault::{EIO, Fault, FaultStorage};
use coldframe_units::FileOffset;
use coldframe_walframe::ring::RING_START;

use super::sample::{payload, records, region};

const RING: u64 = 16 << 10;
/// Bytes of a record with its header: two sectors.
const RECORD: u64 = 1024;
const COUNT: u64 = 8;

type Faulty = FaultStorage<MemStorage>;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Left {
    /// Each record was synced, so each says that the one before was durable.
    Synced,
    /// None was.
    Unsynced,
    Closed,
}

const LEFT: [Left; 3] = [Left::Synced, Left::Unsynced, Left::Closed];

fn log(left: Left) -> Vec<u8> {
    let options = match left {
        Left::Unsynced => RingOptions::ON_DEMAND,
        _ => RingOptions::SYNC_EACH,
    };
    let log = RingWal::create(Arc::new(MemStorage::new()), region(RING), options).unwrap();
    for number in 1..=COUNT {
        log.append(&payload(number, RECORD as usize - 48)).unwrap();
    }
    let storage = Arc::clone(log.storage());
    if left == Left::Closed {
        log.close().unwrap();
    }
    storage.to_vec()
}

fn faulty(image: &[u8], offset: u64, len: u64) -> Faulty {
    let offset = FileOffset::new(offset);
    let fault = Fault::Unreadable { offset, len };
    FaultStorage::new(MemStorage::from_vec(image.to_vec()), &[fault])
}

fn read(image: &[u8], offset: u64, len: u64) -> RingReader<Faulty> {
    RingWal::open_read_only(faulty(image, offset, len), region(RING)).unwrap()
}

/// The numbers of the records that are left, and what is lost between them.
fn salvage(reader: &RingReader<Faulty>) -> (Vec<u64>, Vec<(u64, Option<u64>)>) {
    let (mut kept, mut lost) = (Vec::new(), Vec::new());
    let mut salvage = reader.salvage();
    while let Some(found) = salvage.next().unwrap() {
        match found {
            Salvaged::Record(entry) => {
                let number = entry.sequence.get();
                assert_eq!(entry.payload, payload(number, RECORD as usize - 48));
                kept.push(number);
            }
            Salvaged::Lost { first, count, .. } => lost.push((first.get(), count)),
        }
    }
    (kept, lost)
}

const fn start(number: u64) -> u64 {
    RING_START + (number - 1) * RECORD
}

// Spec: RING-63
#[test]
fn the_records_on_both_sides_are_found_and_the_stretch_is_named() {
    for left in LEFT {
        let image = log(left);
        for bad in 1..=COUNT {
            for sector in 0..2 {
                let offset = start(bad) + sector * 512;
                let reader = read(&image, offset, 512);
                let (kept, lost) = salvage(&reader);
                let expected: Vec<u64> = (1..=COUNT).filter(|number| *number != bad).collect();
                assert_eq!(kept, expected, "{left:?} {bad} {sector}");
                let count = (bad < COUNT || left == Left::Closed).then_some(1);
                assert_eq!(lost, [(bad, count)], "{left:?} {bad} {sector}");
                let plan = reader.check().unwrap();
                assert_eq!(plan.records, COUNT - 1);
                let stretch = Unreadable {
                    offset: FileOffset::new(offset),
                    len: coldframe_units::ByteLen::new(512),
                    errno: Some(EIO),
                };
                assert!(plan.findings.contains(&Finding::Unreadable(stretch)));
                let damage = |finding: &&Finding| matches!(finding, Finding::Damage { .. });
                assert_eq!(plan.findings.iter().filter(damage).count(), 1);
                assert!(reader.recovery().is_corrupt(), "never a torn tail");
            }
        }
    }
}

// Spec: RING-63
#[test]
fn a_long_stretch_costs_only_the_records_in_it_and_few_reads() {
    let image = log(Left::Synced);
    let reader = read(&image, start(3) + 100, 3 * RECORD);
    assert_eq!(salvage(&reader).0, [1, 2, 7, 8]);
    assert_eq!(salvage(&reader).1, [(3, Some(4))]);
    // All of the ring: nothing is known, and it is not tried byte by byte.
    let storage = Arc::new(faulty(&image, RING_START, RING));
    let reader = RingWal::open_read_only(Arc::clone(&storage), region(RING)).unwrap();
    assert!(reader.recovery().is_corrupt());
    let plan = reader.check().unwrap();
    assert_eq!(plan.records, 0);
    assert!(storage.counts().reads < 64, "{:?}", storage.counts());
}

// Spec: RING-63
#[test]
fn free_space_that_cannot_be_read_is_named_and_costs_no_record() {
    let image = log(Left::Synced);
    let reader = read(&image, start(COUNT + 3), 512);
    let (kept, lost) = salvage(&reader);
    assert_eq!((kept.len(), lost), (COUNT as usize, vec![]));
    let plan = reader.check().unwrap();
    assert!(matches!(plan.findings[..], [Finding::Unreadable(_)]));
    assert!(plan.findings[0].is_damage());
}

// Spec: RING-63
#[test]
fn one_control_block_is_enough_and_without_both_it_is_no_foreign_file() {
    let image = log(Left::Closed);
    for slot in [0, 4096] {
        let reader = read(&image, slot, 512);
        assert_eq!(salvage(&reader).0.len(), COUNT as usize);
        let slots = reader.recovery().slots;
        assert!(
            slots
                .iter()
                .any(|slot| matches!(slot, SlotState::Damaged(_)))
        );
    }
    let opened = RingWal::open_read_only(faulty(&image, 0, 8192), region(RING));
    assert!(matches!(opened.unwrap_err(), RingError::Read { .. }));
}

// Spec: RING-20, RING-63
#[test]
fn no_writer_takes_such_a_log_and_no_repair_gives_up_what_another_host_may_read() {
    let image = log(Left::Synced);
    for bad in [1, 4, COUNT] {
        let opened = RingWal::open(
            faulty(&image, start(bad), 512),
            region(RING),
            RingOptions::ON_DEMAND,
        );
        assert!(matches!(opened.unwrap_err(), RingError::Read { .. }));
        let plan = read(&image, start(bad), 512).check().unwrap();
        assert!(!plan.is_repairable());
        let storage = Arc::new(faulty(&image, start(bad), 512));
        let refused = RingWal::repair(Arc::clone(&storage), region(RING), &plan);
        assert!(matches!(refused, Err(RingError::NotRepairable { .. })));
        assert_eq!(storage.inner().to_vec(), image, "nothing is written");
        // By name it is given up, and then a disk that can be written to has a sound log.
        let plan = plan.giving_up_unreadable();
        RingWal::repair(Arc::clone(&storage), region(RING), &plan).unwrap();
        storage.heal();
        let log = RingWal::open(storage, region(RING), RingOptions::ON_DEMAND).unwrap();
        assert_eq!(records(&log).len() as u64, COUNT - 1);
        assert!(log.recovery().lost_records >= 1);
    }
}
