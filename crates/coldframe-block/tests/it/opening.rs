//! Opening: which logs go with which tags.

use std::sync::Arc;

use coldframe_block::{BlockDevice, BlockError, Record, open_log};
use coldframe_ring::{RingError, RingOptions, RingWal};
use coldframe_storage::MemStorage;
use coldframe_units::ByteLen;

use crate::support::{
    CALM, MIB, PAGE, Rig, all, all_of, name, new_log, noise, open, parts, read, region,
};

// Spec: BLK-20
// Parity: D25
#[test]
fn what_the_index_has_is_not_replayed_over_what_is_newer() {
    let rig = Rig::new(MIB, MIB, CALM);
    let device = rig.open();
    device.write_at(0, &noise(1, PAGE)).unwrap();
    device.fold().unwrap();
    let folded = Arc::new(MemStorage::from_vec(rig.log.to_vec()));
    // A newer state, by way of another log that begins on the same tag.
    drop(device);
    let device = open(&rig.store, new_log(MIB), CALM).unwrap();
    device.write_at(0, &noise(2, PAGE)).unwrap();
    device.close().unwrap();
    // The old log has nothing that the tag lacks: it begins anew, and replays nothing.
    let device = open(&rig.store, folded, CALM).unwrap();
    assert_eq!(read(&device, 0, PAGE), noise(2, PAGE));
    device.write_at(PAGE, b"more").unwrap();
    device.close().unwrap();
    assert_eq!(read(&rig.open(), PAGE, 4), b"more");
}

// Spec: BLK-20, BLK-21
#[test]
fn opening_again_and_again_changes_nothing() {
    let rig = Rig::new(MIB, MIB, CALM);
    let device = rig.open();
    device.write_at(5, &noise(1, 3 * PAGE)).unwrap();
    device.write_zeroes(PAGE, PAGE).unwrap();
    let bytes = all(&device);
    drop(device);
    for _ in 0..5 {
        let device = rig.open();
        assert!(all(&device) == bytes);
        assert!(
            device.stat().log.pending >= 2,
            "nothing is given up by opening"
        );
    }
    rig.open().close().unwrap();
    assert!(all_of(&rig.image("disk")) == bytes);
    assert_eq!(
        rig.open().stat().log.pending,
        1,
        "the record that names the index"
    );
}

// Spec: BLK-21
#[test]
fn a_log_with_changes_is_taken_only_with_the_tag_and_the_index_that_it_is_of() {
    let rig = Rig::new(MIB, MIB, CALM);
    coldframe_block::create(&rig.store, &name("other"), ByteLen::new(MIB)).unwrap();
    let device = rig.open();
    device.write_at(0, b"x").unwrap();
    drop(device);
    let other = parts(&rig.store, "other", Arc::clone(&rig.log)).unwrap();
    let error = BlockDevice::open(other, CALM).unwrap_err();
    assert!(matches!(error, BlockError::LogOfAnother { ref found, .. } if found == "disk"));
    let newer = open(&rig.store, new_log(MIB), CALM).unwrap();
    newer.write_at(PAGE, b"y").unwrap();
    newer.close().unwrap();
    let error = rig.try_open().unwrap_err();
    assert!(matches!(error, BlockError::Diverged { .. }), "{error:?}");
}

#[test]
fn a_log_is_open_once() {
    let dir = coldframe_testkit::scratch::on_disk();
    let path = dir.path().join("disk.wal");
    let first = open_log(&path, ByteLen::new(MIB)).unwrap();
    let error = open_log(&path, ByteLen::new(MIB)).unwrap_err();
    assert!(matches!(
        error,
        BlockError::Log {
            source: RingError::Locked { .. }
        }
    ));
    drop(first);
    open_log(&path, ByteLen::new(5 * MIB)).unwrap();
    assert_eq!(
        std::fs::metadata(&path).unwrap().len(),
        MIB,
        "what is there stays"
    );
    let names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
    assert_eq!(names.len(), 1, "no temporary file is left");
    // Somebody's file is not written over.
    let image = dir.path().join("image");
    std::fs::write(&image, vec![7; 1 << 16]).unwrap();
    assert!(open_log(&image, ByteLen::new(MIB)).is_err());
    assert!(std::fs::read(&image).unwrap() == vec![7; 1 << 16]);
    // Nor is an empty one made a log, which somebody may have put there for something else.
    std::fs::write(&image, []).unwrap();
    let error = open_log(&image, ByteLen::new(MIB)).unwrap_err();
    let BlockError::Log { source } = &error else {
        panic!("{error:?}");
    };
    assert!(
        source.to_string().contains("has 0 bytes and is no log"),
        "{source}"
    );
}

// Spec: BLK-40
#[test]
fn records_that_make_no_sense_are_refused_by_sequence() {
    let rig = Rig::new(MIB, MIB, CALM);
    drop(rig.open());
    let write = |record: &[u8]| {
        let storage = Arc::new(MemStorage::from_vec(rig.log.to_vec()));
        let options = RingOptions::SYNC_EACH;
        let log = RingWal::open(Arc::clone(&storage), region(MIB), options).unwrap();
        let sequence = log.append(record).unwrap();
        log.close().unwrap();
        (storage, sequence)
    };
    let mut outside = Vec::new();
    let data = &[7; PAGE as usize];
    Record::Write { at: MIB, data }.encode(&mut outside);
    for record in [&outside[..], b"", b"rubbish, but long enough for a head"] {
        let (log, number) = write(record);
        let error = open(&rig.store, log, CALM).unwrap_err();
        assert!(matches!(error, BlockError::Record { sequence, .. } if sequence == number));
    }
    let (log, _) = (new_log(MIB), ());
    let bare = RingWal::open(Arc::clone(&log), region(MIB), RingOptions::SYNC_EACH).unwrap();
    let mut zero = Vec::new();
    Record::Zero { at: 0, len: PAGE }.encode(&mut zero);
    bare.append(&zero).unwrap();
    drop(bare);
    let error = open(&rig.store, log, CALM).unwrap_err();
    assert!(
        matches!(error, BlockError::Record { .. }),
        "changes on top of nothing: {error:?}"
    );
}

// A directory of mode 0300 may be entered and written to, and not listed.
#[test]
fn a_log_is_made_and_opened_in_a_directory_that_cannot_be_read() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = coldframe_testkit::scratch::on_disk();
    let drop_box = dir.path().join("box");
    std::fs::create_dir(&drop_box).unwrap();
    let set = |mode| {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(&drop_box, mode).unwrap();
    };
    set(0o300);
    let opened = [0, 1].map(|_| open_log(&drop_box.join("a.wal"), ByteLen::new(MIB)).map(drop));
    set(0o700);
    if cfg!(target_os = "linux") {
        assert!(opened.iter().all(Result::is_ok), "{opened:?}");
    }
}
