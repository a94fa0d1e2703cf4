//! A directory appears with all its files, or not at all.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use coldframe_storage::{MappedFile, PendingDir, Storage, StorageError};
use coldframe_testkit::scratch;
use coldframe_units::FileOffset;

use crate::{mode, names};

// Parity: D2, F8
#[test]
fn all_files_appear_at_once_and_read_only() {
    let dir = scratch::on_disk();
    let path = dir.path().join("snap");
    let pending = PendingDir::create(&path).unwrap();
    assert_eq!(mode(pending.path()), 0o700);
    for name in ["memory", "state"] {
        let file = pending.file(name).unwrap();
        assert_eq!(mode(file.path()), 0o600);
        file.write_at(FileOffset::ZERO, name.as_bytes()).unwrap();
    }
    assert!(!path.exists());
    assert_eq!(pending.publish().unwrap(), path);
    assert_eq!(names(dir.path()), ["snap"]);
    assert_eq!(names(&path), ["memory", "state"]);
    for name in ["memory", "state"] {
        assert_eq!(mode(&path.join(name)), 0o400);
        let mapped = MappedFile::open_published(&path.join(name)).unwrap();
        assert_eq!(mapped.as_slice(), name.as_bytes());
    }
}

// Parity: F9
#[test]
fn dropped_unpublished_leaves_nothing() {
    let dir = scratch::on_disk();
    let pending = PendingDir::create(&dir.path().join("snap")).unwrap();
    let _still_open = pending.file("memory").unwrap();
    drop(pending);
    assert!(names(dir.path()).is_empty());
}

// Parity: D1
#[test]
fn a_taken_name_is_refused_at_once_and_at_the_rename() {
    let dir = scratch::on_disk();
    for (name, is_dir) in [("directory", true), ("file", false)] {
        let path = dir.path().join(name);
        let late = PendingDir::create(&path).unwrap();
        if is_dir {
            fs::create_dir(&path)
        } else {
            fs::write(&path, b"old")
        }
        .unwrap();
        assert!(PendingDir::create(&path).unwrap_err().is_exists());
        assert!(late.publish().unwrap_err().is_exists());
    }
    assert_eq!(names(dir.path()), ["directory", "file"]);
    assert_eq!(fs::read(dir.path().join("file")).unwrap(), b"old");
    assert!(names(&dir.path().join("directory")).is_empty());
}

#[test]
fn the_second_of_two_savers_is_refused() {
    let dir = scratch::on_disk();
    let path = dir.path().join("snap");
    let (first, second) = (
        PendingDir::create(&path).unwrap(),
        PendingDir::create(&path).unwrap(),
    );
    first.file("one").unwrap();
    second.file("two").unwrap();
    first.publish().unwrap();
    assert!(second.publish().unwrap_err().is_exists());
    assert_eq!(names(dir.path()), ["snap"]);
    assert_eq!(names(&path), ["one"]);
}

#[test]
fn file_names_are_plain_and_unique() {
    let dir = scratch::on_disk();
    let pending = PendingDir::create(&dir.path().join("snap")).unwrap();
    for bad in ["", ".", "..", "a/b", "../x", "/x", "a/"] {
        let error = pending.file(bad).unwrap_err();
        assert!(
            matches!(error, StorageError::BadName { .. }),
            "{bad:?}: {error}"
        );
    }
    pending.file("memory").unwrap();
    assert!(pending.file("memory").unwrap_err().is_exists());
}

#[test]
fn what_is_no_file_is_not_published() {
    let dir = scratch::on_disk();
    let pending = PendingDir::create(&dir.path().join("snap")).unwrap();
    fs::create_dir(pending.path().join("planted")).unwrap();
    let error = pending.publish().unwrap_err();
    assert!(matches!(error, StorageError::NotRegular { .. }), "{error}");
    assert!(names(dir.path()).is_empty());
}

#[test]
fn what_was_left_is_gone_on_with_and_published() {
    let dir = scratch::on_disk();
    let path = dir.path().join("snap");
    let (pending, is_resumed) = PendingDir::resume(&path).unwrap();
    assert!(!is_resumed);
    let file = pending.reopen("memory").unwrap();
    file.write_at(FileOffset::ZERO, b"half").unwrap();
    pending.leave();
    assert_eq!(names(dir.path()).len(), 1);
    assert!(!path.exists());
    let (pending, is_resumed) = PendingDir::resume(&path).unwrap();
    assert!(is_resumed);
    let file = pending.reopen("memory").unwrap();
    file.write_at(FileOffset::new(4), b" and half").unwrap();
    drop(file);
    pending.publish().unwrap();
    assert_eq!(names(dir.path()), ["snap"]);
    assert_eq!(fs::read(path.join("memory")).unwrap(), b"half and half");
    assert_eq!(mode(&path.join("memory")), 0o400);
}

#[test]
fn a_file_that_was_sealed_before_its_owner_died_is_written_on() {
    let dir = scratch::on_disk();
    let path = dir.path().join("snap");
    let (pending, _) = PendingDir::resume(&path).unwrap();
    let sealed = pending.reopen("memory").unwrap().path().to_path_buf();
    fs::set_permissions(&sealed, fs::Permissions::from_mode(0o400)).unwrap();
    pending.leave();
    let (pending, _) = PendingDir::resume(&path).unwrap();
    let file = pending.reopen("memory").unwrap();
    assert_eq!(mode(&sealed), 0o600);
    file.write_at(FileOffset::ZERO, b"x").unwrap();
}

#[test]
fn what_is_held_or_belongs_to_another_name_or_may_be_planted_is_not_gone_on_with() {
    let dir = scratch::on_disk();
    let path = dir.path().join("snap");
    let (held, _) = PendingDir::resume(&path).unwrap();
    let (second, is_resumed) = PendingDir::resume(&path).unwrap();
    assert!(!is_resumed && held.path() != second.path());
    drop((held, second));
    let (other, _) = PendingDir::resume(&dir.path().join("snap.1")).unwrap();
    other.leave();
    let (open, _) = PendingDir::resume(&path).unwrap();
    fs::set_permissions(open.path(), fs::Permissions::from_mode(0o755)).unwrap();
    open.leave();
    let (fresh, is_resumed) = PendingDir::resume(&path).unwrap();
    assert!(!is_resumed);
    assert!(matches!(
        fresh.reopen("../x"),
        Err(StorageError::BadName { .. })
    ));
}
