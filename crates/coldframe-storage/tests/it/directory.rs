//! Directories that last, and those that a name cannot be made durable in.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use coldframe_storage::{
    Overwrite, PendingDir, PendingFile, StorageError, create_dir_all, retract, retract_sealed,
    sync_directory,
};
use coldframe_testkit::scratch;

use crate::{mode, names};

#[test]
fn missing_directories_are_made_and_those_that_are_there_stay() {
    let dir = scratch::on_disk();
    let path = dir.path().join("a/b/c");
    create_dir_all(&path).unwrap();
    create_dir_all(&path).unwrap();
    assert_eq!(mode(&path), 0o700);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    create_dir_all(&path.join("../c")).unwrap();
    assert_eq!(mode(&path), 0o755);
    sync_directory(&path).unwrap();
}

#[test]
fn what_is_no_directory_is_named() {
    let dir = scratch::on_disk();
    let file = dir.path().join("file");
    fs::write(&file, b"").unwrap();
    for path in [file.clone(), file.join("below")] {
        let error = create_dir_all(&path).unwrap_err();
        match error {
            StorageError::Exists { path } | StorageError::Open { path, .. } => {
                assert!(path.starts_with(&file));
            }
            other => panic!("{other}"),
        }
    }
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(dir.path().join("nowhere"), &link).unwrap();
    assert!(create_dir_all(&link).unwrap_err().is_exists());
    assert_eq!(names(dir.path()), ["file", "link"]);
}

#[test]
fn many_make_the_same_directories_at_once() {
    let dir = scratch::on_disk();
    for round in 0..20 {
        let path = dir.path().join(format!("{round}/a/b/c"));
        std::thread::scope(|scope| {
            let made: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| create_dir_all(&path)))
                .collect();
            for thread in made {
                thread.join().unwrap().unwrap();
            }
        });
        assert!(path.is_dir());
    }
}

#[test]
fn a_directory_that_is_missing_is_told_of_before_the_work() {
    let dir = scratch::on_disk();
    let missing = dir.path().join("missing");
    let file = PendingFile::create(&missing.join("x"), Overwrite::Refuse).unwrap_err();
    let tree = PendingDir::create(&missing.join("x")).unwrap_err();
    for error in [file, tree] {
        assert!(error.is_not_found());
        assert_eq!(
            error.to_string(),
            format!("cannot open {}", missing.display())
        );
    }
}

#[test]
fn into_a_directory_that_may_not_be_read_one_may_publish() {
    let dir = scratch::on_disk();
    let drop_box = dir.path().join("box");
    fs::create_dir(&drop_box).unwrap();
    fs::set_permissions(&drop_box, fs::Permissions::from_mode(0o300)).unwrap();
    // As root it may be read all the same: then this says less, and is no less true.
    let file = PendingFile::create(&drop_box.join("x"), Overwrite::Refuse);
    if cfg!(target_os = "linux") {
        file.unwrap().publish().unwrap();
        let tree = PendingDir::create(&drop_box.join("y")).unwrap();
        tree.file("memory").unwrap();
        tree.publish().unwrap();
        retract(&drop_box.join("x")).unwrap();
    }
    fs::set_permissions(&drop_box, fs::Permissions::from_mode(0o700)).unwrap();
    if cfg!(target_os = "linux") {
        assert_eq!(names(&drop_box), ["y"]);
    }
}

#[test]
fn a_sealed_directory_is_retracted_whole() {
    let dir = scratch::on_disk();
    let tree = PendingDir::create(&dir.path().join("x")).unwrap();
    for name in ["seal", "memory"] {
        tree.file(name).unwrap();
    }
    let path = tree.publish().unwrap();
    retract_sealed(&path, "seal").unwrap();
    assert!(names(dir.path()).is_empty());
}
