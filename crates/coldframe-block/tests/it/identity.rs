//! Which log goes with which disk, and what the store says of a log that has changes of a disk.

use std::path::{Path, PathBuf};

use coldframe_block::{
    BlockDevice, BlockError, DeviceOptions, DeviceParts, DiskView, LogFound, LostRecords, OtherLog,
    ViewLog, check_log, create, export_view, open_log, recover,
};
use coldframe_chunks::{CollectOptions, LocalStore, StoreError};
use coldframe_ring::{Region, RingWal};
use coldframe_storage::{FileStorage, MemStorage, Overwrite, Storage};
use coldframe_units::ByteLen;

use crate::support::{BLOCK, CALM, MIB, PAGE, assert_same, name, new_store, noise};

const STRICT: DeviceOptions = DeviceOptions {
    other_log: OtherLog::Refuse,
    ..CALM
};

/// Takes what belongs to another store.
const TAKE: DeviceOptions = DeviceOptions {
    take_log: true,
    ..STRICT
};

type Device = BlockDevice<coldframe_chunks::Directory, FileStorage>;

/// A store and logs in a directory.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = coldframe_testkit::scratch::on_disk();
        let place = Self { dir };
        let store = LocalStore::create(&place.at("store")).unwrap();
        create(&store, &name("disk"), ByteLen::new(MIB)).unwrap();
        place
    }

    fn at(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    fn store(&self) -> LocalStore {
        LocalStore::open(&self.at("store")).unwrap()
    }

    fn open(&self, log: &str, options: DeviceOptions) -> Result<Device, BlockError> {
        self.open_at(&self.at(log), options)
    }

    fn open_at(&self, log: &Path, options: DeviceOptions) -> Result<Device, BlockError> {
        let parts = DeviceParts {
            store: self.store(),
            chunks: None,
            head: name("disk"),
            log: open_log(log, ByteLen::new(MIB))?,
            base: None,
        };
        BlockDevice::open(parts, options)
    }

    /// A process writes to the disk, flushes, and is killed.
    fn leave_changes(&self, log: &str) -> Vec<u8> {
        let device = self.open(log, STRICT).unwrap();
        let bytes = noise(7, PAGE);
        device.write_at(0, &bytes).unwrap();
        device.flush().unwrap();
        bytes
    }

    /// The same; returns the whole disk.
    fn leave_disk(&self, log: &str) -> Vec<u8> {
        let mut bytes = self.leave_changes(log);
        bytes.resize(MIB as usize, 0);
        bytes
    }

    fn view(&self, log: ViewLog<'_>) -> Result<Vec<u8>, BlockError> {
        let view = DiskView::open(&self.store(), &name("disk"), None, log)?;
        let out = MemStorage::new();
        export_view(&view, &out, &mut |_| {})?;
        Ok(out.to_vec())
    }

    /// The disk is removed by hand, and made anew with the same content.
    fn make_anew(&self) {
        std::fs::remove_file(self.at("store/tags/disk")).unwrap();
        create(&self.store(), &name("disk"), ByteLen::new(MIB)).unwrap();
    }
}

#[track_caller]
fn elsewhere<T: std::fmt::Debug>(result: Result<T, BlockError>) -> (PathBuf, LogFound) {
    match result {
        Err(BlockError::LogElsewhere { log, .. }) => (log.path, log.found),
        other => panic!("{other:?}"),
    }
}

// Spec: BLK-21, BLK-26
#[test]
fn a_log_of_an_earlier_disk_of_the_name_is_refused_and_can_be_rescued() {
    let place = Place::new();
    let bytes = place.leave_changes("a.wal");
    place.make_anew();
    let error = place.open("a.wal", STRICT).unwrap_err();
    assert!(
        matches!(error, BlockError::LogOfAnotherLife { .. }),
        "{error:?}"
    );
    let new = place.view(ViewLog::Find(&[place.at("a.wal")])).unwrap();
    assert_same(&new, &[0; MIB as usize], "the new disk");
    let store = place.store();
    let made = recover(
        &store,
        &place.at("a.wal"),
        &name("saved"),
        None,
        LostRecords::Refuse,
    )
    .unwrap();
    assert_eq!((made.head.as_str(), made.blocks), ("disk", 1));
    let saved = coldframe_block::DiskImage::open(&store, &name("saved"), None).unwrap();
    let mut found = vec![0; PAGE as usize];
    saved.read_at(0, &mut found).unwrap();
    assert_same(&found, &bytes, "rescued");
    let again = recover(
        &store,
        &place.at("a.wal"),
        &name("saved"),
        None,
        LostRecords::Refuse,
    );
    assert!(matches!(again, Err(BlockError::Exists { .. })));
}

// Spec: BLK-26
#[test]
fn a_second_log_is_refused_while_the_first_has_changes_or_is_open() {
    let place = Place::new();
    let first = place.open("a.wal", STRICT).unwrap();
    let (path, found) = elsewhere(place.open("b.wal", STRICT));
    assert_eq!(path, place.at("a.wal"));
    assert!(matches!(found, LogFound::InUse), "{found:?}");
    drop(first);
    // Nothing was written: the store has all of that log, and another may follow.
    drop(place.open("b.wal", STRICT).unwrap());
    let bytes = place.leave_changes("b.wal");
    let (path, found) = elsewhere(place.open("c.wal", STRICT));
    assert_eq!(path, place.at("b.wal"));
    assert!(matches!(found, LogFound::Changes(1)), "{found:?}");
    // Its own log opens after any end.
    let own = place.open("b.wal", STRICT).unwrap();
    let mut found = vec![0; PAGE as usize];
    own.read_at(0, &mut found).unwrap();
    assert_same(&found, &bytes, "after a restart");
    own.close().unwrap();
    assert_eq!(place.store().log_note(&name("disk")).unwrap(), None);
    place.open("c.wal", STRICT).unwrap().close().unwrap();
}

// Spec: BLK-26
#[test]
fn a_log_that_is_gone_is_given_up_only_by_name() {
    let place = Place::new();
    place.leave_changes("a.wal");
    std::fs::rename(place.at("a.wal"), place.at("moved.wal")).unwrap();
    let (head, new) = (name("disk"), place.at("a.wal"));
    let missing = check_log(&place.store(), &head, Some(&new), None, OtherLog::Refuse);
    assert!(matches!(elsewhere(missing).1, LogFound::Missing));
    assert!(!new.exists(), "no log was made");
    assert!(matches!(
        elsewhere(place.open("a.wal", STRICT)).1,
        LogFound::Other
    ));
    // The log itself is enough, wherever it is.
    drop(place.open("moved.wal", STRICT).unwrap());
    let note = place.store().log_note(&head).unwrap().unwrap();
    assert_eq!(note.path(), place.at("moved.wal"));
    let abandon = DeviceOptions {
        other_log: OtherLog::Abandon,
        ..STRICT
    };
    let device = place.open("b.wal", abandon).unwrap();
    device.write_at(BLOCK, b"new").unwrap();
    device.close().unwrap();
    let error = place.open("moved.wal", STRICT).unwrap_err();
    assert!(matches!(error, BlockError::Diverged { .. }), "{error:?}");
    let store = place.store();
    recover(
        &store,
        &place.at("moved.wal"),
        &name("saved"),
        None,
        LostRecords::Refuse,
    )
    .unwrap();
}

// Spec: BLK-27
#[test]
fn what_only_reads_has_the_changes_of_the_log_and_changes_nothing() {
    let place = Place::new();
    let mut expected = vec![0; MIB as usize];
    expected[..PAGE as usize].copy_from_slice(&place.leave_changes("a.wal"));
    let log = place.at("a.wal");
    let before = std::fs::read(&log).unwrap();
    let tag = std::fs::read(place.at("store/tags/disk")).unwrap();
    assert_same(&place.view(ViewLog::Find(&[])).unwrap(), &expected, "noted");
    assert_same(
        &place.view(ViewLog::File(&log)).unwrap(),
        &expected,
        "named",
    );
    let stored = place.view(ViewLog::Ignore).unwrap();
    assert_same(&stored, &vec![0; MIB as usize], "without the log");
    // At another place, as on a copy that is mounted elsewhere.
    let moved = place.at("moved.wal");
    std::fs::rename(&log, &moved).unwrap();
    let (_, found) = elsewhere(place.view(ViewLog::Find(&[])));
    assert!(matches!(found, LogFound::Missing));
    let paths = [place.at("none"), moved.clone()];
    assert_same(
        &place.view(ViewLog::Find(&paths)).unwrap(),
        &expected,
        "found",
    );
    assert!(
        std::fs::read(&moved).unwrap() == before,
        "the log is as it was"
    );
    assert!(std::fs::read(place.at("store/tags/disk")).unwrap() == tag);
    let writer = place.open("moved.wal", STRICT).unwrap();
    let (_, found) = elsewhere(place.view(ViewLog::Find(&[])));
    assert!(matches!(found, LogFound::InUse), "{found:?}");
    writer.close().unwrap();
    assert_same(
        &place.view(ViewLog::Find(&[])).unwrap(),
        &expected,
        "closed",
    );
}

// Spec: BLK-26, BLK-28
#[test]
fn a_tag_with_an_unfolded_log_is_not_replaced_and_its_base_not_collected() {
    let place = Place::new();
    place.leave_changes("a.wal");
    let store = place.store();
    create(&store, &name("other"), ByteLen::new(MIB)).unwrap();
    let other = open_log(&place.at("o.wal"), ByteLen::new(MIB)).unwrap();
    let parts = DeviceParts {
        store: store.clone(),
        chunks: None,
        head: name("other"),
        log: other,
        base: None,
    };
    let other = BlockDevice::open(parts, STRICT).unwrap();
    let refused = other.checkpoint(&name("disk"), Overwrite::Replace);
    let is_unfolded = |error: &BlockError| match error {
        BlockError::Store { source } => matches!(source, StoreError::UnfoldedLog { .. }),
        _ => false,
    };
    assert!(refused.is_err_and(|error| is_unfolded(&error) && error.is_log_trouble()));
    other.close().unwrap();
    let at_once = CollectOptions {
        grace: std::time::Duration::ZERO,
        ..CollectOptions::USUAL
    };
    store.collect(at_once, &[]).unwrap();
    store.collect(at_once, &[]).unwrap();
    drop(place.open("a.wal", STRICT).unwrap());
    // Given up, removed and collected: then what the log is based on is gone, and named.
    let tag = store.tag(&name("disk")).unwrap().unwrap();
    let bare = store.set_log(&name("disk"), tag, tag.disk, None).unwrap();
    store.remove_tag(&name("disk"), bare).unwrap();
    let other = store.tag(&name("other")).unwrap().unwrap();
    store.remove_tag(&name("other"), other).unwrap();
    store.collect(at_once, &[]).unwrap();
    store.collect(at_once, &[]).unwrap();
    let lost = recover(
        &store,
        &place.at("a.wal"),
        &name("saved"),
        None,
        LostRecords::Refuse,
    )
    .unwrap_err();
    assert!(
        matches!(lost, BlockError::BaseLost { root } if root == tag.root),
        "{lost:?}"
    );
}

#[test]
fn what_is_no_log_of_a_disk_is_not_recovered() {
    let place = Place::new();
    let store = place.store();
    let recovered = |path: &Path| recover(&store, path, &name("saved"), None, LostRecords::Refuse);
    drop(open_log(&place.at("new.wal"), ByteLen::new(MIB)).unwrap());
    let empty = recovered(&place.at("new.wal"));
    assert!(matches!(empty, Err(BlockError::EmptyLog)), "{empty:?}");
    let none = recovered(&place.at("none.wal"));
    assert!(
        matches!(&none, Err(BlockError::LogFile { source }) if source.is_not_found()),
        "{none:?}"
    );
    std::fs::write(place.at("text"), vec![b'x'; 1 << 20]).unwrap();
    assert!(recovered(&place.at("text")).is_err());
    assert_eq!(store.tag(&name("saved")).unwrap(), None);
}

// Spec: BLK-26, BLK-27
#[test]
fn a_stale_copy_of_a_log_is_not_taken_for_the_log() {
    let place = Place::new();
    let mut expected = vec![0; MIB as usize];
    expected[..PAGE as usize].copy_from_slice(&place.leave_changes("a.wal"));
    std::fs::copy(place.at("a.wal"), place.at("copy.wal")).unwrap();
    // Both are the same as yet: each will do, and is the log from then on.
    drop(place.open("copy.wal", STRICT).unwrap());
    drop(place.open("a.wal", STRICT).unwrap());
    let writer = place.open("copy.wal", STRICT).unwrap();
    writer.write_at(BLOCK, &noise(8, PAGE)).unwrap();
    writer.flush().unwrap();
    expected[BLOCK as usize..][..PAGE as usize].copy_from_slice(&noise(8, PAGE));
    let abandon = DeviceOptions {
        other_log: OtherLog::Abandon,
        ..STRICT
    };
    for options in [STRICT, abandon] {
        let (path, found) = elsewhere(place.open("a.wal", options));
        assert_eq!(path, place.at("copy.wal"));
        assert!(matches!(found, LogFound::InUse), "{found:?}");
    }
    // Said before a log is made, or the one that is there is renamed.
    let (store, head, new) = (place.store(), name("disk"), place.at("new.wal"));
    let checked = check_log(&store, &head, Some(&new), None, OtherLog::Abandon);
    assert!(matches!(elsewhere(checked).1, LogFound::InUse));
    let default = [place.at("a.wal")];
    let (_, found) = elsewhere(place.view(ViewLog::Find(&default)));
    assert!(matches!(found, LogFound::InUse), "{found:?}");
    drop(writer);
    let (path, found) = elsewhere(place.open("a.wal", STRICT));
    assert_eq!(path, place.at("copy.wal"));
    assert!(matches!(found, LogFound::Changes(1)), "{found:?}");
    let (_, found) = elsewhere(place.view(ViewLog::File(&default[0])));
    assert!(matches!(found, LogFound::Changes(1)), "{found:?}");
    let found = place.view(ViewLog::Find(&default)).unwrap();
    assert_same(&found, &expected, "what was flushed");
    // Gone on with from the older one: as many records, and not the same.
    let writer = place.open("a.wal", abandon).unwrap();
    writer.write_at(2 * BLOCK, &noise(9, PAGE)).unwrap();
    drop(writer);
    let (path, found) = elsewhere(place.open("copy.wal", STRICT));
    assert_eq!(path, place.at("a.wal"));
    assert!(matches!(found, LogFound::Changes(1)), "{found:?}");
    // Moved, it is the log wherever it is.
    std::fs::rename(place.at("a.wal"), place.at("moved.wal")).unwrap();
    place.open("moved.wal", STRICT).unwrap().close().unwrap();
}

// Spec: BLK-26, BLK-27
#[test]
fn a_log_that_another_store_brought_in_is_not_taken_for_clean() {
    let place = Place::new();
    place.leave_changes("a.wal");
    let other = Place {
        dir: coldframe_testkit::scratch::on_disk(),
    };
    copy_dir(&place.at("store"), &other.at("store"));
    // The changes go where they were asked to go; this disk must not go on as if it had them.
    other
        .open_at(&place.at("a.wal"), TAKE)
        .unwrap()
        .close()
        .unwrap();
    let is_given_up = |(path, found): (PathBuf, LogFound)| {
        assert_eq!(path, place.at("a.wal"));
        assert!(matches!(found, LogFound::GivenUp), "{found:?}");
    };
    is_given_up(elsewhere(place.view(ViewLog::Find(&[place.at("a.wal")]))));
    is_given_up(elsewhere(place.view(ViewLog::File(&place.at("a.wal")))));
    is_given_up(elsewhere(place.open("b.wal", STRICT)));
    is_given_up(elsewhere(place.open("a.wal", STRICT)));
    let (store, new) = (place.store(), place.at("c.wal"));
    let checked = check_log(&store, &name("disk"), Some(&new), None, OtherLog::Refuse);
    is_given_up(elsewhere(checked));
    let abandon = DeviceOptions {
        other_log: OtherLog::Abandon,
        ..STRICT
    };
    place.open("b.wal", abandon).unwrap().close().unwrap();
    let found = place.view(ViewLog::Find(&[])).unwrap();
    assert_same(&found, &[0; MIB as usize], "given up by name");
}

// Spec: BLK-37
#[test]
fn a_copy_of_a_store_does_not_take_the_log_of_the_store() {
    let place = Place::new();
    let bytes = place.leave_disk("a.wal");
    let other = Place {
        dir: coldframe_testkit::scratch::on_disk(),
    };
    copy_dir(&place.at("store"), &other.at("store"));
    let log = place.at("a.wal");
    let refused = other.open_at(&log, STRICT).err().unwrap();
    let BlockError::LogOfOtherStore { store, .. } = &refused else {
        panic!("{refused:?}");
    };
    assert_eq!(*store, place.at("store").canonicalize().unwrap());
    assert!(refused.is_log_trouble());
    // Also where the log was moved to, and after any number of tries.
    let moved = place.at("moved.wal");
    std::fs::rename(&log, &moved).unwrap();
    let refused = other.open_at(&moved, STRICT).err().unwrap();
    assert!(matches!(refused, BlockError::LogOfOtherStore { .. }));
    std::fs::rename(&moved, &log).unwrap();
    // Reading takes nothing from anyone.
    assert_same(&other.view(ViewLog::File(&log)).unwrap(), &bytes, "read");
    // The store itself goes on, and so does a copy of both.
    let copy = other.at("a.wal");
    std::fs::copy(&log, &copy).unwrap();
    drop(other.open("a.wal", STRICT).unwrap());
    drop(place.open("a.wal", STRICT).unwrap());
    assert_same(
        &place.view(ViewLog::Find(&[])).unwrap(),
        &bytes,
        "left alone",
    );
}

// Spec: BLK-37
#[test]
fn a_store_that_was_moved_or_restored_goes_on_with_its_log() {
    let place = Place::new();
    let bytes = place.leave_disk("a.wal");
    let read = |place: &Place| place.view(ViewLog::Find(&[])).unwrap();
    // Renamed: the same directory elsewhere.
    let moved = Place {
        dir: coldframe_testkit::scratch::on_disk(),
    };
    let log = place.at("a.wal");
    std::fs::rename(place.at("store"), place.at("store-2")).unwrap();
    std::fs::rename(place.at("store-2"), place.at("store")).unwrap();
    drop(place.open("a.wal", STRICT).unwrap());
    // Copied to another disk, and the old one deleted.
    copy_dir(&place.at("store"), &moved.at("store"));
    std::fs::remove_dir_all(place.at("store")).unwrap();
    // It may be on a volume that is not mounted now.
    let is_away = |error: &BlockError| match error {
        BlockError::LogOfOtherStore { is_there, .. } => !is_there,
        _ => false,
    };
    let take = DeviceOptions {
        take_log: true,
        ..STRICT
    };
    let refused = moved.open_at(&log, STRICT).err().unwrap();
    assert!(is_away(&refused), "{refused}");
    // Its mount point is an empty directory then.
    std::fs::create_dir(place.at("store")).unwrap();
    let refused = moved.open_at(&log, STRICT).err().unwrap();
    assert!(refused.is_log_trouble(), "{refused}");
    std::fs::remove_dir(place.at("store")).unwrap();
    drop(moved.open_at(&log, take).unwrap());
    assert_same(&read(&moved), &bytes, "moved");
    // Restored from there to where it was: another directory, and that is the one now.
    copy_dir(&moved.at("store"), &place.at("store"));
    let refused = place.open("a.wal", STRICT).err().unwrap();
    assert!(matches!(refused, BlockError::LogOfOtherStore { .. }));
    std::fs::remove_dir_all(moved.at("store")).unwrap();
    assert!(is_away(&place.open("a.wal", STRICT).err().unwrap()));
    drop(place.open("a.wal", take).unwrap());
    drop(place.open("a.wal", STRICT).unwrap());
    assert_same(&read(&place), &bytes, "restored");
}

// Spec: BLK-27, BLK-37
#[test]
fn a_store_that_was_moved_does_not_take_an_older_copy_of_its_log() {
    let place = Place::new();
    place.leave_changes("a.wal");
    let older = place.at("older.wal");
    std::fs::copy(place.at("a.wal"), &older).unwrap();
    let writer = place.open("a.wal", STRICT).unwrap();
    writer.write_at(BLOCK, &noise(8, PAGE)).unwrap();
    writer.flush().unwrap();
    drop(writer);
    // Another directory: nothing is where the log says that its store is.
    let moved = Place {
        dir: coldframe_testkit::scratch::on_disk(),
    };
    copy_dir(&place.at("store"), &moved.at("store"));
    std::fs::remove_dir_all(place.at("store")).unwrap();
    let (path, found) = elsewhere(moved.open_at(&older, STRICT));
    assert_eq!(path, place.at("a.wal"));
    assert!(matches!(found, LogFound::Changes(1)), "{found:?}");
    let (_, found) = elsewhere(moved.view(ViewLog::File(&older)));
    assert!(matches!(found, LogFound::Changes(1)), "{found:?}");
}

// Spec: BLK-37
#[test]
fn a_copy_of_a_store_shows_what_was_copied_and_not_what_the_store_writes_later() {
    let place = Place::new();
    let bytes = place.leave_disk("a.wal");
    let other = Place {
        dir: coldframe_testkit::scratch::on_disk(),
    };
    copy_dir(&place.at("store"), &other.at("store"));
    let copied = other.at("a.wal");
    std::fs::copy(place.at("a.wal"), &copied).unwrap();
    let paths = [copied.clone()];
    let shown = |what: &str| {
        let read = other.view(ViewLog::Find(&paths)).unwrap();
        assert_same(&read, &bytes, what);
    };
    let device = place.open("a.wal", STRICT).unwrap();
    device.write_at(PAGE, &noise(8, PAGE)).unwrap();
    device.flush().unwrap();
    shown("while the store uses its log");
    drop(device);
    shown("after");
    // By name too: the log of the store is not taken for a newer state of the copy.
    let read = other.view(ViewLog::File(&copied)).unwrap();
    assert_same(&read, &bytes, "by name");
    // Without its own log nothing is known of the copy.
    let store = place.at("store").canonicalize().unwrap();
    for is_there in [true, false] {
        match other.view(ViewLog::Find(&[])) {
            Err(BlockError::LogOfOtherStore {
                store: of,
                is_there: there,
                ..
            }) => assert_eq!((of, there), (store.clone(), is_there)),
            found => panic!("{:?}", found.map(|bytes| bytes.len())),
        }
        if is_there {
            std::fs::rename(&store, place.at("away")).unwrap();
        }
    }
    std::fs::rename(place.at("away"), &store).unwrap();
    // Nor does the copy need to wait until nobody uses the store, to go on without those changes.
    let used = place.open("a.wal", STRICT).unwrap();
    let refused = other.open("new.wal", STRICT).err().unwrap();
    assert!(
        matches!(refused, BlockError::LogOfOtherStore { .. }),
        "{refused}"
    );
    let check = |how| check_log(&other.store(), &name("disk"), None, None, how);
    let refused = check(OtherLog::Refuse).unwrap_err();
    assert!(
        matches!(refused, BlockError::LogOfOtherStore { .. }),
        "{refused}"
    );
    check(OtherLog::Abandon).unwrap();
    drop(used);
    let disk = other.open("a.wal", STRICT).unwrap();
    disk.write_at(PAGE, &noise(9, PAGE)).unwrap();
    disk.close().unwrap();
    let both = [noise(7, PAGE), noise(8, PAGE)].concat();
    let read = place.view(ViewLog::Find(&[])).unwrap();
    assert_same(&read[..2 * PAGE as usize], &both, "of the store");
    let both = [noise(7, PAGE), noise(9, PAGE)].concat();
    let read = other.view(ViewLog::Find(&[])).unwrap();
    assert_same(&read[..2 * PAGE as usize], &both, "of the copy");
}

// Spec: BLK-37
#[test]
fn a_store_that_gave_its_log_up_does_not_keep_a_copy_from_it() {
    let place = Place::new();
    let bytes = place.leave_disk("a.wal");
    let other = Place {
        dir: coldframe_testkit::scratch::on_disk(),
    };
    copy_dir(&place.at("store"), &other.at("store"));
    let abandon = DeviceOptions {
        other_log: OtherLog::Abandon,
        ..STRICT
    };
    place.open("b.wal", abandon).unwrap().close().unwrap();
    drop(other.open_at(&place.at("a.wal"), STRICT).unwrap());
    let log = place.at("a.wal");
    assert_same(&other.view(ViewLog::File(&log)).unwrap(), &bytes, "taken");
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (entry, kind) = entry
            .map(|entry| (entry.path(), entry.file_type()))
            .unwrap();
        let to = to.join(entry.file_name().unwrap());
        match kind.unwrap().is_dir() {
            true => copy_dir(&entry, &to),
            false => drop(std::fs::copy(&entry, &to).unwrap()),
        }
    }
}

// Spec: BLK-27
#[test]
fn a_disk_is_read_as_it_is_when_its_server_stops_meanwhile() {
    let dir = coldframe_testkit::scratch::on_disk();
    let path = dir.path().join("a.wal");
    let (store, backend) = new_store();
    create(&store, &name("disk"), ByteLen::new(MIB)).unwrap();
    let expected = noise(7, MIB);
    for with in [ViewLog::Find(&[]), ViewLog::File(&path)] {
        let parts = DeviceParts {
            store: store.clone(),
            chunks: None,
            head: name("disk"),
            log: open_log(&path, ByteLen::new(4 * MIB)).unwrap(),
            base: None,
        };
        let device = BlockDevice::open(parts, STRICT).unwrap();
        device.write_at(0, &expected).unwrap();
        device.flush().unwrap();
        backend.after_tag_read(move || assert!(device.close().unwrap().blocks > 0));
        let view = DiskView::open(&store, &name("disk"), None, with).unwrap();
        let out = MemStorage::new();
        export_view(&view, &out, &mut |_| {}).unwrap();
        assert_same(&out.to_vec(), &expected, "what was acknowledged");
        drop(view);
        // And zeros again, so that the next one must have what it finds from the log.
        let parts = DeviceParts {
            store: store.clone(),
            chunks: None,
            head: name("disk"),
            log: open_log(&path, ByteLen::new(4 * MIB)).unwrap(),
            base: None,
        };
        let device = BlockDevice::open(parts, STRICT).unwrap();
        device.discard(0, MIB).unwrap();
        device.close().unwrap();
    }
}

/// Flips a bit of what the log has of these bytes.
fn damage(log: &Path, bytes: &[u8]) {
    let mut file = std::fs::read(log).unwrap();
    let at = file.windows(64).position(|part| part == &bytes[..64]);
    file[at.unwrap() + 70] ^= 1;
    std::fs::write(log, file).unwrap();
}

fn repair(log: &Path) {
    let open = || FileStorage::open(log).unwrap();
    let region = Region::whole(open().len().unwrap()).unwrap();
    let reader = RingWal::open_read_only(open(), region).unwrap();
    let plan = reader.check().unwrap();
    drop(reader);
    RingWal::repair(open(), region, &plan).unwrap();
}

// Spec: BLK-28, BLK-29
#[test]
fn records_that_a_repair_gave_up_are_missed_by_all_who_open_the_log() {
    let place = Place::new();
    let device = place.open("a.wal", STRICT).unwrap();
    for number in 0..3 {
        let bytes = noise(number, PAGE);
        device.write_at(number * BLOCK, &bytes).unwrap();
        device.flush().unwrap();
    }
    drop(device);
    let log = place.at("a.wal");
    damage(&log, &noise(0, PAGE));
    let store = place.store();
    for new in ["damaged", "repaired"] {
        let (_, found) = elsewhere(place.view(ViewLog::Find(&[])));
        assert!(matches!(found, LogFound::Unreadable(_)), "{found:?}");
        let refused = place.open("a.wal", STRICT).unwrap_err();
        assert!(
            refused.is_corrupt() && refused.is_unusable_log(),
            "{refused:?}"
        );
        let refused = recover(&store, &log, &name(new), None, LostRecords::Refuse);
        assert!(
            matches!(refused, Err(BlockError::LogDamaged { .. })),
            "{refused:?}"
        );
        let before = std::fs::read(&log).unwrap();
        let made = recover(&store, &log, &name(new), None, LostRecords::Accept).unwrap();
        assert_eq!((made.lost_records, made.blocks), (1, 2));
        assert!(
            std::fs::read(&log).unwrap() == before,
            "the log is as it was"
        );
        let disk = coldframe_block::DiskImage::open(&store, &name(new), None).unwrap();
        for number in 1..3 {
            let mut found = vec![0; PAGE as usize];
            disk.read_at(number * BLOCK, &mut found).unwrap();
            assert_same(&found, &noise(number, PAGE), "sound");
        }
        repair(&log);
    }
}

// Spec: BLK-26, BLK-27
#[test]
fn the_log_of_a_tag_that_can_name_none_is_not_passed_over() {
    let place = Place::new();
    let mut expected = vec![0; MIB as usize];
    let bytes = place.leave_changes("a.wal");
    expected[..PAGE as usize].copy_from_slice(&bytes);
    // As versions before wrote it.
    let (store, head) = (place.store(), name("disk"));
    let tag = store.tag(&head).unwrap().unwrap();
    store.set_log(&head, tag, None, None).unwrap();
    let (usual, other) = (place.at("a.wal"), place.at("b.wal"));
    let paths = [usual.clone()];
    let find = || place.view(ViewLog::Find(&paths));
    let check = |path: &Path, other| check_log(&store, &head, Some(path), Some(&usual), other);
    assert_same(&find().unwrap(), &expected, "found at its usual place");
    check(&usual, OtherLog::Refuse).unwrap();
    let (path, found) = elsewhere(check(&other, OtherLog::Refuse));
    assert_eq!(path, usual);
    assert!(matches!(found, LogFound::Changes(1)), "{found:?}");
    check(&other, OtherLog::Abandon).unwrap();
    let in_use = open_log(&usual, ByteLen::new(MIB)).unwrap();
    assert!(matches!(elsewhere(find()).1, LogFound::InUse));
    for given_up in [OtherLog::Refuse, OtherLog::Abandon] {
        assert!(matches!(
            elsewhere(check(&other, given_up)).1,
            LogFound::InUse
        ));
    }
    drop(in_use);
    // A later record says that the damaged one was durable.
    let device = place.open("a.wal", STRICT).unwrap();
    device.write_at(BLOCK, &bytes).unwrap();
    device.flush().unwrap();
    drop(device);
    let tag = store.tag(&head).unwrap().unwrap();
    store.set_log(&head, tag, None, None).unwrap();
    damage(&usual, &bytes);
    assert!(find().unwrap_err().is_corrupt());
    let (_, found) = elsewhere(check(&other, OtherLog::Refuse));
    assert!(matches!(found, LogFound::Unreadable(_)), "{found:?}");
    check(&other, OtherLog::Abandon).unwrap();
    // One of another disk is of no concern.
    std::fs::remove_file(&usual).unwrap();
    create(&store, &name("other"), ByteLen::new(MIB)).unwrap();
    let parts = DeviceParts {
        store: store.clone(),
        chunks: None,
        head: name("other"),
        log: open_log(&usual, ByteLen::new(MIB)).unwrap(),
        base: None,
    };
    let device = BlockDevice::open(parts, STRICT).unwrap();
    device.write_at(0, &noise(9, PAGE)).unwrap();
    drop(device);
    assert_same(&find().unwrap(), &[0; MIB as usize], "of another disk");
    check(&other, OtherLog::Refuse).unwrap();
}

#[test]
fn a_log_that_is_too_small_is_not_made() {
    let place = Place::new();
    let log = place.at("a.wal");
    let refused = open_log(&log, ByteLen::new(16 << 10)).unwrap_err();
    assert!(
        matches!(refused, BlockError::LogTooSmall { .. }),
        "{refused:?}"
    );
    assert!(!log.exists());
    place.leave_changes("a.wal");
}
