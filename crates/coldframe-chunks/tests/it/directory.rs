//! A store in a directory of the host.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use coldframe_chunks::{Backend, ChunkStore, Directory, Folder, Key, LocalStore, StoreError};
use coldframe_testkit::child;
use coldframe_testkit::require::skipped;
use coldframe_units::{ByteLen, FileOffset};

use crate::support::{AT_ONCE, chunk, id, name, push_image, untag};

// Spec: STORE-1, STORE-5
// Parity: F42
#[test]
fn files_lie_where_their_keys_say_and_are_their_owners() {
    let dir = coldframe_testkit::scratch::on_disk();
    let path = dir.path().join("new/store");
    let store = LocalStore::create(&path).unwrap();
    let root = push_image(&store, "a", &[1]).unwrap();
    assert!(path.join("store").is_file() && path.join("tags/a").is_file());
    for folder in Folder::ALL {
        let listed = store.backend().list(folder).unwrap();
        assert_eq!(listed.len(), 1);
        let path = path.join(listed[0].key.to_string());
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!(
            metadata.permissions().mode() & 0o777,
            0o400,
            "{}",
            path.display()
        );
        assert_eq!(metadata.len(), listed[0].len.get());
    }
    assert!(LocalStore::open(&path).unwrap().has_root(root).unwrap());
}

// Parity: D24, F29
#[test]
fn names_that_are_not_ours_are_passed_over() {
    for name in [
        "x",
        ".pack",
        "0123.pack",
        "0123456789ABCDEF.pack",
        "+123456789abcdef.pack",
    ] {
        assert_eq!(Folder::Packs.key(name), None, "{name}");
        assert_eq!(Folder::Roots.key(name), None, "{name}");
    }
    let dir = coldframe_testkit::scratch::on_disk();
    let store = LocalStore::create(dir.path()).unwrap();
    store.put(&chunk(1)).unwrap();
    fs::write(dir.path().join("packs/notes.txt"), "x").unwrap();
    fs::write(dir.path().join("packs/0123456789abcdef.pack"), "x").unwrap();
    let store = LocalStore::open(dir.path()).unwrap();
    assert!(store.get(id(1)).is_ok());
    assert_eq!(store.verify(&[]).unwrap().findings.len(), 1);
}

// Spec: STORE-8
#[test]
fn a_swap_compares_what_is_there() {
    let dir = coldframe_testkit::scratch::on_disk();
    let place = Directory::new(dir.path()).unwrap();
    place.prepare().unwrap();
    let key = Key::Tag(name("a"));
    let swap = |old: Option<&[u8]>, new: Option<&[u8]>| place.replace(&key, old, new).unwrap();
    assert!(!swap(Some(b"x"), Some(b"y")));
    assert!(swap(None, Some(b"x")));
    assert!(!swap(None, Some(b"y")));
    assert!(swap(Some(b"x"), Some(b"y")));
    assert_eq!(
        place.read(&key, ByteLen::new(9)).unwrap().unwrap(),
        &b"y"[..]
    );
    assert!(place.read(&key, ByteLen::new(0)).is_err());
    assert!(!swap(Some(b"x"), None));
    assert!(swap(Some(b"y"), None));
    assert_eq!(place.read(&key, ByteLen::new(9)).unwrap(), None);
    assert!(!place.remove(&key).unwrap());
    let range = place.read_range(&key, FileOffset::ZERO, ByteLen::new(1));
    assert_eq!(range.unwrap(), None);
}

#[test]
fn a_key_is_made_once() {
    let dir = coldframe_testkit::scratch::on_disk();
    let place = Directory::new(dir.path()).unwrap();
    place.prepare().unwrap();
    assert!(place.create(&Key::Ledger, &[b"a", b"b"]).unwrap());
    assert!(!place.create(&Key::Ledger, &[b"c"]).unwrap());
    let whole = place.read(&Key::Ledger, ByteLen::new(9)).unwrap();
    assert_eq!(whole.unwrap(), &b"ab"[..]);
    let past = place.read_range(&Key::Ledger, FileOffset::new(1), ByteLen::new(2));
    assert!(past.unwrap_err().is_unexpected_end());
}

// Spec: STORE-11
#[test]
fn a_lease_is_held_as_long_as_its_holder_lives() {
    let dir = coldframe_testkit::scratch::on_disk();
    let (place, other) = (
        Directory::new(dir.path()).unwrap(),
        Directory::new(dir.path()).unwrap(),
    );
    place.prepare().unwrap();
    let lease = place.lease().unwrap();
    assert!(lease.is_held());
    assert_eq!(other.leases().unwrap(), [lease.id()].into());
    let second = other.lease().unwrap();
    assert_eq!(place.leases().unwrap().len(), 2);
    fs::remove_file(
        dir.path()
            .join(format!("leases/{:016x}.lease", second.id().get())),
    )
    .unwrap();
    assert!(!second.is_held());
    drop(lease);
    assert!(place.leases().unwrap().is_empty());
    // What a dead process leaves: a file that nobody locks.
    let stale = dir.path().join("leases/0123456789abcdef.lease");
    fs::write(&stale, "").unwrap();
    assert!(place.leases().unwrap().is_empty());
    assert!(!stale.exists());
    let collector = place.exclusive().unwrap();
    assert!(collector.is_some() && other.exclusive().unwrap().is_none());
    drop(collector);
    assert!(other.exclusive().unwrap().is_some());
}

// Over NFS a lock needs a descriptor that is open for writing, and a file system that is mounted
// read-only gives none.
// Spec: STORE-11
#[test]
fn a_lease_that_may_not_be_opened_for_writing_counts_as_held() {
    let dir = coldframe_testkit::scratch::on_disk();
    let place = Directory::new(dir.path()).unwrap();
    place.prepare().unwrap();
    let path = dir.path().join("leases/0123456789abcdef.lease");
    fs::write(&path, "").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
    if fs::OpenOptions::new().write(true).open(&path).is_ok() {
        skipped("permissions", "this user may write to files of mode 0400");
        return;
    }
    assert_eq!(place.leases().unwrap().len(), 1);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(place.leases().unwrap().is_empty());
}

// A directory that can be listed, but whose files cannot be looked at.
// Spec: STORE-10, STORE-27
#[test]
fn files_that_are_listed_and_cannot_be_looked_at_stop_the_collector() {
    let dir = coldframe_testkit::scratch::on_disk();
    let store = LocalStore::create(dir.path()).unwrap();
    push_image(&store, "a", &[1]).unwrap();
    push_image(&store, "b", &[2]).unwrap();
    let mode = |folder: &str, mode| {
        let path = dir.path().join(folder);
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    mode("tags", 0o400);
    if fs::metadata(dir.path().join("tags/a")).is_ok() {
        mode("tags", 0o700);
        skipped(
            "permissions",
            "this user may look into directories of mode 0400",
        );
        return;
    }
    let open = || LocalStore::open(dir.path()).unwrap();
    let error = open().collect(AT_ONCE, &[]).unwrap_err();
    assert!(!error.is_missing(), "{error}");
    let verified = open().verify_tables(&[]).unwrap();
    assert_eq!(verified.findings.len(), 2, "{verified:?}");
    assert!(open().backend().list(Folder::Tags).is_err());
    mode("tags", 0o700);
    mode("packs", 0o400);
    let other = open();
    assert_eq!(other.tags().unwrap().len(), 2);
    assert!(!other.get(id(1)).unwrap_err().is_missing());
    mode("packs", 0o700);
    assert!(other.get(id(1)).is_ok() && other.get(id(2)).is_ok());
    assert!(other.verify(&[]).unwrap().is_sound());
}

// Spec: STORE-27
#[test]
fn what_root_makes_belongs_to_the_owner_of_the_store() {
    let dir = coldframe_testkit::scratch::on_disk();
    let store = LocalStore::create(dir.path()).unwrap();
    push_image(&store, "a", &[1]).unwrap();
    if fs::metadata(dir.path().join("store")).unwrap().uid() != 0 {
        skipped("root", "only root gives files to someone else");
        return;
    }
    let owner = (12_345, 23_456);
    let folders = ["", "packs", "roots", "tags"].map(|name| dir.path().join(name));
    for folder in folders {
        chown(folder, Some(owner.0), Some(owner.1)).unwrap();
    }
    fs::remove_dir(dir.path().join("leases")).unwrap();
    for name in ["lock", "collector"] {
        let _absent = fs::remove_file(dir.path().join(name));
    }
    let store = LocalStore::create(dir.path()).unwrap();
    for tag in ["a", "b"] {
        push_image(&store, tag, &[2, 3]).unwrap();
    }
    let push = store.push().unwrap();
    let lease = &files_of(&dir.path().join("leases"))[0];
    store.collect(AT_ONCE, &[]).unwrap();
    let made = ["tags/a", "tags/b", "ledger", "lock", "collector", "leases"];
    let made = made.map(|name| dir.path().join(name));
    for path in made.iter().chain([lease]) {
        let metadata = fs::metadata(path).unwrap();
        assert_eq!(
            (metadata.uid(), metadata.gid()),
            owner,
            "{}",
            path.display()
        );
    }
    for folder in ["packs", "roots"] {
        let files = files_of(&dir.path().join(folder));
        let owners = files.iter().map(|path| fs::metadata(path).unwrap().uid());
        assert!(owners.max() == Some(owner.0), "{folder}");
    }
    drop(push);
}

fn files_of(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

// Their space is free only when nobody has them open.
#[test]
fn packs_that_others_have_deleted_are_closed() {
    let dir = coldframe_testkit::scratch::on_disk();
    let store = LocalStore::create(dir.path()).unwrap();
    store.put(&chunk(1)).unwrap();
    let reader = LocalStore::open(dir.path()).unwrap();
    assert!(reader.get(id(1)).is_ok());
    let is_open = || {
        let links = fs::read_dir("/proc/self/fd").ok()?;
        let targets = links.filter_map(|link| fs::read_link(link.ok()?.path()).ok());
        let ours = |path: PathBuf| path.starts_with(dir.path().join("packs"));
        Some({ targets }.any(ours))
    };
    let Some(was_open) = is_open() else {
        skipped("proc", "/proc/self/fd cannot be read");
        return;
    };
    assert!(was_open);
    store.collect(AT_ONCE, &[]).unwrap();
    drop(store);
    reader.refresh().unwrap();
    assert_eq!(is_open(), Some(false));
}

// Spec: STORE-9
#[test]
fn names_that_a_file_system_takes_for_one_are_not_one_tag() {
    let dir = coldframe_testkit::scratch::on_disk();
    let store = LocalStore::create(dir.path()).unwrap();
    push_image(&store, "Nightly", &[1]).unwrap();
    if !dir.path().join("tags/nightly").exists() {
        // Then they are two.
        push_image(&store, "nightly", &[2]).unwrap();
        assert_eq!(store.tags().unwrap().len(), 2);
        return;
    }
    let error = push_image(&store, "nightly", &[2]).unwrap_err();
    assert!(matches!(error, StoreError::TagFolded { .. }), "{error}");
    assert!(store.tag(&name("Nightly")).unwrap().is_some());
    assert_eq!(store.tags().unwrap().len(), 1);
}

const CHILD: &str = "COLDFRAME_CHUNKS_TEST_CHILD";

/// In a child process: pushes until it is killed.
#[test]
fn child_that_pushes_until_killed() {
    let Ok(dir) = std::env::var(CHILD) else {
        return;
    };
    let store = LocalStore::open(dir.as_ref()).unwrap();
    let start = u64::from(std::process::id()) << 20;
    for round in 0_u64.. {
        let numbers: Vec<u64> = (0..40).map(|n| start + round * 20 + n).collect();
        push_image(&store, &format!("pid-{}", std::process::id()), &numbers).unwrap();
    }
}

// Failure mode 12: half done after a kill.
// Spec: STORE-5, STORE-11
// Parity: D34, F25, F41, M12
#[test]
fn after_kills_at_any_moment_tags_are_whole_and_the_rest_is_garbage() {
    let dir = coldframe_testkit::scratch::on_disk();
    let store = LocalStore::create(dir.path()).unwrap();
    for round in 0..12_u64 {
        let mut child = child::command(std::env::current_exe().unwrap())
            .args(["--exact", "directory::child_that_pushes_until_killed"])
            .env(CHILD, dir.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(30 + round * 17 % 60));
        if round % 2 == 0 {
            // Beside a writer that lives.
            store.collect(AT_ONCE, &[]).unwrap();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(
            LocalStore::open(dir.path())
                .unwrap()
                .verify(&[])
                .unwrap()
                .is_sound()
        );
    }
    let tags = store.tags().unwrap();
    assert!(!tags.is_empty());
    for tag in tags.keys() {
        untag(&store, tag.as_str());
    }
    store.collect(AT_ONCE, &[]).unwrap();
    for folder in ["packs", "roots", "tags", "leases"] {
        let left: Vec<_> = fs::read_dir(dir.path().join(folder)).unwrap().collect();
        assert!(left.is_empty(), "{folder}: {left:?}");
    }
}
