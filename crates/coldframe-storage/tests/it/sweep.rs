//! Orphans go, the living stay, and nothing else is touched.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

use coldframe_storage::{Overwrite, PendingDir, PendingFile, Storage, sweep_stale};

use crate::names;

/// A name of the kind that a process which died would have left.
const ORPHAN: &str = ".x.snap.4194304-0123456789abcdef.tmp";

#[test]
fn orphans_are_removed_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(ORPHAN);
    let tree = dir.path().join(".y.1-00000000000000ff.tmp");
    fs::write(&file, b"half").unwrap();
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("memory"), b"half").unwrap();
    assert_eq!(sweep_stale(dir.path()).unwrap(), [file, tree]);
    assert!(names(dir.path()).is_empty());
    assert!(sweep_stale(dir.path()).unwrap().is_empty());
}

#[test]
fn the_living_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = PendingFile::create(&dir.path().join("x"), Overwrite::Refuse).unwrap();
    let tree = PendingDir::create(&dir.path().join("y")).unwrap();
    tree.file("memory").unwrap();
    assert!(sweep_stale(dir.path()).unwrap().is_empty());
    assert!(file.path().exists());
    file.publish().unwrap();
    tree.publish().unwrap();
    assert!(sweep_stale(dir.path()).unwrap().is_empty());
    assert_eq!(names(dir.path()), ["x", "y"]);
}

#[test]
fn other_names_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let others = [
        "x.1-0123456789abcdef.tmp",
        ".x.1-0123456789abcde.tmp",
        ".x.1-0123456789abcdeg.tmp",
        ".x.1-0123456789abcdef.tmp.bak",
        ".x.-0123456789abcdef.tmp",
        ".x.1a-0123456789abcdef.tmp",
        ".1-0123456789abcdef.tmp",
        ".tmp",
        "..tmp",
    ];
    for name in others {
        fs::write(dir.path().join(name), b"").unwrap();
    }
    assert!(sweep_stale(dir.path()).unwrap().is_empty());
    assert_eq!(names(dir.path()).len(), others.len());
}

#[test]
fn a_planted_link_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(elsewhere.path().join("precious"), b"").unwrap();
    symlink(elsewhere.path(), dir.path().join(ORPHAN)).unwrap();
    assert!(sweep_stale(dir.path()).unwrap().is_empty());
    assert_eq!(names(elsewhere.path()), ["precious"]);
}

#[test]
fn sweeping_beside_savers_harms_none() {
    let dir = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        let savers: Vec<_> = (0..2)
            .map(|saver| {
                let dir = dir.path();
                scope.spawn(move || {
                    for n in 0..40 {
                        let tree = PendingDir::create(&dir.join(format!("{saver}-{n}"))).unwrap();
                        tree.file("memory").unwrap();
                        tree.publish().unwrap();
                    }
                })
            })
            .collect();
        while !savers.iter().all(|saver| saver.is_finished()) {
            sweep_stale(dir.path()).unwrap();
        }
    });
    assert_eq!(names(dir.path()).len(), 80);
    assert!(
        names(dir.path())
            .iter()
            .all(|name| names(&dir.path().join(name)).len() == 1)
    );
}

#[test]
fn what_a_dead_process_left_is_removed() {
    const INNER: &str = "COLDFRAME_TEST_DIE_IN";
    if let Some(dir) = std::env::var_os(INNER) {
        let dir = PathBuf::from(dir);
        let _file = PendingFile::create(&dir.join("x"), Overwrite::Refuse).unwrap();
        let tree = PendingDir::create(&dir.join("y")).unwrap();
        tree.file("memory").unwrap();
        std::process::abort();
    }
    let dir = tempfile::tempdir().unwrap();
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "sweep::what_a_dead_process_left_is_removed"])
        .env(INNER, dir.path())
        .status()
        .unwrap();
    assert!(!status.success());
    assert_eq!(names(dir.path()).len(), 2);
    assert_eq!(sweep_stale(dir.path()).unwrap().len(), 2);
    assert!(names(dir.path()).is_empty());
}
