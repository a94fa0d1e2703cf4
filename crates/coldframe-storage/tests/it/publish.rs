//! A file under its final name is whole, durable, read-only, and took nobody's place unasked.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use coldframe_storage::{Overwrite, PendingFile, Storage, StorageError, rename_new};
use coldframe_testkit::child;
use coldframe_testkit::scratch;
use coldframe_units::FileOffset;

use crate::{mode, names};

fn pending(path: &Path, overwrite: Overwrite, bytes: &[u8]) -> PendingFile {
    let pending = PendingFile::create(path, overwrite).unwrap();
    pending.write_at(FileOffset::ZERO, bytes).unwrap();
    pending
}

// Parity: D5, D39, F7
#[test]
fn nothing_has_the_final_name_before_publish() {
    let dir = scratch::on_disk();
    let path = dir.path().join("x.snap");
    let file = pending(&path, Overwrite::Refuse, b"abc");
    assert!(!path.exists());
    assert_eq!(mode(file.path()), 0o600);
    assert_eq!(
        file.path().parent(),
        Some(dir.path()),
        "a rename must not cross file systems"
    );
    assert_eq!(file.publish().unwrap().path(), path);
    assert_eq!(names(dir.path()), ["x.snap"]);
    assert_eq!(fs::read(&path).unwrap(), b"abc");
    assert_eq!(mode(&path), 0o400);
}

#[test]
fn dropped_unpublished_leaves_nothing() {
    let dir = scratch::on_disk();
    drop(pending(&dir.path().join("x"), Overwrite::Refuse, b"abc"));
    assert!(names(dir.path()).is_empty());
}

#[test]
fn a_taken_name_is_refused_at_once() {
    let dir = scratch::on_disk();
    let path = dir.path().join("x");
    fs::write(&path, b"old").unwrap();
    let error = PendingFile::create(&path, Overwrite::Refuse).unwrap_err();
    assert!(error.is_exists(), "{error}");
    assert_eq!(names(dir.path()), ["x"]);
    assert_eq!(fs::read(&path).unwrap(), b"old");
}

#[test]
fn the_second_of_two_savers_is_refused() {
    let dir = scratch::on_disk();
    let path = dir.path().join("x");
    let (first, second) = (
        pending(&path, Overwrite::Refuse, b"first"),
        pending(&path, Overwrite::Refuse, b"second"),
    );
    first.publish().unwrap();
    let error = second.publish().unwrap_err();
    assert!(error.is_exists(), "{error}");
    assert_eq!(names(dir.path()), ["x"]);
    assert_eq!(fs::read(&path).unwrap(), b"first");
}

// Parity: D7
#[test]
fn of_many_savers_at_once_exactly_one_wins() {
    let dir = scratch::on_disk();
    let path = dir.path().join("x");
    let files: Vec<_> = (0..8_u8)
        .map(|n| pending(&path, Overwrite::Refuse, &[n]))
        .collect();
    let won: usize = std::thread::scope(|scope| {
        let publish = |file: PendingFile| usize::from(file.publish().is_ok());
        let savers: Vec<_> = files
            .into_iter()
            .map(|file| scope.spawn(move || publish(file)))
            .collect();
        savers.into_iter().map(|saver| saver.join().unwrap()).sum()
    });
    assert_eq!(won, 1);
    assert_eq!(names(dir.path()), ["x"]);
}

// Parity: F7
#[test]
fn replacing_is_done_only_when_told_to() {
    let dir = scratch::on_disk();
    let path = dir.path().join("x");
    pending(&path, Overwrite::Refuse, b"old").publish().unwrap();
    let old = fs::File::open(&path).unwrap();
    pending(&path, Overwrite::Replace, b"new")
        .publish()
        .unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert_eq!(
        std::io::read_to_string(old).unwrap(),
        "old",
        "readers keep what they opened"
    );
}

// Parity: D7
#[test]
fn a_planted_link_is_not_followed() {
    let dir = scratch::on_disk();
    let (path, victim) = (dir.path().join("x"), dir.path().join("victim"));
    fs::write(&victim, b"precious").unwrap();
    symlink(&victim, &path).unwrap();
    assert!(
        PendingFile::create(&path, Overwrite::Refuse)
            .unwrap_err()
            .is_exists()
    );
    let late = dir.path().join("late");
    let file = pending(&late, Overwrite::Refuse, b"new");
    symlink(&victim, &late).unwrap();
    assert!(file.publish().unwrap_err().is_exists());
    pending(&path, Overwrite::Replace, b"new")
        .publish()
        .unwrap();
    assert!(fs::symlink_metadata(&path).unwrap().is_file());
    assert_eq!(fs::read(&victim).unwrap(), b"precious");
}

#[test]
fn a_dangling_link_counts_as_taken() {
    let dir = scratch::on_disk();
    let path = dir.path().join("x");
    symlink(dir.path().join("nowhere"), &path).unwrap();
    assert!(
        PendingFile::create(&path, Overwrite::Refuse)
            .unwrap_err()
            .is_exists()
    );
}

// Parity: D7
#[test]
fn temporary_names_do_not_collide() {
    let dir = scratch::on_disk();
    let path = dir.path().join("x");
    let files: Vec<_> = (0..50)
        .map(|_| pending(&path, Overwrite::Refuse, b"a"))
        .collect();
    assert_eq!(names(dir.path()).len(), 50);
    drop(files);
    assert!(names(dir.path()).is_empty());
}

#[test]
fn the_longest_name_works() {
    let dir = scratch::on_disk();
    let path = dir.path().join("n".repeat(255));
    pending(&path, Overwrite::Refuse, b"a").publish().unwrap();
    assert!(path.exists());
}

#[test]
fn paths_that_name_no_file_are_refused() {
    for bad in [
        "",
        "/",
        "..",
        "a/..",
        "a/",
        ".",
        "a/.x.1-0123456789abcdef.tmp",
    ] {
        let error = PendingFile::create(Path::new(bad), Overwrite::Refuse).unwrap_err();
        assert!(
            matches!(error, StorageError::BadName { .. }),
            "{bad:?}: {error}"
        );
    }
}

#[test]
fn a_missing_directory_is_an_error() {
    let dir = scratch::on_disk();
    let error = PendingFile::create(&dir.path().join("no/x"), Overwrite::Refuse).unwrap_err();
    assert!(error.is_not_found(), "{error}");
}

#[test]
fn a_directory_under_the_final_name_is_not_replaced() {
    let dir = scratch::on_disk();
    let path = dir.path().join("x");
    fs::create_dir(&path).unwrap();
    let error = pending(&path, Overwrite::Replace, b"a")
        .publish()
        .unwrap_err();
    assert!(matches!(error, StorageError::Rename { .. }), "{error}");
    assert_eq!(names(dir.path()), ["x"]);
}

/// The working directory belongs to the whole process: this runs in one of its own.
// Parity: D4, F24
#[test]
fn a_bare_name_works() {
    const INNER: &str = "COLDFRAME_TEST_BARE_NAME";
    if std::env::var_os(INNER).is_some() {
        let file = pending(Path::new("bare.snap"), Overwrite::Refuse, b"abc");
        // A later change of directory does no harm.
        std::env::set_current_dir("/").unwrap();
        file.publish().unwrap();
        return;
    }
    let dir = scratch::on_disk();
    let status = child::command(std::env::current_exe().unwrap())
        .args(["--exact", "publish::a_bare_name_works"])
        .current_dir(dir.path())
        .env(INNER, "1")
        .status()
        .unwrap();
    assert!(status.success());
    assert_eq!(names(dir.path()), ["bare.snap"]);
}

// Parity: F7
#[test]
fn an_error_in_publish_leaves_nothing() {
    let dir = scratch::on_disk();
    let inner: PathBuf = dir.path().join("inner");
    fs::create_dir(&inner).unwrap();
    let file = pending(&inner.join("x"), Overwrite::Refuse, b"abc");
    fs::rename(&inner, dir.path().join("moved")).unwrap();
    assert!(file.publish().unwrap_err().is_not_found());
    assert!(!inner.exists());
}

#[test]
fn a_file_gets_another_name_and_replaces_nothing() {
    let dir = scratch::on_disk();
    let [from, taken, to] = ["from", "taken", "to"].map(|name| dir.path().join(name));
    fs::write(&from, b"a").unwrap();
    fs::write(&taken, b"b").unwrap();
    let error = rename_new(&from, &taken).unwrap_err();
    assert!(matches!(error, StorageError::Exists { .. }), "{error}");
    assert_eq!(fs::read(&taken).unwrap(), b"b");
    rename_new(&from, &to).unwrap();
    assert_eq!(names(dir.path()), ["taken", "to"]);
    assert!(rename_new(&from, &to).unwrap_err().is_not_found());
    assert_eq!(fs::read(&to).unwrap(), b"a");
}
