//! The ways round a missing `RENAME_NOREPLACE`, which the file systems of most tests have.
#![allow(clippy::unwrap_used)]

use super::*;

#[test]
fn a_linked_file_has_only_its_new_name() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    fs::write(&from, b"new").unwrap();
    file_by_link(&from, &to).unwrap();
    assert!(!from.exists());
    assert_eq!(fs::read(&to).unwrap(), b"new");
}

#[test]
fn a_linked_file_takes_no_ones_place() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    fs::write(&from, b"new").unwrap();
    fs::write(&to, b"old").unwrap();
    let error = file_by_link(&from, &to).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(fs::read(&to).unwrap(), b"old");
    assert!(from.exists());
}

#[test]
fn a_renamed_directory_takes_no_ones_place() {
    let dir = tempfile::tempdir().unwrap();
    let from = dir.path().join("from");
    fs::create_dir(&from).unwrap();
    fs::write(from.join("memory"), b"new").unwrap();
    let (full, file) = (dir.path().join("full"), dir.path().join("file"));
    fs::create_dir(&full).unwrap();
    fs::write(full.join("old"), b"old").unwrap();
    fs::write(&file, b"old").unwrap();
    for taken in [&full, &file] {
        let error = directory_by_rename(&from, taken).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    }
    directory_by_rename(&from, &dir.path().join("to")).unwrap();
    assert_eq!(fs::read(dir.path().join("to/memory")).unwrap(), b"new");
}
