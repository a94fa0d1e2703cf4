//! Real files: locks, owners, reading without writing.

use coldframe_ring::{Finding, RingError};
use coldframe_ring::{Region, RingOptions, RingWal};
use coldframe_storage::{FileStorage, Storage};
use coldframe_units::{ByteLen, FileOffset};

use super::sample::{records, region};

const OPTIONS: RingOptions = RingOptions::SYNC_EACH;

// Spec: RING-70, RING-71
// Parity: F66
#[test]
fn a_second_writer_is_refused_and_told_who_has_the_log() {
    let dir = coldframe_testkit::scratch::on_disk();
    let path = dir.path().join("log");
    let log = RingWal::create(FileStorage::create(&path).unwrap(), region(4096), OPTIONS).unwrap();
    let error = RingWal::open(FileStorage::open(&path).unwrap(), region(4096), OPTIONS);
    let error = error.map(|_| ()).unwrap_err();
    let RingError::Locked { owner: Some(owner) } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(owner.pid, std::process::id());
    assert!(error.to_string().contains("by process"), "{error}");
    let reader = RingWal::open_read_only(FileStorage::open(&path).unwrap(), region(4096));
    assert!(reader.unwrap_err().is_locked());
    // A rename does not lose the lock.
    let moved = dir.path().join("moved");
    std::fs::rename(&path, &moved).unwrap();
    let again = RingWal::open(FileStorage::open(&moved).unwrap(), region(4096), OPTIONS);
    assert!(again.map(|_| ()).unwrap_err().is_locked());
    log.close().unwrap();
    let log = RingWal::open(FileStorage::open(&moved).unwrap(), region(4096), OPTIONS).unwrap();
    assert_eq!(log.recovery().left_by, None);
}

// Spec: RING-70
// Parity: F66
#[test]
fn readers_share_and_keep_writers_out() {
    let dir = coldframe_testkit::scratch::on_disk();
    let path = dir.path().join("log");
    RingWal::create(FileStorage::create(&path).unwrap(), region(4096), OPTIONS)
        .unwrap()
        .close()
        .unwrap();
    let open =
        || RingWal::open_read_only(FileStorage::open_read_only(&path).unwrap(), region(4096));
    let (first, second) = (open().unwrap(), open().unwrap());
    let writer = || RingWal::open(FileStorage::open(&path).unwrap(), region(4096), OPTIONS);
    assert!(writer().map(|_| ()).unwrap_err().is_locked());
    drop((first, second));
    assert!(writer().is_ok());
}

// Spec: RING-71
// Parity: D65
#[test]
fn the_log_of_a_dead_owner_is_taken_over_and_the_owner_named() {
    let dir = coldframe_testkit::scratch::on_disk();
    let path = dir.path().join("log");
    let storage = FileStorage::create(&path).unwrap();
    let log = RingWal::create(storage, region(4096), OPTIONS).unwrap();
    log.append(b"left behind").unwrap();
    // As if the process were gone: the host takes the lock back, the note stays.
    drop(log);
    let log = RingWal::open(FileStorage::open(&path).unwrap(), region(4096), OPTIONS).unwrap();
    let owner = log.recovery().left_by.clone().unwrap();
    assert_eq!(owner.pid, std::process::id());
    assert_eq!(records(&log), [(1, b"left behind".to_vec())]);
    drop(log);
    let reader = RingWal::open_read_only(FileStorage::open(&path).unwrap(), region(4096)).unwrap();
    let plan = reader.check().unwrap();
    assert!(plan.is_sound());
    assert_eq!(plan.findings, [Finding::NotClosed { owner }]);
    assert_eq!(plan.findings[0].code(), "not-closed");
}

// Spec: RING-21
// Parity: D62
#[test]
fn opening_read_only_changes_no_byte_and_needs_no_write_permission() {
    let dir = coldframe_testkit::scratch::on_disk();
    let path = dir.path().join("log");
    let log = RingWal::create(FileStorage::create(&path).unwrap(), region(4096), OPTIONS).unwrap();
    log.append(b"x").unwrap();
    drop(log);
    let mut image = std::fs::read(&path).unwrap();
    image[8192 + 50] ^= 1; // torn
    std::fs::write(&path, &image).unwrap();
    let storage = FileStorage::open_read_only(&path).unwrap();
    let reader = RingWal::open_read_only(storage, region(4096)).unwrap();
    assert!(reader.recovery().is_torn());
    reader.check().unwrap();
    assert!(std::fs::read(&path).unwrap() == image);
}

// Spec: RING-1
#[test]
fn a_log_keeps_to_its_region_of_a_file() {
    let dir = coldframe_testkit::scratch::on_disk();
    let path = dir.path().join("image");
    std::fs::write(&path, vec![0xcc; 64 * 1024]).unwrap();
    let region = Region::new(FileOffset::new(8192), ByteLen::new(16384)).unwrap();
    let log = RingWal::create(FileStorage::open(&path).unwrap(), region, OPTIONS).unwrap();
    for number in 0..100 {
        let sequence = log.append(&[number; 200]).unwrap();
        log.checkpoint(sequence).unwrap();
    }
    assert_eq!(log.storage().len().unwrap(), ByteLen::new(64 * 1024));
    log.close().unwrap();
    let image = std::fs::read(&path).unwrap();
    assert!(image[..8192].iter().all(|byte| *byte == 0xcc));
    assert!(image[8192 + 16384..].iter().all(|byte| *byte == 0xcc));
}

// Spec: RING-1, RING-3
#[test]
fn a_file_that_is_too_short_for_any_log_is_foreign_and_says_so() {
    for len in [0, 8, 8239] {
        let error = Region::whole(ByteLen::new(len)).unwrap_err();
        assert!(error.is_foreign() && !error.is_corrupt());
        assert!(
            error.to_string().contains(&format!("has {len} bytes")),
            "{error}"
        );
    }
    assert_eq!(
        Region::whole(ByteLen::new(8250)).unwrap().size().get(),
        8240
    );
}

// Spec: RING-72
#[test]
fn a_note_stays_until_it_is_replaced_and_no_record_depends_on_it() {
    use coldframe_ring::NOTE_LEN_MAX;
    let log = super::sample::create(2048);
    assert_eq!(log.note(), None);
    log.append(b"kept").unwrap();
    for note in [&b"first"[..], b"", &[7; NOTE_LEN_MAX], b"last"] {
        log.set_note(note).unwrap();
        assert_eq!(log.note().as_deref(), Some(note));
    }
    let long = log.set_note(&[0; NOTE_LEN_MAX + 1]);
    assert!(matches!(long, Err(RingError::TooLong { .. })));
    let image = log.storage().to_vec();
    // The bytes that every release reads.
    assert_eq!(image[1024..1032], *b"CFWNOTE\0");
    assert_eq!(image[1032..1040], [4, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(image[1040..1048], blake3::hash(b"last").as_bytes()[..8]);
    assert_eq!(image[1048..1052], *b"last");
    let again = super::sample::open(&image, 2048).unwrap();
    assert_eq!(again.note().as_deref(), Some(&b"last"[..]));
    drop(again);
    for at in 1024..1024 + 24 + 4 {
        let mut damaged = image.clone();
        damaged[at] ^= 1;
        let log = super::sample::open(&damaged, 2048).unwrap();
        assert_eq!(log.note(), None, "{at}");
        assert_eq!(super::sample::records(&log), [(1, b"kept".to_vec())]);
    }
}
