//! Directories of a lower layer of overlayfs, which rename(2) refuses to move (`EXDEV`): what an
//! image of a container brought along.

use std::fs;
use std::path::{Path, PathBuf};

use coldframe_storage::{PendingDir, Storage, StorageError, retract, retract_sealed, sweep_stale};
use coldframe_testkit::child;
use coldframe_testkit::require::skipped;
use coldframe_testkit::scratch;
use coldframe_units::FileOffset;

use crate::names;

const INNER: &str = "COLDFRAME_TEST_OVERLAY";

/// A temporary name of `pulled` whose owner is dead.
const LEFT: &str = ".pulled.4194304-0123456789abcdef.tmp";

#[test]
fn directories_of_a_lower_layer_are_published_and_retracted() {
    if let Some(merged) = std::env::var_os(INNER) {
        return inside(&PathBuf::from(merged));
    }
    let home = scratch::on_disk();
    let at = |name: &str| home.path().join(name);
    for name in ["upper", "work", "merged"] {
        fs::create_dir(at(name)).unwrap();
    }
    for (directory, file) in [("one", "seal"), ("two", "seal"), (LEFT, "memory")] {
        let directory = at("lower").join(directory);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(file), b"half").unwrap();
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(&directory, private).unwrap();
    }
    // In a mount namespace of its own: nothing is mounted any more when it ends.
    // Anybody's may note what is removed in nothing but attributes of users.
    let script = "cd \"$0\"; layers=lowerdir=lower,upperdir=upper,workdir=work; \
                  mount -t overlay -o $layers,userxattr overlay merged || \
                  mount -t overlay -o $layers overlay merged || exit 77; exec \"$@\"";
    let Some(mut mounting) = child::mounting(script) else {
        return;
    };
    mounting
        .arg(home.path())
        .arg(std::env::current_exe().unwrap());
    mounting.args([
        "--exact",
        "overlay::directories_of_a_lower_layer_are_published_and_retracted",
    ]);
    let output = mounting.env(INNER, at("merged")).output();
    match output {
        Ok(output) if output.status.success() => {}
        Ok(output) if String::from_utf8_lossy(&output.stdout).contains("panicked") => {
            panic!("{output:?}")
        }
        Ok(output) if output.status.code() == Some(101) => panic!("{output:?}"),
        Ok(_) => skipped("overlay", "an overlay cannot be mounted here"),
        Err(error) => skipped("unshare", &error.to_string()),
    }
}

fn inside(merged: &Path) {
    // It is so here, or the rest says nothing.
    let moved = fs::rename(merged.join("one"), merged.join("other")).unwrap_err();
    assert_eq!(moved.kind(), std::io::ErrorKind::CrossesDevices);

    let refused = retract(&merged.join("one")).unwrap_err();
    assert!(
        matches!(refused, StorageError::DirectoryMove { .. }),
        "{refused}"
    );
    assert_eq!(names(&merged.join("one")), ["seal"]);
    retract_sealed(&merged.join("one"), "seal").unwrap();
    assert_eq!(names(merged), [LEFT, "two"]);

    let (pending, is_resumed) = PendingDir::resume(&merged.join("pulled")).unwrap();
    assert!(is_resumed);
    let memory = pending.reopen("memory").unwrap();
    memory.write_at(FileOffset::new(4), b" and whole").unwrap();
    drop(memory);
    let pulled = pending.publish().unwrap();
    assert_eq!(fs::read(pulled.join("memory")).unwrap(), b"half and whole");
    assert!(sweep_stale(merged).unwrap().is_empty());
    assert_eq!(names(merged), ["pulled", "two"]);
}
