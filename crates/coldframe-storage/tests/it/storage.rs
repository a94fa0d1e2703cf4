//! What files and memory have in common, and where the range ends.

use std::fs;
use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;

use coldframe_storage::{FileStorage, MemStorage, RawPart, Storage, StorageError};
use coldframe_testkit::require::skipped;
use coldframe_testkit::scratch;
use coldframe_units::{ByteLen, FileOffset};

const AT: fn(u64) -> FileOffset = FileOffset::new;

/// Runs `check` on a file and on memory.
#[track_caller]
fn on_both(check: fn(&dyn Storage)) {
    let dir = scratch::on_disk();
    check(&FileStorage::create(&dir.path().join("x")).unwrap());
    check(&MemStorage::new());
    check(&Arc::new(MemStorage::new()));
}

fn all(storage: &dyn Storage) -> Vec<u8> {
    let mut bytes = vec![0; storage.len().unwrap().get() as usize];
    storage.read_at(AT(0), &mut bytes).unwrap();
    bytes
}

#[test]
fn reads_find_what_was_written() {
    on_both(|storage| {
        assert!(storage.is_empty().unwrap());
        storage.write_at(AT(2), b"cd").unwrap();
        storage.write_at(AT(0), b"ab").unwrap();
        storage.sync_data().unwrap();
        assert_eq!(all(storage), b"abcd");
        assert!(!storage.is_empty().unwrap());
    });
}

#[test]
fn a_gap_and_a_longer_length_read_as_zeros() {
    on_both(|storage| {
        storage.write_at(AT(3), b"d").unwrap();
        storage.set_len(ByteLen::new(6)).unwrap();
        assert_eq!(all(storage), b"\0\0\0d\0\0");
        storage.set_len(ByteLen::new(2)).unwrap();
        storage.set_len(ByteLen::new(4)).unwrap();
        assert_eq!(all(storage), [0; 4], "what was cut off does not come back");
    });
}

// Parity: D27, F38
#[test]
fn a_short_read_says_what_is_there() {
    on_both(|storage| {
        storage.write_at(AT(0), b"abcd").unwrap();
        for (offset, expected) in [(1, 3), (4, 0), (9, 0), (i64::MAX as u64 - 8, 0)] {
            let error = storage.read_at(AT(offset), &mut [0; 5]).unwrap_err();
            assert!(error.is_unexpected_end(), "{error}");
            match error {
                StorageError::UnexpectedEnd {
                    offset: at,
                    need,
                    have,
                    ..
                } => {
                    assert_eq!((at.get(), need.get(), have.get()), (offset, 5, expected));
                }
                other => panic!("{other}"),
            }
        }
    });
}

#[test]
fn ranges_past_the_largest_offset_are_out_of_bounds() {
    on_both(|storage| {
        for offset in [i64::MAX as u64, i64::MAX as u64 + 1, u64::MAX - 1, u64::MAX] {
            let parts = [RawPart::from(&b"ab"[..])];
            let slices = [IoSlice::new(b"a"), IoSlice::new(b"b")];
            for result in [
                storage.read_at(AT(offset), &mut [0; 2]),
                storage.write_at(AT(offset), b"ab"),
                storage.write_raw_at(AT(offset), &parts),
                storage.write_vectored_at(AT(offset), &slices),
            ] {
                let error = result.unwrap_err();
                assert!(matches!(error, StorageError::OutOfBounds { .. }), "{error}");
            }
        }
        let error = storage.set_len(ByteLen::new(u64::MAX)).unwrap_err();
        assert!(matches!(error, StorageError::OutOfBounds { .. }), "{error}");
        assert!(storage.is_empty().unwrap());
    });
}

#[test]
fn nothing_read_or_written_is_fine_anywhere() {
    on_both(|storage| {
        storage.read_at(AT(77), &mut []).unwrap();
        storage.write_at(AT(77), &[]).unwrap();
        storage.write_raw_at(AT(77), &[]).unwrap();
        storage
            .write_raw_at(AT(77), &[RawPart::from(&[][..]); 3])
            .unwrap();
        storage.write_vectored_at(AT(77), &[]).unwrap();
        assert!(storage.is_empty().unwrap());
    });
}

#[test]
fn more_parts_than_one_call_takes_are_all_written() {
    on_both(|storage| {
        let bytes: Vec<u8> = (0..5000_u32).flat_map(u32::to_le_bytes).collect();
        // Parts of 0 to 12 bytes, over 3,000 of them.
        let (mut parts, mut rest) = (Vec::new(), &bytes[..]);
        while !rest.is_empty() {
            let (part, others) = rest.split_at((parts.len() % 13).min(rest.len()));
            parts.push(part);
            rest = others;
        }
        assert!(parts.len() > 3000);
        let raw: Vec<RawPart<'_>> = parts.iter().map(|part| RawPart::from(*part)).collect();
        storage.write_raw_at(AT(5), &raw).unwrap();
        assert_eq!(&all(storage)[5..], bytes);
        storage.set_len(ByteLen::ZERO).unwrap();
        let slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        storage.write_vectored_at(AT(5), &slices).unwrap();
        assert_eq!(&all(storage)[5..], bytes);
    });
}

#[test]
fn parts_larger_than_the_buffer_are_written_whole() {
    on_both(|storage| {
        let bytes: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
        let (front, back) = bytes.split_at(700_001);
        storage
            .write_raw_at(AT(1), &[RawPart::from(front), RawPart::from(back)])
            .unwrap();
        assert_eq!(&all(storage)[1..], bytes);
    });
}

#[test]
fn memory_that_cannot_grow_is_an_error() {
    let storage = MemStorage::new();
    assert!(storage.set_len(ByteLen::new(1 << 62)).is_err());
    assert!(storage.write_at(AT(1 << 62), b"a").is_err());
    assert!(storage.is_empty().unwrap());
}

// Parity: F23
#[test]
fn a_new_file_is_private_and_takes_no_others_place() {
    let dir = scratch::on_disk();
    let path = dir.path().join("x");
    let storage = FileStorage::create(&path).unwrap();
    assert_eq!(crate::mode(&path), 0o600);
    assert_eq!(storage.path(), path);
    assert!(FileStorage::create(&path).unwrap_err().is_exists());
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(dir.path().join("elsewhere"), &link).unwrap();
    assert!(FileStorage::create(&link).unwrap_err().is_exists());
    assert!(!dir.path().join("elsewhere").exists());
}

#[test]
fn a_read_only_file_refuses_writes() {
    let dir = scratch::on_disk();
    let path = dir.path().join("x");
    FileStorage::create(&path)
        .unwrap()
        .write_at(AT(0), b"ab")
        .unwrap();
    let storage = FileStorage::open_read_only(&path).unwrap();
    let parts = [RawPart::from(&b"z"[..])];
    for result in [
        storage.write_at(AT(0), b"z"),
        storage.write_raw_at(AT(0), &parts),
    ] {
        assert!(matches!(result, Err(StorageError::Write { .. })));
    }
    assert_eq!(all(&storage), b"ab");
    let storage = FileStorage::open(&path).unwrap();
    storage.write_at(AT(1), b"B").unwrap();
    assert_eq!(all(&storage), b"aB");
}

#[test]
fn the_host_refusing_a_write_is_seen_on_every_way() {
    let full = Path::new("/dev/full");
    if !full.exists() {
        skipped("dev-full", "no /dev/full");
        return;
    }
    // A device: it is opened here, since a storage does not open one.
    let opened = fs::OpenOptions::new().read(true).write(true).open(full);
    let storage = FileStorage::from_file(opened.unwrap(), full);
    let parts = [RawPart::from(&b"z"[..])];
    for result in [
        storage.write_at(AT(0), b"z"),
        storage.write_raw_at(AT(0), &parts),
    ] {
        assert!(result.unwrap_err().is_out_of_space());
    }
}
