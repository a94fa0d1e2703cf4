//! The bytes of the note, which stay as they are.

#![allow(clippy::unwrap_used)]

use super::*;

// Spec: BLK-37
#[test]
fn the_note_has_the_bytes_that_every_release_reads() {
    let noted = Attachment {
        log: (0x0102, 0x0304),
        store: (0x0506, 0x0708),
        path: PathBuf::from("/srv/chunks"),
    };
    let mut bytes = vec![1, 0, 0, 0, 0, 0, 0, 0];
    for number in [0x0102_u64, 0x0304, 0x0506, 0x0708] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.extend_from_slice(b"/srv/chunks");
    assert_eq!(noted.encode(), bytes);
    assert_eq!(Attachment::decode(&bytes), Some(noted));
    for at in 0..8 {
        let mut other = bytes.clone();
        other[at] ^= 2;
        assert_eq!(Attachment::decode(&other), None, "another version");
    }
    assert!((0..40).all(|len| Attachment::decode(&bytes[..len]).is_none()));
}

// Spec: BLK-37
#[test]
fn a_device_number_that_changed_makes_no_other_log_and_no_other_store() {
    let dir = coldframe_testkit::scratch::on_disk();
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    let now = |path: &PathBuf| {
        std::fs::create_dir_all(path).unwrap();
        number(&path.metadata().unwrap())
    };
    let own = |path: &PathBuf| Attachment {
        log: (7, 70),
        store: now(path),
        path: path.clone(),
    };
    // As before the host started again: other devices, the same inodes.
    let before = |path: &PathBuf| {
        let own = own(path);
        Attachment {
            log: (8, own.log.1),
            store: (own.store.0 + 1, own.store.1),
            ..own
        }
    };
    assert!(before(&one).may_be_of_another(&own(&two)));
    assert!(!before(&one).may_be_of_another(&own(&one)));
    // Another file: a copy of both.
    let copied = Attachment {
        log: (7, 71),
        ..own(&two)
    };
    assert!(!before(&one).may_be_of_another(&copied));
    let noted = before(&one);
    let own_two = own(&two);
    std::fs::remove_dir(&one).unwrap();
    assert!(noted.may_be_of_another(&own_two), "moved, or not mounted");
    // The same directory at another path.
    let here = own(&two);
    let moved = dir.path().join("moved");
    std::fs::rename(&two, &moved).unwrap();
    assert!(!here.may_be_of_another(&own(&moved)));
}
