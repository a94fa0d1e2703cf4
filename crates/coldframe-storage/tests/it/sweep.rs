//! Orphans go, the living stay, and nothing else is touched.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use coldframe_storage::{Overwrite, PendingDir, PendingFile, Storage, discard_living, sweep_stale};
use coldframe_testkit::child;
use coldframe_testkit::scratch;

use crate::names;

/// A name of the kind that a process which died would have left.
const ORPHAN: &str = ".x.snap.4194304-0123456789abcdef.tmp";

// Parity: F9
#[test]
fn orphans_are_removed_and_named() {
    let dir = scratch::on_disk();
    let file = dir.path().join(ORPHAN);
    let tree = dir.path().join(".y.1-00000000000000ff.tmp");
    fs::write(&file, b"half").unwrap();
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("memory"), b"half").unwrap();
    // A log that an older release was making.
    let log = dir.path().join(".log-0123456789abcdef");
    fs::write(&log, b"half").unwrap();
    let swept = sweep_stale(dir.path()).unwrap();
    assert_eq!(swept.paths, [log, file, tree]);
    assert_eq!(swept.len(), 3);
    assert!(swept.unknown.is_empty());
    assert!(names(dir.path()).is_empty());
    assert!(sweep_stale(dir.path()).unwrap().is_empty());
}

#[test]
fn the_living_are_left_alone() {
    let dir = scratch::on_disk();
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
    let dir = scratch::on_disk();
    let others = [
        "x.1-0123456789abcdef.tmp",
        ".x.1-0123456789abcde.tmp",
        ".x.1-0123456789abcdeg.tmp",
        ".x.1-0123456789abcdef.tmp.bak",
        ".x.-0123456789abcdef.tmp",
        ".x.1a-0123456789abcdef.tmp",
        ".1-0123456789abcdef.tmp",
        ".log-0123456789abcde",
        ".log-0123456789abcdef0",
        "log-0123456789abcdef",
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
fn what_a_sweep_gives_back_is_counted() {
    let dir = scratch::on_disk();
    let tree = dir.path().join(".y.1-00000000000000ff.tmp");
    fs::create_dir(&tree).unwrap();
    for name in ["a", "b"] {
        fs::write(tree.join(name), vec![7; 64 << 10]).unwrap();
        // Not every file system gives space out before it must.
        fs::File::open(tree.join(name)).unwrap().sync_all().unwrap();
    }
    let swept = sweep_stale(dir.path()).unwrap();
    assert_eq!(swept.len(), 1);
    assert!(swept.bytes.get() >= 128 << 10, "{swept:?}");
}

#[test]
fn a_sealed_orphan_is_removed() {
    // Its owner died between making it read-only and renaming it.
    let dir = scratch::on_disk();
    let file = dir.path().join(ORPHAN);
    fs::write(&file, b"whole").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o400)).unwrap();
    assert_eq!(sweep_stale(dir.path()).unwrap().paths, [file]);
}

#[test]
fn a_device_or_a_fifo_of_such_a_name_is_left_alone() {
    let dir = scratch::on_disk();
    nix::unistd::mkfifo(&dir.path().join(ORPHAN), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(sweep_stale(dir.path()).unwrap().is_empty());
    assert_eq!(names(dir.path()), [ORPHAN]);
}

#[test]
fn a_signal_may_discard_what_is_not_published_yet() {
    const INNER: &str = "COLDFRAME_TEST_DISCARD_IN";
    if let Some(dir) = std::env::var_os(INNER) {
        let dir = PathBuf::from(dir);
        let _file = PendingFile::create(&dir.join("x"), Overwrite::Refuse).unwrap();
        let tree = PendingDir::create(&dir.join("y")).unwrap();
        tree.file("memory").unwrap();
        // Stays: it is there to be gone on with.
        let (resumable, _) = PendingDir::resume(&dir.join("z")).unwrap();
        resumable.file("memory").unwrap();
        let done = PendingFile::create(&dir.join("done"), Overwrite::Refuse).unwrap();
        done.publish().unwrap();
        assert_eq!(discard_living(), 2);
        std::process::exit(0);
    }
    let dir = scratch::on_disk();
    let status = child::command(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "sweep::a_signal_may_discard_what_is_not_published_yet",
        ])
        .env(INNER, dir.path())
        .status()
        .unwrap();
    assert!(status.success());
    let names = names(dir.path());
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names[0].to_str().unwrap().starts_with(".z."));
    assert_eq!(names[1], "done");
}

#[test]
fn a_planted_link_is_not_followed() {
    let dir = scratch::on_disk();
    let elsewhere = scratch::on_disk();
    fs::write(elsewhere.path().join("precious"), b"").unwrap();
    symlink(elsewhere.path(), dir.path().join(ORPHAN)).unwrap();
    assert!(sweep_stale(dir.path()).unwrap().is_empty());
    assert_eq!(names(elsewhere.path()), ["precious"]);
}

#[test]
fn sweeping_beside_savers_harms_none() {
    let dir = scratch::on_disk();
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

// Parity: D7, F9
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
    let dir = scratch::on_disk();
    let status = child::command(std::env::current_exe().unwrap())
        .args(["--exact", "sweep::what_a_dead_process_left_is_removed"])
        .env(INNER, dir.path())
        .status()
        .unwrap();
    assert!(!status.success());
    assert_eq!(names(dir.path()).len(), 2);
    assert_eq!(sweep_stale(dir.path()).unwrap().len(), 2);
    assert!(names(dir.path()).is_empty());
}
