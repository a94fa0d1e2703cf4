//! What the host shows and the disk may not have.

use std::sync::Arc;

use coldframe_journal::{JournalError, JournalWriter};
use coldframe_storage::MemStorage;
use coldframe_testkit::fault::{EIO, FaultStorage};
use coldframe_testkit::pagecache::PageCacheDisk;

use super::sample::{Other, Writer, note, notes, notes_in, options};

fn writer_on(disk: &PageCacheDisk) -> Writer {
    Writer::open_in(Arc::new(disk.open()), options()).unwrap().0
}

fn left(disk: &PageCacheDisk) -> Vec<u64> {
    let (notes, end) = notes_in(&disk.power_cut(0));
    assert!(end.is_clean(), "{end}");
    notes
}

// Spec: JRNL-21
#[test]
fn a_flush_of_a_journal_that_was_opened_again_after_a_failed_one_is_true() {
    let disk = PageCacheDisk::new(notes(1, false).0);
    let mut writer = writer_on(&disk);
    for number in 1..200 {
        writer.append(&note(number)).unwrap();
    }
    disk.fail_next_sync(EIO, 0);
    writer.flush().unwrap_err();
    assert_eq!(left(&disk), [0]);
    let mut writer = writer_on(&disk);
    let expected: Vec<u64> = (0..200).collect();
    assert_eq!(left(&disk), expected);
    writer.append(&note(200)).unwrap();
    writer.flush().unwrap();
    assert_eq!(left(&disk).len(), 201);
}

// Spec: JRNL-14, JRNL-21
#[test]
fn a_seal_that_only_the_cache_has_is_written_again() {
    let disk = PageCacheDisk::new(notes(3, false).0);
    let writer = writer_on(&disk);
    disk.fail_next_sync(EIO, 0);
    writer.close().unwrap_err();
    let mut writer = writer_on(&disk);
    // In a page of its own: the seal's is not written for its sake.
    for number in 3..200 {
        writer.append(&note(number)).unwrap();
    }
    writer.flush().unwrap();
    assert_eq!(left(&disk).len(), 200);
}

// Spec: JRNL-2, JRNL-21
#[test]
fn a_header_that_only_the_cache_has_is_written_again() {
    let disk = PageCacheDisk::new(Vec::new());
    disk.fail_next_sync(EIO, 0);
    assert!(Writer::create_in(Arc::new(disk.open()), options()).is_err());
    let mut writer = writer_on(&disk);
    assert!(!disk.power_cut(0).is_empty());
    writer.append(&note(7)).unwrap();
    writer.flush().unwrap();
    assert_eq!(left(&disk), [7]);
}

// Spec: JRNL-21
#[test]
fn only_what_is_not_proved_is_written_again() {
    let (bytes, spans) = notes(50, false);
    let last = spans[49].end.get() - spans[49].start.get();
    let storage = Arc::new(FaultStorage::new(MemStorage::from_vec(bytes), &[]));
    let (writer, _) = Writer::open_in(storage.clone(), options()).unwrap();
    assert_eq!(storage.counts().bytes_written, last);
    let end = writer.end().get();
    let seal = writer.close().unwrap().get() - end;
    let bytes = storage.inner().to_vec();
    let storage = Arc::new(FaultStorage::new(MemStorage::from_vec(bytes), &[]));
    let (_, recovered) = Writer::open_in(storage.clone(), options()).unwrap();
    assert!(recovered.sealed);
    assert_eq!(storage.counts().bytes_written, seal);
}

// Spec: JRNL-6, JRNL-21
#[test]
fn joined_parts_are_made_durable_whole() {
    let bytes = [notes(5, true).0, notes(3, false).0].concat();
    let disk = PageCacheDisk::new(Vec::new());
    let file = disk.open();
    coldframe_storage::Storage::write_at(&file, coldframe_units::FileOffset::ZERO, &bytes).unwrap();
    let mut writer = writer_on(&disk);
    writer.append(&note(9)).unwrap();
    writer.flush().unwrap();
    assert_eq!(left(&disk), [0, 1, 2, 3, 4, 0, 1, 2, 9]);
}

// Spec: JRNL-11
#[test]
fn a_journal_of_another_program_is_not_written_to() {
    let mut bytes = notes(5, false).0;
    bytes.truncate(bytes.len() - 3);
    let storage = Arc::new(MemStorage::from_vec(bytes.clone()));
    let refused = JournalWriter::<Other>::open_in(storage.clone(), options());
    assert!(matches!(refused, Err(JournalError::OtherSchema { .. })));
    assert_eq!(storage.to_vec(), bytes);
}
