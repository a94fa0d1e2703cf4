//! Faults come where they were ordered, through every way of writing.

use std::io::IoSlice;

use coldframe_storage::{MemStorage, RawPart, Storage, StorageError};
use coldframe_testkit::fault::{Call, Counts, EIO, ENOSPC, Fault, FaultStorage};
use coldframe_units::{ByteLen, FileOffset};

const AT: fn(u64) -> FileOffset = FileOffset::new;

#[test]
fn the_nth_call_fails_once() {
    for call in [Call::Read, Call::Write, Call::Sync] {
        let storage = FaultStorage::new(MemStorage::from_vec(vec![0; 8]), &[]);
        storage.inject(Fault::Nth {
            call,
            nth: 1,
            errno: EIO,
        });
        let mut failed = Vec::new();
        for _ in 0..3 {
            failed.push(match call {
                Call::Read => storage.read_at(AT(0), &mut [0; 4]).is_err(),
                Call::Write => storage.write_at(AT(0), &[1; 4]).is_err(),
                Call::Sync => storage.sync_data().is_err(),
            });
        }
        assert_eq!(failed, [false, true, false], "{call:?}");
    }
}

#[test]
fn a_full_disk_keeps_what_fitted() {
    let storage = FaultStorage::new(MemStorage::new(), &[Fault::FullAt(AT(6))]);
    storage.write_at(AT(0), b"abcd").unwrap();
    let error = storage.write_at(AT(4), b"efgh").unwrap_err();
    assert!(error.is_out_of_space(), "{error}");
    assert_eq!(storage.inner().to_vec(), b"abcdef");
    assert!(
        storage
            .set_len(ByteLen::new(7))
            .unwrap_err()
            .is_out_of_space()
    );
    storage.heal();
    storage.write_at(AT(4), b"efgh").unwrap();
    let bytes_written = 4 + 2 + 4;
    assert_eq!(
        storage.counts(),
        Counts {
            writes: 3,
            bytes_written,
            ..Counts::default()
        }
    );
}

#[test]
fn raw_and_vectored_writes_fail_too() {
    let storage = FaultStorage::new(MemStorage::new(), &[Fault::FullAt(AT(3))]);
    let raw = storage.write_raw_at(
        AT(0),
        &[RawPart::from(&b"ab"[..]), RawPart::from(&b"cd"[..])],
    );
    assert!(raw.unwrap_err().is_out_of_space());
    let vectored = storage.write_vectored_at(AT(1), &[IoSlice::new(b"ab"), IoSlice::new(b"cd")]);
    assert!(vectored.unwrap_err().is_out_of_space());
    assert_eq!(storage.inner().to_vec(), b"aab");
}

#[test]
fn errno_arrives_as_given() {
    let fault = Fault::Nth {
        call: Call::Write,
        nth: 0,
        errno: ENOSPC,
    };
    let storage = FaultStorage::new(MemStorage::new(), &[fault]);
    match storage.write_at(AT(0), b"a").unwrap_err() {
        StorageError::Write { source, .. } => assert_eq!(source.raw_os_error(), Some(ENOSPC)),
        other => panic!("{other}"),
    }
}

#[test]
fn rot_shows_on_reads_that_cover_it() {
    let rot = Fault::Rot {
        offset: AT(5),
        mask: 0x80,
    };
    let storage = FaultStorage::new(MemStorage::from_vec(vec![0; 8]), &[rot]);
    let mut buf = [0; 4];
    storage.read_at(AT(0), &mut buf).unwrap();
    assert_eq!(buf, [0; 4]);
    storage.read_at(AT(4), &mut buf).unwrap();
    assert_eq!(buf, [0, 0x80, 0, 0]);
    storage.read_at(AT(6), &mut buf[..2]).unwrap();
    assert_eq!(buf[..2], [0; 2]);
}
