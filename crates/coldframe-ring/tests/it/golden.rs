//! The notes beside the control blocks, as the first release wrote them.

use std::sync::Arc;

use coldframe_ring::{RingOptions, RingWal};
use coldframe_storage::{MemStorage, Storage};
use coldframe_testkit::golden::{assert_golden, golden};
use coldframe_units::FileOffset;

use crate::sample::region;

const USER_NOTE: &str = "tests/golden/v1/user_note.bin";
const USER_NOTE_AT: FileOffset = FileOffset::new(1024);
const NOTE: &[u8] = b"/srv/store/wal/root.wal";

fn log(storage: &Arc<MemStorage>) -> RingWal<Arc<MemStorage>> {
    RingWal::create(Arc::clone(storage), region(512), RingOptions::SYNC_EACH).unwrap()
}

// Spec: RING-72, CONV-4
#[test]
fn a_user_note_is_the_golden_and_is_read_from_it() {
    let storage = Arc::new(MemStorage::new());
    log(&storage).set_note(NOTE).unwrap();
    let mut bytes = vec![0; 24 + NOTE.len()];
    storage.read_at(USER_NOTE_AT, &mut bytes).unwrap();
    assert_golden(USER_NOTE, &bytes);

    let storage = Arc::new(MemStorage::new());
    let log = log(&storage);
    assert_eq!(log.note(), None);
    storage.write_at(USER_NOTE_AT, &golden(USER_NOTE)).unwrap();
    assert_eq!(log.note().as_deref(), Some(NOTE));
}
