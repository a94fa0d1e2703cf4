//! The crash simulator: what it keeps, what it may lose.

mod flaws;
mod host;

use std::collections::BTreeSet;

use coldframe_storage::Storage;
use coldframe_testkit::crash::{CrashDir, CrashStorage, Op, SECTOR_4K, SECTOR_512};
use coldframe_units::{ByteLen, FileOffset};

fn write(storage: &CrashStorage, offset: u64, bytes: &[u8]) {
    storage.write_at(FileOffset::new(offset), bytes).unwrap();
}

fn states(storage: &CrashStorage, sector: usize) -> BTreeSet<Vec<u8>> {
    storage.crash_states(sector, 1, 1 << 14).collect()
}

// Spec: CRASH-1
#[test]
fn synced_bytes_are_in_every_state() {
    let storage = CrashStorage::new(vec![1; 1024]);
    write(&storage, 100, b"durable");
    storage.sync_data().unwrap();
    write(&storage, 600, b"maybe");
    for state in states(&storage, SECTOR_512) {
        assert_eq!(&state[100..107], b"durable");
        assert_eq!(state[599], 1);
        assert_eq!(state[605], 1);
    }
}

// Spec: CRASH-2
#[test]
fn a_write_tears_where_sectors_meet_and_nowhere_else() {
    let storage = CrashStorage::new(vec![0; 8192]);
    write(&storage, 508, &[7; 8]);
    let torn: Vec<u8> = [vec![0; 508], vec![7; 4], vec![0; 7680]].concat();
    assert!(states(&storage, SECTOR_512).contains(&torn));
    assert!(!states(&storage, SECTOR_4K).contains(&torn));
}

// Spec: CRASH-2
#[test]
fn a_later_write_may_last_without_an_earlier_one() {
    let storage = CrashStorage::new(vec![0; 1024]);
    write(&storage, 0, b"first");
    write(&storage, 512, b"second");
    let states = states(&storage, SECTOR_512);
    assert!(
        states
            .iter()
            .any(|s| s[..5] == [0; 5] && &s[512..518] == b"second")
    );
    assert!(
        states
            .iter()
            .any(|s| &s[..5] == b"first" && s[512..518] == [0; 6])
    );
}

// Spec: CRASH-4
#[test]
fn a_length_is_lost_like_a_write() {
    let storage = CrashStorage::new(Vec::new());
    storage.set_len(ByteLen::new(512)).unwrap();
    assert_eq!(
        states(&storage, SECTOR_512),
        BTreeSet::from([vec![], vec![0; 512]])
    );
    storage.sync_data().unwrap();
    assert_eq!(states(&storage, SECTOR_512), BTreeSet::from([vec![0; 512]]));
}

// Spec: CRASH-7
#[test]
fn few_sectors_are_tried_in_all_ways_and_many_within_the_budget() {
    let storage = CrashStorage::new(vec![0; 64 * 512]);
    write(&storage, 0, &[1; 2048]);
    let few = storage.crash_states(SECTOR_512, 1, 1000);
    assert!(few.is_exhaustive());
    // All combinations with three fills, and some that end in the middle of a sector.
    assert_eq!(few.count(), 3 * 16 + 8);
    write(&storage, 2048, &[1; 60 * 512]);
    let many = storage.crash_states(SECTOR_512, 1, 1000);
    assert!(!many.is_exhaustive());
    let images: Vec<_> = many.collect();
    assert_eq!(images.len(), 1000);
    assert!(images.contains(&vec![0; 64 * 512]) && images.contains(&vec![1; 64 * 512]));
}

#[test]
fn any_earlier_moment_can_be_cut() {
    let storage = CrashStorage::new(vec![0; 512]);
    write(&storage, 0, b"a");
    let moment = storage.operations();
    storage.sync_data().unwrap();
    write(&storage, 0, b"b");
    let seen: BTreeSet<u8> = storage
        .crash_states_at(moment, SECTOR_512, 1, 100)
        .map(|state| state[0])
        .collect();
    assert!(seen.contains(&b'a') && seen.contains(&0) && !seen.contains(&b'b'));
    assert_eq!(storage.history()[1], Op::Sync);
}

// Spec: CRASH-5
// Parity: D6
#[test]
fn a_rename_is_lost_without_a_sync_of_the_directory() {
    let dir = CrashDir::new();
    let file = dir.create("new.tmp");
    write(&file, 0, b"content");
    file.sync_data().unwrap();
    dir.sync_dir();
    dir.rename("new.tmp", "final");
    let names = |states: &[std::collections::BTreeMap<String, Vec<u8>>]| -> BTreeSet<String> {
        states
            .iter()
            .flat_map(|state| state.keys().cloned())
            .collect()
    };
    let states = dir.crash_states(SECTOR_512, 1, 10);
    assert_eq!(
        names(&states),
        BTreeSet::from(["final".into(), "new.tmp".into()])
    );
    dir.sync_dir();
    let states = dir.crash_states(SECTOR_512, 1, 10);
    assert_eq!(names(&states), BTreeSet::from(["final".into()]));
    assert!(states.iter().all(|state| state["final"] == b"content"));
}

#[test]
fn a_name_may_last_without_the_content() {
    let dir = CrashDir::new();
    let file = dir.create("new.tmp");
    write(&file, 0, b"content");
    dir.rename("new.tmp", "final");
    dir.sync_dir();
    let states = dir.crash_states(SECTOR_512, 1, 10);
    assert!(states.iter().any(|state| state["final"].is_empty()));
    assert_eq!(dir.open("final").unwrap().image(), b"content");
    dir.remove("final");
    assert!(dir.open("final").is_none());
}
