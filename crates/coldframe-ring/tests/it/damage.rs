//! Damage, hostile and foreign bytes.

use coldframe_ring::{RingError, Salvaged};
use coldframe_testkit::alloc::assert_alloc_bounded;
use coldframe_testkit::hostile::check_bit_flips;
use coldframe_walframe::ring::{Control, RECORD_HEADER_LEN, RING_START, RecordHeader, RecordKind};

use super::sample::{create, inspect, open, payload, records, region};
use coldframe_ring::RingWal;
use coldframe_storage::MemStorage;

const RING: u64 = 512;

fn closed() -> Vec<u8> {
    let log = create(RING);
    for number in 1..=4 {
        log.append(&payload(number, 9 * number as usize)).unwrap();
    }
    let storage = std::sync::Arc::clone(log.storage());
    log.close().unwrap();
    storage.to_vec()
}

// Spec: RING-10, RING-23
// Parity: F60
#[test]
fn every_flipped_bit_is_harmless_or_an_error_with_its_place() {
    let image = closed();
    let sound = records(&open(&image, RING).unwrap());
    // Of the control blocks only what is not empty; all of the ring.
    let head = image[..RING_START as usize].to_vec();
    let check =
        |damaged: &[u8], at: u64| match assert_alloc_bounded(1 << 20, || open(damaged, RING)) {
            Ok(log) => assert_eq!(records(&log), sound),
            Err(RingError::Corrupt { offset, .. }) => assert!(offset.get() <= at, "{offset}"),
            Err(error) => panic!("{error:?}"),
        };
    check_bit_flips(&image[RING_START as usize..], &mut |ring| {
        check(&[&head, ring].concat(), u64::MAX);
    });
    for slot in [0, 4096] {
        check_bit_flips(&image[slot..slot + 128], &mut |block| {
            let mut damaged = image.clone();
            damaged[slot..slot + 128].copy_from_slice(block);
            check(&damaged, u64::MAX);
        });
    }
}

// Spec: RING-23
// Parity: F60
#[test]
fn a_flipped_bit_of_a_record_names_that_record() {
    let image = closed();
    let starts = [0, 64, 144, 224].map(|start| start + RING_START);
    for (start, sequence) in starts.into_iter().zip(1..) {
        let mut damaged = image.clone();
        damaged[start as usize + 50] ^= 0x10;
        let error = open(&damaged, RING).unwrap_err();
        let RingError::Corrupt {
            offset,
            sequence: found,
            ..
        } = error
        else {
            panic!("{error:?}");
        };
        assert_eq!((offset.get(), found.get()), (start, sequence));
    }
}

// Spec: RING-24
#[test]
fn salvage_yields_the_sound_records_on_both_sides() {
    let mut image = closed();
    image[RING_START as usize + 64 + 20] ^= 1;
    let storage = MemStorage::from_vec(image.clone());
    let reader = RingWal::open_read_only(storage, region(RING)).unwrap();
    assert!(reader.recovery().is_corrupt());
    assert_eq!(reader.recovery().records, 1);
    let mut salvage = reader.salvage();
    let (mut kept, mut lost) = (Vec::new(), Vec::new());
    while let Some(item) = salvage.next().unwrap() {
        match item {
            Salvaged::Record(entry) => {
                let number = entry.sequence.get();
                assert_eq!(entry.payload, payload(number, 9 * number as usize));
                kept.push(number);
            }
            Salvaged::Lost {
                offset,
                first,
                count,
            } => {
                lost.push((offset.get() - RING_START, first.get(), count));
            }
        }
    }
    assert_eq!(kept, [1, 3, 4]);
    assert_eq!(lost, [(64, 2, Some(1))]);
}

// Spec: RING-24
#[test]
fn every_flipped_byte_of_an_earlier_record_leaves_the_others_to_salvage() {
    let image = closed();
    for at in RING_START as usize..RING_START as usize + 224 {
        let mut damaged = image.clone();
        damaged[at] ^= 0x10;
        let hit = match at as u64 - RING_START {
            ..64 => 1,
            64..144 => 2,
            _ => 3,
        };
        let reader = RingWal::open_read_only(MemStorage::from_vec(damaged), region(RING)).unwrap();
        let mut salvage = reader.salvage();
        let (mut kept, mut lost) = (Vec::new(), Vec::new());
        while let Some(item) = salvage.next().unwrap() {
            match item {
                Salvaged::Record(entry) => kept.push(entry.sequence.get()),
                Salvaged::Lost { first, count, .. } => lost.push((first.get(), count)),
            }
        }
        let expected: Vec<u64> = (1..=4).filter(|number| *number != hit).collect();
        assert_eq!(
            (kept, lost),
            (expected, vec![(hit, Some(1))]),
            "byte {at:#x}"
        );
    }
}

// Spec: RING-3, RING-4
#[test]
fn foreign_zeroed_and_short_files_are_not_logs() {
    for image in [
        vec![],
        vec![0; 65536],
        vec![0xa5; 65536],
        b"#!/bin/sh\n".repeat(7000),
    ] {
        let error = open(&image, RING).unwrap_err();
        assert!(error.is_foreign() && !error.is_corrupt(), "{error:?}");
    }
    let image = closed();
    let error = open(&image[..image.len() - 1], RING).unwrap_err();
    assert!(matches!(error, RingError::RegionSize { .. }), "{error:?}");
    let error = open(&image, RING - 16).unwrap_err();
    assert!(matches!(error, RingError::RegionSize { .. }), "{error:?}");
}

// Spec: RING-2
#[test]
fn a_log_is_not_created_over_another_one_even_if_that_is_damaged() {
    use coldframe_ring::RingOptions;
    for damage in [0, 1] {
        let mut image = closed();
        image[20] ^= damage;
        image[4096 + 20] ^= damage;
        let storage = MemStorage::from_vec(image.clone());
        let error = RingWal::create(&storage, region(RING), RingOptions::SYNC_EACH).unwrap_err();
        assert!(matches!(error, RingError::Exists { .. }), "{error:?}");
        assert_eq!(storage.to_vec(), image);
    }
}

// Spec: RING-5
// Parity: F64, F65
#[test]
fn one_control_block_is_enough() {
    for (slot, filler) in [(0, 0), (0, 0xff), (4096, 0), (4096, 0xff)] {
        let mut image = closed();
        image[slot..slot + 512].fill(filler);
        let log = open(&image, RING).unwrap();
        assert_eq!(log.pending(), 4);
        // The next opening finds both again.
        let recovery = inspect(&log.storage().to_vec(), RING).unwrap();
        assert_eq!(recovery.slots, [coldframe_ring::SlotState::Current; 2]);
    }
    let mut image = closed();
    image[30] ^= 1;
    image[4096 + 30] ^= 1;
    let error = open(&image, RING).unwrap_err();
    assert!(error.is_corrupt() && !error.is_foreign(), "{error:?}");
}

/// The image of a log with this control block and this ring.
fn image_of(control: &Control, ring: &[u8]) -> Vec<u8> {
    let mut image = vec![0; (RING_START + control.ring_len) as usize];
    for slot in [0, 4096] {
        image[slot..slot + 128].copy_from_slice(&control.encode());
    }
    image[RING_START as usize..][..ring.len()].copy_from_slice(ring);
    image
}

fn control() -> Control {
    Control::decode(&closed()).unwrap()
}

// Spec: RING-35
#[test]
fn sequences_end_before_the_last_number() {
    let mut control = control();
    control.tail_sequence = u64::MAX - 3;
    control.synced_sequence = control.tail_sequence;
    control.resume_sequence = u64::MAX - 2;
    let image = image_of(&control, &[]);
    let log = open(&image, RING).unwrap();
    assert_eq!(log.append(b"last").unwrap().get(), u64::MAX - 2);
    let log = open(&log.storage().to_vec(), RING).unwrap();
    assert_eq!(records(&log), [(u64::MAX - 2, b"last".to_vec())]);
    let error = log.append(b"one more").map(|_| ()).unwrap_err();
    assert!(matches!(error, RingError::Exhausted { .. }), "{error:?}");
    control.tail_sequence = u64::MAX;
    assert!(open(&image_of(&control, &[]), RING).is_err());
    control.tail_sequence = 0;
    control.epoch = u32::MAX;
    assert!(open(&image_of(&control, &[]), RING).is_err());
}

/// A payload for a record at a position of a ring, full of what looks like headers of the next
/// lap: each in order, due, a witness, and as long as the ring allows.
fn headers_of_next_lap(control: &Control, position: u64, len: usize, next: u64) -> Vec<u8> {
    let mut payload = vec![0; len];
    let lap = position.wrapping_add(control.ring_len);
    let first = lap + RECORD_HEADER_LEN;
    for at in (0..len - 48).step_by(48) {
        let place = first + at as u64;
        let header = RecordHeader {
            sequence: next + 1 + at as u64 / 48,
            position: place,
            length: 0,
            epoch: control.epoch,
            unsynced: 1,
            kind: RecordKind::Data,
        };
        let mut bytes = Vec::new();
        header.encode(&control.key(), b"", &mut bytes).unwrap();
        // A guest does not know the key.
        bytes[..16].fill(0x5a);
        let claimed = (len - at - 48) as u32;
        bytes[32..36].copy_from_slice(&claimed.to_le_bytes());
        payload[at..at + 48].copy_from_slice(&bytes);
    }
    payload
}

const HOSTILE_RING: u64 = 1 << 20;

/// A log that was not closed, whose free space is full of such headers, and the start of its last
/// record, number `last`.
fn hostile_log(last: u64) -> (Vec<u8>, usize) {
    let log = create(HOSTILE_RING);
    let control = Control::decode(&log.storage().to_vec()).unwrap();
    let filler = headers_of_next_lap(&control, 0, HOSTILE_RING as usize - 48, last);
    log.append(&filler).unwrap();
    log.checkpoint(log.last_sequence()).unwrap();
    let mut at = 0;
    for number in 2..=last {
        at = log.stats().used.get() as usize;
        log.append(&payload(number, 40)).unwrap();
    }
    (log.storage().to_vec(), RING_START as usize + at)
}

// Spec: RING-22, RING-26
#[test]
fn headers_of_the_next_lap_in_a_payload_do_not_make_a_log_corrupt() {
    let (image, last) = hostile_log(40);
    let log = open(&image, HOSTILE_RING).unwrap();
    assert_eq!(log.last_sequence().get(), 40);
    // A torn end is torn.
    let mut torn = image;
    torn[last + 60] ^= 1;
    let log = open(&torn, HOSTILE_RING).unwrap();
    assert_eq!(log.last_sequence().get(), 39);
    assert!(log.recovery().is_torn());
}

// Spec: RING-23, RING-26
#[test]
fn damage_among_headers_of_the_next_lap_is_still_found() {
    let (image, last) = hostile_log(40);
    let mut damaged = image;
    damaged[last - 96 + 60] ^= 1;
    let error = open(&damaged, HOSTILE_RING).unwrap_err();
    assert!(error.to_string().contains("record 39"), "{error}");
    let found = inspect(&damaged, HOSTILE_RING).unwrap();
    assert!(found.is_corrupt());
    let plan = super::check::plan(&damaged, HOSTILE_RING);
    assert_eq!(plan.records, 38);
}

// Spec: RING-23, RING-26
#[test]
fn damage_before_a_payload_full_of_headers_is_found_by_a_shorter_witness() {
    // The damaged record is followed by one that uses the whole budget of a search.
    let log = create(HOSTILE_RING);
    let control = Control::decode(&log.storage().to_vec()).unwrap();
    log.append(&payload(1, 40)).unwrap();
    let position = 96_u64.wrapping_sub(control.ring_len);
    let hostile = headers_of_next_lap(&control, position, HOSTILE_RING as usize / 2, 2);
    log.append(&hostile).unwrap();
    log.append(&payload(3, 40)).unwrap();
    let mut image = log.storage().to_vec();
    image[RING_START as usize + 96 + 8] ^= 1;
    let error = open(&image, HOSTILE_RING).unwrap_err();
    assert!(error.is_corrupt(), "{error:?}");
    assert!(error.to_string().contains("record 2"), "{error}");
}

// Spec: RING-11, RING-26
#[test]
fn hostile_headers_neither_loop_nor_allocate() {
    let mut control = control();
    control.ring_len = 1 << 20;
    control.closed = false;
    control.synced_sequence = 0;
    let mut ring = Vec::new();
    // Each header is in order, and claims all that is behind it; no digest holds.
    for at in (0..1 << 20).step_by(48) {
        let header = RecordHeader {
            sequence: 2 + at / 48,
            position: at,
            length: 0,
            epoch: control.epoch,
            unsynced: 1,
            kind: RecordKind::Data,
        };
        let start = ring.len();
        header.encode(&control.key(), b"", &mut ring).unwrap();
        let claimed = (1_u32 << 20).saturating_sub(at as u32 + RECORD_HEADER_LEN as u32);
        ring[start + 32..start + 36].copy_from_slice(&claimed.to_le_bytes());
    }
    ring.truncate(1 << 20);
    let image = image_of(&control, &ring);
    let found = assert_alloc_bounded(4 << 20, || inspect(&image, 1 << 20)).unwrap();
    assert_eq!(found.records, 0);
    // What is only claimed proves nothing.
    assert!(!found.is_corrupt(), "{:?}", found.end);
    for length in [u32::MAX, u32::MAX - 47, 1 << 31] {
        let mut image = image_of(&control, &[]);
        let at = RING_START as usize;
        let mut record = Vec::new();
        RecordHeader::data(control.epoch, 1, 0, 0)
            .encode(&control.key(), b"", &mut record)
            .unwrap();
        image[at..at + 48].copy_from_slice(&record);
        image[at + 32..at + 36].copy_from_slice(&length.to_le_bytes());
        let found = assert_alloc_bounded(2 << 20, || inspect(&image, 1 << 20)).unwrap();
        assert_eq!(found.records, 0);
    }
}
