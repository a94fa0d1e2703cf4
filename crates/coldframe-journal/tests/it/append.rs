//! Appending, reading back, and going on after a reopen.

use std::sync::Arc;

use bytes::Bytes;
use coldframe_journal::{Batch, Durability, End, JournalError, JournalReader, JournalWriter, Next};
use coldframe_storage::{MemStorage, Storage, StorageError};
use coldframe_testkit::fault::{Call, EIO, Fault, FaultStorage};
use coldframe_units::{ByteLen, FileOffset};

use super::sample::{
    All, Blob, Note, Tick, Writer, fresh, note, notes, notes_in, options, read_notes, reader_of,
    reopen,
};

// Spec: JRNL-1, JRNL-8
// Parity: D52, F43
#[test]
fn entries_come_back_in_order_with_their_spans() {
    let (bytes, spans) = notes(5, false);
    let mut reader = reader_of::<All>(&bytes);
    for (at, span) in spans.iter().enumerate() {
        let Next::Entry(entry) = reader.read().unwrap() else {
            panic!("entry {at} is missing");
        };
        assert_eq!((entry.span(), entry.record()), (*span, *span));
        let archived = entry.archived::<Note>().unwrap();
        assert_eq!(archived.at, at as u64);
        assert!(entry.archived::<Blob>().is_err());
    }
    let Next::End(End::Clean { offset, sealed }) = reader.read().unwrap() else {
        panic!("not clean");
    };
    assert_eq!((offset, sealed), (spans[4].end, false));
    assert_eq!(offset.get(), bytes.len() as u64);
}

// Spec: JRNL-14
// Parity: F43, F65
#[test]
fn closed_journal_says_so_and_can_be_continued() {
    let (bytes, _) = notes(3, true);
    assert!(matches!(
        notes_in(&bytes).1,
        End::Clean { sealed: true, .. }
    ));
    let (storage, mut writer, torn) = reopen(&bytes).unwrap();
    assert_eq!((torn, writer.entries()), (0, 3));
    writer.append(&note(3)).unwrap();
    writer.flush().unwrap();
    let (found, end) = notes_in(&storage.to_vec());
    assert_eq!(found, [0, 1, 2, 3]);
    assert!(matches!(end, End::Clean { sealed: false, .. }));
}

// Spec: JRNL-9
#[test]
fn payloads_are_borrowed_from_the_buffer() {
    let (bytes, _) = notes(4, true);
    let mut aligned = rkyv::util::AlignedVec::<16>::new();
    aligned.extend_from_slice(&bytes);
    let bytes = Bytes::from_owner(aligned);
    let range = bytes.as_ptr_range();
    let mut reader = JournalReader::<All>::from_bytes(bytes.clone());
    while let Next::Entry(entry) = reader.read().unwrap() {
        assert!(range.contains(&entry.payload().as_ptr()));
        assert!(entry.payload().as_ptr().addr().is_multiple_of(16));
        let archived = entry.archived::<Note>().unwrap();
        assert!(range.contains(&std::ptr::from_ref(archived).cast()));
    }
}

// Spec: JRNL-9
// Parity: D43
#[test]
fn unaligned_buffer_reads_the_same() {
    let (bytes, _) = notes(4, true);
    for shift in 0..16 {
        let shifted: Vec<u8> = std::iter::repeat_n(0, shift).chain(bytes.clone()).collect();
        let shifted = Bytes::from(shifted).slice(shift..);
        let mut reader = JournalReader::<All>::from_bytes(shifted);
        assert_eq!(read_notes(&mut reader).0, [0, 1, 2, 3]);
    }
}

// Spec: JRNL-1
#[test]
fn entries_of_any_size_come_back() {
    let (storage, mut writer) = fresh();
    let sizes = [
        0,
        1,
        15,
        16,
        17,
        511,
        4096,
        (1 << 20) - 40,
        1 << 20,
        3 << 20,
    ];
    for size in sizes {
        let bytes = vec![size as u8; size];
        writer.append(&Blob { bytes }).unwrap();
        writer.append(&Tick).unwrap();
    }
    writer.flush().unwrap();
    let mut reader = reader_of::<All>(&storage.to_vec());
    for size in sizes {
        let Next::Entry(entry) = reader.read().unwrap() else {
            panic!("blob of {size} bytes is missing");
        };
        let blob = entry.archived::<Blob>().unwrap();
        assert_eq!(blob.bytes.len(), size);
        assert!(blob.bytes.iter().all(|byte| *byte == size as u8));
        let Next::Entry(entry) = reader.read().unwrap() else {
            panic!("tick after {size} is missing");
        };
        entry.archived::<Tick>().unwrap();
    }
    assert!(matches!(
        reader.read().unwrap(),
        Next::End(End::Clean { .. })
    ));
}

// Spec: JRNL-10
#[test]
fn batch_reads_as_its_entries() {
    let (storage, mut writer) = fresh();
    writer.append(&note(0)).unwrap();
    let mut batch = Batch::new();
    for at in 1..4 {
        batch.push(&note(at)).unwrap();
    }
    batch.push(&Tick).unwrap();
    let record = writer.commit(&batch).unwrap();
    let spans: Vec<_> = batch.spans(record).collect();
    writer.append(&note(4)).unwrap();
    writer.flush().unwrap();
    assert_eq!(writer.entries(), 6);
    let mut reader = reader_of::<All>(&storage.to_vec());
    let mut seen = Vec::new();
    while let Next::Entry(entry) = reader.read().unwrap() {
        if entry.record() == record {
            seen.push(entry.span());
        }
    }
    assert_eq!(seen, spans);
    assert_eq!(notes_in(&storage.to_vec()).0, [0, 1, 2, 3, 4]);
}

// Spec: JRNL-15
#[test]
fn zeros_ahead_are_no_records_and_are_given_back_on_close() {
    let storage = Arc::new(MemStorage::new());
    let mut options = options();
    options.preallocate = ByteLen::new(4096);
    options.durability = Durability::Each;
    let mut writer = Writer::create_in(storage.clone(), options).unwrap();
    for at in 0..100 {
        writer.append(&note(at)).unwrap();
        assert_eq!(writer.durable(), writer.end());
    }
    let bytes = storage.to_vec();
    assert!(bytes.len() as u64 > writer.end().get());
    assert_eq!(notes_in(&bytes).0.len(), 100);
    let (again, mut writer, torn) = reopen(&bytes).unwrap();
    assert_eq!(torn, 0);
    writer.append(&note(100)).unwrap();
    assert_eq!(notes_in(&again.to_vec()).0.len(), 101);
    let end = writer.close().unwrap();
    assert_eq!(again.to_vec().len() as u64, end.get());
    assert_eq!(notes_in(&again.to_vec()).0.len(), 101);
}

// Spec: JRNL-16
// Parity: F46
#[test]
fn append_is_one_write_and_a_flush_one_sync() {
    let storage = Arc::new(FaultStorage::new(MemStorage::new(), &[]));
    let mut writer = Writer::create_in(storage.clone(), options()).unwrap();
    let before = storage.counts();
    writer.append(&note(7)).unwrap();
    writer.flush().unwrap();
    writer.flush().unwrap();
    let after = storage.counts();
    assert_eq!(after.writes - before.writes, 1);
    assert_eq!(after.syncs - before.syncs, 1);
}

// Spec: JRNL-16
// Parity: F46
#[test]
fn failed_sync_closes_the_journal_to_writers() {
    let storage = Arc::new(FaultStorage::new(MemStorage::new(), &[]));
    let mut writer = Writer::create_in(storage.clone(), options()).unwrap();
    writer.append(&note(0)).unwrap();
    writer.flush().unwrap();
    let durable = writer.durable();
    writer.append(&note(1)).unwrap();
    let nth = storage.counts().syncs;
    storage.inject(Fault::Nth {
        call: Call::Sync,
        nth,
        errno: EIO,
    });
    assert!(matches!(writer.flush(), Err(JournalError::Storage { .. })));
    for _ in 0..2 {
        assert!(matches!(writer.flush(), Err(JournalError::Poisoned { .. })));
        assert!(matches!(
            writer.append(&note(2)),
            Err(JournalError::Poisoned { .. })
        ));
    }
    assert_eq!(writer.durable(), durable);
}

// Spec: JRNL-12
// Parity: D44, F49, F66
#[test]
fn two_writers_are_refused_and_a_reader_is_not() {
    let dir = coldframe_testkit::scratch::on_disk();
    let path = dir.path().join("journal");
    let mut writer = Writer::create(&path, options()).unwrap();
    writer.append(&note(0)).unwrap();
    let error = Writer::open(&path, options()).err().unwrap();
    assert!(error.is_locked(), "{error}");
    let mut reader = JournalReader::<All>::open(&path).unwrap();
    assert_eq!(read_notes(&mut reader).0, [0]);
    drop(writer);
    let (mut writer, recovered) = Writer::open(&path, options()).unwrap();
    assert_eq!(recovered.entries, 1);
    writer.append(&note(1)).unwrap();
    // A view stays as it is until it is refreshed.
    assert!(matches!(
        reader.read().unwrap(),
        Next::End(End::Clean { .. })
    ));
    reader.refresh().unwrap();
    assert_eq!(read_notes(&mut reader).0, [1]);
    reader.restart().unwrap();
    assert_eq!(read_notes(&mut reader).0, [0, 1]);
}

// Spec: JRNL-16
// Parity: D42
#[test]
fn append_that_failed_can_be_repeated() {
    for fit in 0..200 {
        let storage = Arc::new(FaultStorage::new(MemStorage::new(), &[]));
        let mut writer = Writer::create_in(storage.clone(), options()).unwrap();
        writer.append(&note(0)).unwrap();
        let end = writer.end();
        storage.inject(Fault::FullAt(FileOffset::new(end.get() + fit)));
        let big = Blob {
            bytes: vec![7; 300],
        };
        assert!(writer.append(&big).is_err());
        assert_eq!(writer.end(), end);
        storage.heal();
        writer.append(&note(1)).unwrap();
        writer.flush().unwrap();
        let mut bytes = vec![0; storage.len().unwrap().get() as usize];
        storage.read_at(FileOffset::ZERO, &mut bytes).unwrap();
        let (found, end) = notes_in(&bytes);
        assert_eq!(found, [0, 1]);
        assert!(end.is_clean(), "{end}");
    }
}

// Parity: F68
#[test]
fn too_long_an_entry_is_refused_with_both_lengths() {
    let storage = Arc::new(MemStorage::new());
    let mut options = options();
    options.record_max = ByteLen::new(100);
    let mut writer = JournalWriter::<All>::create_in(storage, options).unwrap();
    let bytes = vec![0; 200];
    let error = writer.append(&Blob { bytes }).unwrap_err();
    assert!(matches!(
        error,
        JournalError::TooLong { len: 208, max: 100 }
    ));
    writer.append(&Tick).unwrap();
}

// Spec: JRNL-1
#[test]
fn what_is_no_regular_file_is_refused_and_not_waited_for() {
    let dir = coldframe_testkit::scratch::on_disk();
    let fifo = dir.path().join("fifo");
    coldframe_testkit::scratch::make_fifo(&fifo);
    let null = std::path::PathBuf::from("/dev/null");
    for path in [null, dir.path().to_path_buf(), fifo] {
        let not_regular = |error: JournalError| {
            let JournalError::Storage { source } = error else {
                return false;
            };
            matches!(source, StorageError::NotRegular { .. })
        };
        let read = JournalReader::<All>::open(&path).map(|_| ()).unwrap_err();
        assert!(not_regular(read), "{}", path.display());
        let written = Writer::open(&path, options()).map(|_| ()).unwrap_err();
        assert!(not_regular(written), "{}", path.display());
    }
}
