//! What is no file with bytes at offsets is refused at once, and never waited for.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use coldframe_storage::{
    Access, ByteSource, FileStorage, MapPolicy, MappedFile, PendingDir, PreadSource, Storage,
    StorageError, open_regular, read_small,
};
use coldframe_testkit::scratch;
use coldframe_units::{ByteLen, FileOffset};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

/// Things that are no files, and a name for each.
fn odd_things(dir: &Path) -> Vec<PathBuf> {
    let (fifo, socket, folder) = (dir.join("fifo"), dir.join("socket"), dir.join("folder"));
    mkfifo(&fifo, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    UnixListener::bind(&socket).unwrap();
    fs::create_dir(&folder).unwrap();
    let link = dir.join("link");
    symlink(&fifo, &link).unwrap();
    let devices = ["/dev/null", "/dev/zero"].map(PathBuf::from);
    [fifo, socket, folder, link]
        .into_iter()
        .chain(devices)
        .collect()
}

#[test]
fn no_way_of_opening_waits_for_a_fifo_or_takes_a_device() {
    let dir = scratch::on_disk();
    let refused = |result: Result<(), StorageError>, path: &Path| match result {
        Err(StorageError::NotRegular { path: named }) => assert_eq!(named, path),
        other => panic!("{}: {other:?}", path.display()),
    };
    for path in odd_things(dir.path()) {
        refused(open_regular(&path, Access::Read).map(drop), &path);
        refused(open_regular(&path, Access::ReadWrite).map(drop), &path);
        refused(read_small(&path, ByteLen::new(9)).map(drop), &path);
        refused(FileStorage::open(&path).map(drop), &path);
        refused(FileStorage::open_read_only(&path).map(drop), &path);
        refused(PreadSource::open(&path).map(drop), &path);
        if !path.is_symlink() {
            refused(MappedFile::open_published(&path).map(drop), &path);
        }
    }
}

#[test]
fn a_fifo_in_a_pending_directory_is_refused_and_not_waited_for() {
    let dir = scratch::on_disk();
    let tree = PendingDir::create(&dir.path().join("x")).unwrap();
    mkfifo(&tree.path().join("memory"), Mode::S_IRWXU).unwrap();
    let error = tree.reopen("memory").unwrap_err();
    assert!(matches!(error, StorageError::NotRegular { .. }), "{error}");
    let error = tree.publish().unwrap_err();
    assert!(matches!(error, StorageError::NotRegular { .. }), "{error}");
}

#[test]
fn a_small_file_is_read_whole_or_refused_before() {
    let dir = scratch::on_disk();
    let path = dir.path().join("x");
    fs::write(&path, b"frozen").unwrap();
    assert_eq!(read_small(&path, ByteLen::new(6)).unwrap(), b"frozen");
    let error = read_small(&path, ByteLen::new(5)).unwrap_err();
    let text = error.to_string();
    assert!(
        text.ends_with("has 6 bytes, and at most 5 are read"),
        "{text}"
    );
    let missing = read_small(&dir.path().join("y"), ByteLen::new(5)).unwrap_err();
    assert!(missing.is_not_found());
}

#[test]
fn a_file_that_has_write_bits_is_read_and_only_its_copy_mapped() {
    let dir = scratch::on_disk();
    let path = dir.path().join("x");
    // Beyond one piece of the copy, and not a multiple of it.
    let mut bytes = vec![0; (3 << 20) + 5];
    bytes[1 << 20] = 1;
    *bytes.last_mut().unwrap() = 2;
    fs::write(&path, &bytes).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();

    let all = ByteLen::new(bytes.len() as u64);
    let read = PreadSource::open(&path).unwrap();
    assert_eq!(&read.bytes(FileOffset::ZERO, all).unwrap()[..], bytes);
    let error = MappedFile::open_with(&path, MapPolicy::ReadOnly).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("(mode 0o644), so it is not mapped: chmod a-w it")
    );

    if cfg!(target_os = "linux") {
        let mapped = MappedFile::open_with(&path, MapPolicy::Copy).unwrap();
        let file = FileStorage::open(&path).unwrap();
        file.write_at(FileOffset::ZERO, b"changed").unwrap();
        file.set_len(ByteLen::new(1)).unwrap();
        assert_eq!(mapped.as_slice(), bytes);
        let copy = FileStorage::from_file(mapped.file().try_clone().unwrap(), &path);
        copy.write_at(FileOffset::ZERO, b"x").unwrap_err();
        copy.set_len(ByteLen::ZERO).unwrap_err();
    }
}

#[test]
fn an_empty_file_that_has_write_bits_is_copied_too() {
    let dir = scratch::on_disk();
    let path = dir.path().join("x");
    fs::write(&path, b"").unwrap();
    if cfg!(target_os = "linux") {
        let mapped = MappedFile::open_with(&path, MapPolicy::Copy).unwrap();
        assert!(mapped.as_slice().is_empty());
    }
}

#[test]
fn a_file_with_bytes_and_no_length_is_not_taken_for_empty() {
    let path = Path::new("/proc/self/status");
    if fs::read(path).map_or(0, |bytes| bytes.len()) == 0 {
        coldframe_testkit::require::skipped("proc", "no /proc/self/status");
        return;
    }
    let refused = |error: StorageError| {
        let is_it = matches!(&error, StorageError::NoLength { path: named } if named == path);
        assert!(is_it, "{error:?}");
    };
    refused(open_regular(path, Access::Read).unwrap_err());
    refused(FileStorage::open_read_only(path).map(drop).unwrap_err());
    refused(PreadSource::open(path).map(drop).unwrap_err());
    refused(read_small(path, ByteLen::new(1 << 20)).unwrap_err());
    let dir = scratch::on_disk();
    let empty = dir.path().join("empty");
    fs::write(&empty, b"").unwrap();
    assert_eq!(read_small(&empty, ByteLen::new(0)).unwrap(), b"");
}
