//! Each defect of the predecessors that a ring can have, by its number in `xtask/parity.md`.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use coldframe_ring::{RingError, RingWal};
use coldframe_ring::{RingOptions, Sequence};
use coldframe_storage::{FileStorage, MemStorage, Storage};
use coldframe_testkit::child;
use coldframe_testkit::crash::CrashStorage;
use coldframe_walframe::ring::RING_START;

use super::sample::{create, inspect, open, payload, records, region};

// Spec: RING-13, RING-30
// Parity: D54, F58
#[test]
fn d54_records_that_leave_few_bytes_free_are_kept() {
    for ring in (160..400).step_by(16) {
        let log = create(ring);
        let mut expected = Vec::new();
        while let Ok(sequence) = log.append(&payload(expected.len() as u64, 64)) {
            expected.push((sequence.get(), payload(expected.len() as u64, 64)));
        }
        assert_eq!(records(&log), expected);
        assert_eq!(
            records(&open(&log.storage().to_vec(), ring).unwrap()),
            expected
        );
    }
}

// Spec: RING-13
// Parity: D55, F58
#[test]
fn d55_a_ring_that_is_filled_exactly_keeps_its_records() {
    let log = create(256);
    for number in 1..=4 {
        log.append(&payload(number, 16)).unwrap();
    }
    log.checkpoint(Sequence::new(1)).unwrap();
    log.append(&payload(5, 16)).unwrap();
    assert_eq!(log.stats().used, log.stats().ring);
    let numbers = |found: Vec<(u64, Vec<u8>)>| found.iter().map(|r| r.0).collect::<Vec<_>>();
    let again = open(&log.storage().to_vec(), 256).unwrap();
    assert_eq!(numbers(records(&again)), [2, 3, 4, 5]);
    let twice = open(&again.storage().to_vec(), 256).unwrap();
    assert_eq!(numbers(records(&twice)), [2, 3, 4, 5]);
}

// Spec: RING-22
// Parity: D56
#[test]
fn d56_a_torn_last_record_does_not_close_the_log() {
    let log = create(1024);
    log.append(b"good").unwrap();
    log.append(&payload(2, 200)).unwrap();
    let mut image = log.storage().to_vec();
    let torn = RING_START as usize + 64;
    image[torn + 100..torn + 200].fill(0);
    let log = open(&image, 1024).unwrap();
    assert_eq!(records(&log), [(1, b"good".to_vec())]);
    assert_eq!(log.recovery().torn_bytes, 256);
    assert_eq!(log.append(b"more").unwrap().get(), 2);
}

// Spec: RING-12, RING-13
// Parity: D57
#[test]
fn d57_a_lost_end_mark_after_a_wrap_brings_no_old_record_back() {
    let log = create(64 * 4);
    for number in 1..=5 {
        log.append(&payload(number, 16)).unwrap_or_else(|_| {
            log.checkpoint(Sequence::new(number - 1)).unwrap();
            log.append(&payload(number, 16)).unwrap()
        });
    }
    let before = {
        let log = create(64 * 4);
        for number in 1..=4 {
            log.append(&payload(number, 16)).unwrap();
        }
        log.storage().to_vec()
    };
    let mut image = log.storage().to_vec();
    let mark = RING_START as usize + 64;
    image[mark..mark + 48].copy_from_slice(&before[mark..mark + 48]);
    let found = records(&open(&image, 64 * 4).unwrap());
    assert_eq!(found, [(5, payload(5, 16))]);
}

// Spec: RING-10
// Parity: D58
#[test]
fn d58_a_flipped_sequence_or_length_is_never_believed() {
    let log = create(1024);
    log.append(b"one").unwrap();
    log.append(b"two").unwrap();
    let image = log.storage().to_vec();
    for byte in 0..48 {
        for bit in 0..8 {
            let mut damaged = image.clone();
            damaged[RING_START as usize + byte] ^= 1 << bit;
            let error = open(&damaged, 1024).unwrap_err();
            assert!(error.is_corrupt(), "byte {byte}: {error:?}");
        }
    }
}

// Spec: RING-30
// Parity: D59, F61
#[test]
fn d59_an_empty_payload_is_a_record() {
    let log = create(256);
    for _ in 0..3 {
        log.append(b"").unwrap();
    }
    let found = records(&open(&log.storage().to_vec(), 256).unwrap());
    assert_eq!(found, [(1, vec![]), (2, vec![]), (3, vec![])]);
}

// Spec: RING-13, RING-32
// Parity: D60
#[test]
fn d60_the_ring_wraps_with_records_pending_and_full_is_an_error_of_its_own() {
    let log = create(320);
    for number in 1..=5 {
        log.append(&payload(number, 16)).unwrap();
    }
    assert!(log.append(b"x").unwrap_err().is_full());
    log.checkpoint(Sequence::new(2)).unwrap();
    log.append(&payload(6, 40)).unwrap();
    let found = records(&open(&log.storage().to_vec(), 320).unwrap());
    assert_eq!(found.len(), 4);
    assert_eq!(found[3], (6, payload(6, 40)));
}

// Spec: RING-21, RING-34
// Parity: D61
#[test]
fn d61_listing_writes_nothing_and_copies_nothing() {
    use coldframe_testkit::alloc::alloc_peak;
    let storage = Arc::new(CrashStorage::new(Vec::new()));
    let options = RingOptions::ON_DEMAND;
    let log = RingWal::create(Arc::clone(&storage), region(4 << 20), options).unwrap();
    for number in 0..3000 {
        log.append(&payload(number, 1000)).unwrap();
    }
    let before = storage.operations();
    let (count, peak) = alloc_peak(|| records_counted(&log));
    assert_eq!((count, storage.operations()), (3000, before));
    assert!(peak < 1 << 19, "{peak} bytes for 3 MB of records");
    let (reader, _) = alloc_peak(|| RingWal::open_read_only(&storage, region(4 << 20)).unwrap());
    assert_eq!(
        (reader.recovery().records, storage.operations()),
        (3000, before)
    );
}

fn records_counted<S: Storage>(log: &RingWal<S>) -> usize {
    let mut records = log.records_after(Sequence::ZERO);
    let mut count = 0;
    while records.next().unwrap().is_some() {
        count += 1;
    }
    count
}

// Spec: RING-70
// Parity: D62
#[test]
fn d62_the_lock_stays_with_the_log_when_another_file_takes_its_name() {
    let dir = coldframe_testkit::scratch::on_disk();
    let (path, aside) = (dir.path().join("log"), dir.path().join("aside"));
    let make = |path: &Path| {
        let storage = FileStorage::create(path).unwrap();
        RingWal::create(storage, region(4096), RingOptions::SYNC_EACH).unwrap()
    };
    let open = |path: &Path| {
        let storage = FileStorage::open(path).unwrap();
        RingWal::open(storage, region(4096), RingOptions::SYNC_EACH).map(|_| ())
    };
    let log = make(&path);
    log.append(b"before").unwrap();
    std::fs::rename(&path, &aside).unwrap();
    let other = make(&path);
    assert!(open(&aside).unwrap_err().is_locked());
    assert!(open(&path).unwrap_err().is_locked());
    log.append(b"behind").unwrap();
    drop(log);
    open(&aside).unwrap();
    assert!(open(&path).unwrap_err().is_locked());
    drop(other);
    // Reading needs no permission to write, and writes nothing.
    let image = std::fs::read(&aside).unwrap();
    let reader = FileStorage::open_read_only(&aside).unwrap();
    let reader = RingWal::open_read_only(reader, region(4096)).unwrap();
    assert_eq!(reader.recovery().records, 2);
    assert!(std::fs::read(&aside).unwrap() == image);
}

// Spec: RING-60, RING-61
// Parity: D63
#[test]
fn d63_a_plan_is_made_with_records_pending_and_writes_nothing() {
    let log = create(1024);
    log.append(b"pending").unwrap();
    let found = super::check::plan(&log.storage().to_vec(), 1024);
    assert_eq!(found.records, 1);
}

// Spec: RING-31
// Parity: D64
#[test]
fn d64_on_demand_is_crash_safe_and_costs_no_copy_of_the_log() {
    let storage = Arc::new(CrashStorage::new(Vec::new()));
    let options = RingOptions::ON_DEMAND;
    let log = RingWal::create(Arc::clone(&storage), region(65536), options).unwrap();
    let before = storage.operations();
    for _ in 0..10 {
        log.append(&[1; 100]).unwrap();
    }
    log.sync().unwrap();
    assert_eq!(storage.operations() - before, 11);
}

const INNER: &str = "COLDFRAME_TEST_HOLD_THE_LOG";

/// Appends to the log, says so, and holds it until it is killed.
fn hold(path: &Path) -> ! {
    let storage = FileStorage::open(path).unwrap();
    let log = RingWal::open(storage, region(4096), RingOptions::SYNC_EACH).unwrap();
    log.append(b"left behind").unwrap();
    println!("held");
    std::io::stdout().flush().unwrap();
    loop {
        std::thread::park();
    }
}

// Spec: RING-70, RING-71
// Parity: D65, F66
#[test]
fn d65_the_lock_of_a_killed_process_is_free_at_once_and_its_owner_was_known() {
    if let Some(path) = std::env::var_os(INNER) {
        hold(Path::new(&path));
    }
    let dir = coldframe_testkit::scratch::on_disk();
    let path = dir.path().join("log");
    let storage = FileStorage::create(&path).unwrap();
    let options = RingOptions::SYNC_EACH;
    RingWal::create(storage, region(4096), options)
        .unwrap()
        .close()
        .unwrap();
    let name = "predecessor::\
                d65_the_lock_of_a_killed_process_is_free_at_once_and_its_owner_was_known";
    let mut child = child::command(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", name])
        .env(INNER, &path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let held = lines
        .map_while(Result::ok)
        .find(|line| line.ends_with("held"));
    let open = || RingWal::open(FileStorage::open(&path).unwrap(), region(4096), options);
    let refused = open().map(|_| ());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(held.is_some());
    let Err(RingError::Locked { owner: Some(owner) }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(owner.pid, child.id());
    let log = open().unwrap();
    assert_eq!(log.recovery().left_by, Some(owner));
    assert_eq!(records(&log), [(1, b"left behind".to_vec())]);
    // No file beside the log: nothing that could be left over.
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

// Spec: RING-22, RING-26
// Parity: D66
#[test]
fn d66_a_tail_with_a_wrong_checksum_or_length_is_torn_and_not_fatal() {
    let log = create(1024);
    log.append(b"good").unwrap();
    log.append(b"tail").unwrap();
    let image = log.storage().to_vec();
    let tail = RING_START as usize + 64;
    for (at, value) in [(0, 0xff), (32, 0), (32, 0xff), (35, 0xff), (48, 0xff)] {
        let mut torn = image.clone();
        torn[tail + at] = value;
        assert_eq!(inspect(&torn, 1024).unwrap().records, 1);
        assert_eq!(open(&torn, 1024).unwrap().pending(), 1);
    }
}

// Spec: RING-32
// Parity: D60, F62
#[test]
fn full_is_told_by_kind_and_not_by_text() {
    let log = create(64);
    log.append(b"x").unwrap();
    assert!(matches!(log.append(b"y"), Err(RingError::Full { .. })));
    assert_eq!(MemStorage::new().len().unwrap().get(), 0);
}
