//! Calls of the host that are interrupted, or do less than they were asked to.

use std::fs;
use std::path::Path;

use coldframe_storage::{FileStorage, Overwrite, PendingDir, PendingFile, RawPart, Storage};
use coldframe_testkit::crash::{HostCall, HostFault, Recording, Work, fail_everywhere};
use coldframe_testkit::fault::{EINTR, EIO};
use coldframe_testkit::rng::Rng;
use coldframe_testkit::scratch;
use coldframe_units::FileOffset;

/// Orders faults for the next calls of a kind, one after the other.
fn order(recording: &Recording, call: HostCall, faults: &[HostFault]) {
    let next = recording.calls(call);
    for (nth, fault) in (next..).zip(faults) {
        recording.inject(call, nth, *fault);
    }
}

const ROUGH: [HostFault; 6] = [
    HostFault::Errno(EINTR),
    HostFault::Short(1),
    HostFault::Errno(EINTR),
    HostFault::Errno(EINTR),
    HostFault::Short(300),
    HostFault::Short(7),
];

// Spec: CRASH-9
#[test]
fn short_and_interrupted_calls_are_continued() {
    let dir = scratch::dir();
    let recording = Recording::start(dir.path());
    let file = FileStorage::create(&dir.path().join("file")).unwrap();
    let bytes = Rng::new(1).bytes(1000);
    let at = FileOffset::new(3);

    order(&recording, HostCall::Write, &ROUGH);
    file.write_at(at, &bytes).unwrap();
    assert_eq!(recording.calls(HostCall::Write), ROUGH.len() as u64 + 1);

    order(&recording, HostCall::Read, &ROUGH);
    let before = recording.calls(HostCall::Read);
    let mut found = vec![0; 1000];
    file.read_at(at, &mut found).unwrap();
    assert_eq!(
        recording.calls(HostCall::Read) - before,
        ROUGH.len() as u64 + 1
    );
    assert_eq!(found, bytes);

    order(&recording, HostCall::Write, &ROUGH);
    let turned: Vec<u8> = bytes.iter().map(|byte| !byte).collect();
    let parts = [RawPart::from(&turned[..400]), RawPart::from(&turned[400..])];
    file.write_raw_at(at, &parts).unwrap();
    file.read_at(at, &mut found).unwrap();
    assert_eq!(found, turned);
    // What was seen of all this is what is there.
    assert_eq!(recording.trace().operations(), 1 + 2 * 4);
}

#[test]
fn an_error_of_the_host_is_told_and_a_sync_that_failed_is_none() {
    let dir = scratch::dir();
    let recording = Recording::start(dir.path());
    let file = FileStorage::create(&dir.path().join("file")).unwrap();
    let before = recording.operations();
    for call in [HostCall::Read, HostCall::Write, HostCall::Sync] {
        order(&recording, call, &[HostFault::Errno(EIO)]);
        let error = match call {
            HostCall::Read => file.read_at(FileOffset::ZERO, &mut [0; 4]),
            HostCall::Write => file.write_at(FileOffset::ZERO, b"abcd"),
            HostCall::Sync => file.sync_data(),
        };
        let error = error.unwrap_err();
        let source = std::error::Error::source(&error).unwrap();
        let source: &std::io::Error = source.downcast_ref().unwrap();
        assert_eq!(source.raw_os_error(), Some(EIO), "{call:?}");
    }
    assert_eq!(recording.operations(), before, "nothing of it happened");
    order(&recording, HostCall::Sync, &[HostFault::Errno(EINTR)]);
    file.sync_data().unwrap();
}

/// The names in a directory, hidden ones too.
fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Replaces a file.
struct File;

impl Work for File {
    type Input = ();

    fn prepare(&mut self, dir: &Path) {
        fs::write(dir.join("file"), "old").unwrap();
    }

    fn run(&mut self, dir: &Path, _: &mut ()) -> bool {
        let published =
            PendingFile::create(&dir.join("file"), Overwrite::Replace).and_then(|file| {
                file.write_at(FileOffset::ZERO, b"new")?;
                file.write_at(FileOffset::new(3), b"er")?;
                file.publish()
            });
        published.is_ok()
    }

    fn check(&mut self, dir: &Path, (): (), is_done: bool) {
        assert_eq!(names(dir), ["file"]);
        let found = fs::read(dir.join("file")).unwrap();
        // The last sync, that of the directory, fails behind the rename.
        assert!(found == b"newer" || !is_done && found == b"old");
    }
}

// Spec: CRASH-9
#[test]
fn a_file_that_cannot_be_published_is_as_it_was_and_nothing_is_left() {
    let failed = fail_everywhere(&mut File);
    assert_eq!((failed.writes, failed.syncs), (2, 2));
}

/// Publishes a directory of two files.
struct Dir;

impl Work for Dir {
    type Input = ();

    fn prepare(&mut self, _: &Path) {}

    fn run(&mut self, dir: &Path, _: &mut ()) -> bool {
        let published = PendingDir::create(&dir.join("dir")).and_then(|pending| {
            for name in ["a", "b"] {
                let file = pending.file(name)?;
                file.write_at(FileOffset::ZERO, name.as_bytes())?;
            }
            pending.publish()
        });
        published.is_ok()
    }

    fn check(&mut self, dir: &Path, (): (), is_done: bool) {
        if names(dir).is_empty() {
            assert!(!is_done);
            return;
        }
        assert_eq!(names(dir), ["dir"]);
        assert_eq!(names(&dir.join("dir")), ["a", "b"]);
    }
}

// Spec: CRASH-9
#[test]
fn a_directory_that_cannot_be_published_is_not_there_and_nothing_is_left() {
    let failed = fail_everywhere(&mut Dir);
    assert_eq!((failed.writes, failed.syncs), (2, 4));
}
