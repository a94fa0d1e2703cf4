//! Mapped and plain reading give the same bytes and the same errors.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use coldframe_storage::{
    ByteSource, FileStorage, MappedFile, MemStorage, Overwrite, PendingFile, PreadSource, Storage,
    StorageError,
};
use coldframe_testkit::scratch;
use coldframe_units::{ByteLen, FileOffset};

const AT: fn(u64) -> FileOffset = FileOffset::new;
const LEN: fn(u64) -> ByteLen = ByteLen::new;

fn publish(dir: &Path, bytes: &[u8]) -> PathBuf {
    let pending = PendingFile::create(&dir.join("x"), Overwrite::Refuse).unwrap();
    pending.write_at(AT(0), bytes).unwrap();
    pending.publish().unwrap().path().to_path_buf()
}

/// Runs `check` on a mapping, a file and memory that all hold `bytes`.
#[track_caller]
fn on_all(bytes: &[u8], check: fn(&dyn ByteSource)) {
    let dir = scratch::on_disk();
    let path = publish(dir.path(), bytes);
    check(&MappedFile::open_published(&path).unwrap());
    check(&Arc::new(MappedFile::open_published(&path).unwrap()));
    check(&PreadSource::open(&path).unwrap());
    check(&PreadSource::new(MemStorage::from_vec(bytes.to_vec())).unwrap());
}

// Parity: F69
#[test]
fn ranges_are_the_bytes_of_the_file() {
    on_all(b"abcdef", |source| {
        assert_eq!(source.len(), LEN(6));
        assert!(!source.is_empty());
        assert_eq!(&source.bytes(AT(0), LEN(6)).unwrap()[..], b"abcdef");
        assert_eq!(&source.bytes(AT(2), LEN(3)).unwrap()[..], b"cde");
        assert_eq!(&source.bytes(AT(6), LEN(0)).unwrap()[..], b"");
    });
}

// Parity: F69
#[test]
fn an_empty_file_has_empty_bytes() {
    on_all(b"", |source| {
        assert!(source.is_empty());
        assert!(source.bytes(AT(0), LEN(0)).unwrap().is_empty());
        assert!(source.bytes(AT(0), LEN(1)).unwrap_err().is_unexpected_end());
    });
}

#[test]
fn a_range_past_the_end_says_what_is_there() {
    on_all(b"abcd", |source| {
        for (offset, len, expected) in
            [(0, 5, 4), (3, 2, 1), (4, 1, 0), (99, 1, 0), (0, 1 << 62, 4)]
        {
            match source.bytes(AT(offset), LEN(len)).unwrap_err() {
                StorageError::UnexpectedEnd {
                    offset: at,
                    need,
                    have,
                    ..
                } => {
                    assert_eq!((at.get(), need.get(), have.get()), (offset, len, expected));
                }
                other => panic!("{other}"),
            }
        }
    });
}

// Parity: D77, F69
#[test]
fn ranges_that_wrap_around_are_out_of_bounds() {
    on_all(b"abcd", |source| {
        let most = u64::MAX;
        for (offset, len) in [
            (most, 1),
            (most, most),
            (1, most),
            (most - 3, 4),
            (1 << 63, 1),
        ] {
            let error = source.bytes(AT(offset), LEN(len)).unwrap_err();
            assert!(matches!(error, StorageError::OutOfBounds { .. }), "{error}");
        }
    });
}

// Parity: F69
#[test]
fn bytes_outlive_the_mapped_file_and_its_name() {
    let dir = scratch::on_disk();
    let mapped = MappedFile::open_published(&publish(dir.path(), b"abcdef")).unwrap();
    let (start, word) = (
        mapped.as_slice().as_ptr(),
        mapped.bytes(AT(1), LEN(3)).unwrap(),
    );
    assert_eq!(word.as_ptr(), start.wrapping_add(1), "not a copy");
    drop(mapped);
    drop(dir);
    assert_eq!(&word[..], b"bcd");
    assert_eq!(&word.slice(1..)[..], b"cd");
}

// Parity: D77
#[test]
fn a_writable_file_is_not_mapped() {
    let dir = scratch::on_disk();
    let path = publish(dir.path(), b"abc");
    for bad in [0o600, 0o420, 0o402] {
        fs::set_permissions(&path, Permissions::from_mode(bad)).unwrap();
        match MappedFile::open_published(&path).unwrap_err() {
            StorageError::NotReadOnly { mode, .. } => assert_eq!(mode, bad),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn only_regular_files_are_mapped() {
    let dir = scratch::on_disk();
    let path = publish(dir.path(), b"abc");
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let error = MappedFile::open_published(&link).unwrap_err();
    assert!(matches!(error, StorageError::Open { .. }), "{error}");
    let error = MappedFile::open_published(dir.path()).unwrap_err();
    assert!(matches!(error, StorageError::NotRegular { .. }), "{error}");
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
    let error = MappedFile::open_published(&fifo).unwrap_err();
    assert!(matches!(error, StorageError::NotRegular { .. }), "{error}");
}

#[test]
#[allow(unsafe_code)]
fn a_writable_file_is_mapped_on_the_callers_word() {
    let dir = scratch::on_disk();
    let path = dir.path().join("x");
    FileStorage::create(&path)
        .unwrap()
        .write_at(AT(0), b"abc")
        .unwrap();
    // SAFETY: nobody else knows of this file.
    let mapped = unsafe { MappedFile::map_unchecked(File::open(&path).unwrap(), &path) }.unwrap();
    assert_eq!(mapped.as_slice(), b"abc");
    assert_eq!(mapped.path(), path);
    assert_eq!(mapped.file().metadata().unwrap().len(), 3);
}

// Parity: D77, F13, F69
#[test]
fn a_file_cut_short_under_plain_reading_is_an_error() {
    let dir = scratch::on_disk();
    let path = dir.path().join("x");
    let writer = FileStorage::create(&path).unwrap();
    writer.write_at(AT(0), b"abcdef").unwrap();
    let source = PreadSource::open(&path).unwrap();
    writer.set_len(LEN(4)).unwrap();
    assert_eq!(&source.bytes(AT(0), LEN(4)).unwrap()[..], b"abcd");
    match source.bytes(AT(2), LEN(4)).unwrap_err() {
        StorageError::UnexpectedEnd { have, .. } => assert_eq!(have, LEN(2)),
        other => panic!("{other}"),
    }
}
