//! Directories that last, and those that a name cannot be made durable in.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use coldframe_storage::{
    FileStorage, Overwrite, PendingDir, PendingFile, StorageError, create_dir_all, open_or_create,
    remove_durably, retract, retract_sealed, sync_directory, sync_name,
};
use coldframe_testkit::require::skipped;
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
fn out_of_a_directory_that_may_not_be_read_a_file_is_removed_durably() {
    let dir = scratch::on_disk();
    let drop_box = dir.path().join("box");
    fs::create_dir(&drop_box).unwrap();
    for name in ["x", "y"] {
        fs::write(drop_box.join(name), b"z").unwrap();
    }
    assert!(remove_durably(&drop_box.join("y")).unwrap());
    assert!(!remove_durably(&drop_box.join("y")).unwrap());
    fs::set_permissions(&drop_box, fs::Permissions::from_mode(0o300)).unwrap();
    let removed = remove_durably(&drop_box.join("x"));
    let absent = remove_durably(&drop_box.join("y"));
    fs::set_permissions(&drop_box, fs::Permissions::from_mode(0o700)).unwrap();
    if cfg!(target_os = "linux") {
        assert!(removed.unwrap());
        assert!(!absent.unwrap());
        assert!(names(&drop_box).is_empty());
    } else {
        // Without a way to make it durable nothing is removed.
        assert!(matches!(removed, Err(StorageError::Open { .. })));
        assert_eq!(names(&drop_box), ["x"]);
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

#[test]
fn in_a_directory_that_may_not_be_read_directories_are_made() {
    let dir = scratch::on_disk();
    let drop_box = dir.path().join("box");
    fs::create_dir(&drop_box).unwrap();
    fs::set_permissions(&drop_box, fs::Permissions::from_mode(0o300)).unwrap();
    let made = create_dir_all(&drop_box.join("a/b"));
    if cfg!(target_os = "linux") {
        made.unwrap();
        create_dir_all(&drop_box.join("a")).unwrap();
        sync_name(&drop_box.join("a")).unwrap();
        let (pending, is_resumed) = PendingDir::resume(&drop_box.join("y")).unwrap();
        assert!(!is_resumed);
        drop(pending);
    }
    fs::set_permissions(&drop_box, fs::Permissions::from_mode(0o700)).unwrap();
    if cfg!(target_os = "linux") {
        assert_eq!(names(&drop_box), ["a"]);
    } else {
        // Not even the first of them is left, where it could not be made durable.
        assert!(names(&drop_box).is_empty());
    }
}

/// The owner of what is made in a directory that `give` gives to the user 12345; `None`, said to be
/// skipped, where this process is not root.
fn made_by_root(give: impl Fn(&Path)) -> Option<Vec<(u32, u32)>> {
    let dir = scratch::on_disk();
    if fs::metadata(dir.path()).unwrap().uid() != 0 {
        skipped("root", "only root gives files to someone else");
        return None;
    }
    give(dir.path());
    let at = |name: &str| dir.path().join(name);
    FileStorage::create(&at("file")).unwrap();
    PendingFile::create(&at("published"), Overwrite::Refuse)
        .unwrap()
        .publish()
        .unwrap();
    let tree = PendingDir::create(&at("tree")).unwrap();
    tree.file("memory").unwrap();
    tree.publish().unwrap();
    create_dir_all(&at("a/b/c")).unwrap();
    open_or_create(&at("lock")).unwrap();
    open_or_create(&at("lock")).unwrap();
    let made = [
        "file",
        "published",
        "tree",
        "tree/memory",
        "a",
        "a/b",
        "a/b/c",
        "lock",
    ];
    let owner = |name| {
        let metadata = fs::metadata(at(name)).unwrap();
        (metadata.uid(), metadata.gid())
    };
    Some(made.into_iter().map(owner).collect())
}

#[test]
fn what_root_makes_belongs_to_the_owner_of_the_directory() {
    let give = |dir: &Path| chown(dir, Some(12_345), Some(23_456)).unwrap();
    let Some(owners) = made_by_root(give) else {
        return;
    };
    assert!(
        owners.iter().all(|owner| *owner == (12_345, 23_456)),
        "{owners:?}"
    );
    let owners = made_by_root(|_| ()).unwrap();
    assert!(owners.iter().all(|owner| owner.0 == 0), "{owners:?}");
}

#[test]
fn what_was_there_is_never_given_away() {
    let dir = scratch::on_disk();
    if fs::metadata(dir.path()).unwrap().uid() != 0 {
        skipped("root", "only root gives files to someone else");
        return;
    }
    let theirs = dir.path().join("theirs");
    fs::create_dir(&theirs).unwrap();
    chown(&theirs, Some(12_345), Some(23_456)).unwrap();
    let ours = dir.path().join("ours");
    fs::write(&ours, "of root").unwrap();
    fs::hard_link(&ours, theirs.join("lock")).unwrap();
    open_or_create(&theirs.join("lock")).unwrap();
    assert_eq!(fs::metadata(&ours).unwrap().uid(), 0);
}
