//! The ways round a missing `RENAME_NOREPLACE`, which the file systems of most tests have.
#![allow(clippy::unwrap_used)]

use super::*;
use coldframe_testkit::scratch;

#[test]
fn a_linked_file_has_only_its_new_name() {
    let dir = scratch::on_disk();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    fs::write(&from, b"new").unwrap();
    file_by_link(&from, &to).unwrap();
    assert!(!from.exists());
    assert_eq!(fs::read(&to).unwrap(), b"new");
}

#[test]
fn a_linked_file_takes_no_ones_place() {
    let dir = scratch::on_disk();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    fs::write(&from, b"new").unwrap();
    fs::write(&to, b"old").unwrap();
    let error = file_by_link(&from, &to).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(fs::read(&to).unwrap(), b"old");
    assert!(from.exists());
}

#[test]
fn a_file_renamed_under_the_lock_takes_no_ones_place() {
    let dir = scratch::on_disk();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    fs::write(&from, b"new").unwrap();
    fs::write(&to, b"old").unwrap();
    let error = file_under_lock(&from, &to).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(fs::read(&to).unwrap(), b"old");
    fs::remove_file(&to).unwrap();
    file_under_lock(&from, &to).unwrap();
    assert_eq!(fs::read(&to).unwrap(), b"new");
    // No marker stays.
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn of_many_under_the_lock_one_wins() {
    let dir = scratch::on_disk();
    for round in 0..50 {
        let to = dir.path().join(format!("to-{round}"));
        let won = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|number| {
                    let from = dir.path().join(format!("from-{number}"));
                    fs::write(&from, [number]).unwrap();
                    let to = &to;
                    scope.spawn(move || file_under_lock(&from, to).is_ok())
                })
                .collect();
            threads
                .into_iter()
                .map(|t| t.join().unwrap())
                .filter(|won| *won)
                .count()
        });
        assert_eq!(won, 1);
    }
}

#[test]
fn a_link_that_was_made_twice_is_a_success() {
    // As NFS may answer a request that it was sent again.
    let dir = scratch::on_disk();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    fs::write(&from, b"new").unwrap();
    fs::hard_link(&from, &to).unwrap();
    file_by_link(&from, &to).unwrap();
    assert!(!from.exists());
    assert_eq!(fs::read(&to).unwrap(), b"new");
}

#[test]
fn a_renamed_directory_takes_no_ones_place() {
    let dir = scratch::on_disk();
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
