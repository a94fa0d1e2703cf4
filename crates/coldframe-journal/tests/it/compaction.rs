//! Compaction: the same state before and after, whatever is written meanwhile.

use std::path::Path;

use coldframe_journal::kinds::{CoreEntries, MemoryRegion, SnapshotMark, Trigger};
use coldframe_journal::{
    CompactWhen, EntryRef, JournalReader, JournalWriter, Scope, apply_memory, compact, core_scope,
};
use coldframe_storage::MemStorage;
use coldframe_testkit::rng::Rng;
use coldframe_units::ByteLen;

use super::sample::options;

type Core = JournalWriter<CoreEntries>;

const IMAGE: usize = 512;

pub fn region(start: u64, len: usize, fill: u8) -> MemoryRegion {
    MemoryRegion {
        ram_offset: start,
        bytes: vec![fill; len],
    }
}

pub fn mark(progress: u64) -> SnapshotMark {
    SnapshotMark {
        progress,
        unix_ns: 0,
        snapshot: [progress as u8; 16],
        trigger: Trigger::Explicit,
    }
}

fn image_of(path: &Path) -> Vec<u8> {
    let mut reader = JournalReader::<CoreEntries>::open(path).unwrap();
    let image = MemStorage::from_vec(vec![0; IMAGE]);
    assert!(apply_memory(&mut reader, &image).unwrap().end.is_clean());
    image.into_vec()
}

fn starts(path: &Path) -> Vec<u64> {
    let mut starts = Vec::new();
    let mut reader = JournalReader::<CoreEntries>::open(path).unwrap();
    reader
        .read_all(|entry| {
            if entry.is::<MemoryRegion>() {
                starts.push(entry.decode::<MemoryRegion>().unwrap().ram_offset);
            }
            Ok::<(), coldframe_journal::JournalError>(())
        })
        .unwrap();
    starts
}

fn compact_now(writer: &mut Core) -> (u64, u64) {
    let rewritten = writer.begin_compaction().unwrap().run(core_scope).unwrap();
    let done = writer.adopt(rewritten).unwrap();
    (done.entries_before, done.entries_after)
}

// Spec: JRNL-18
// Parity: D53, F50, F51
#[test]
fn random_regions_rebuild_the_same_image_after_compaction() {
    let mut rng = Rng::new(7);
    for _ in 0..30 {
        let dir = coldframe_testkit::scratch::on_disk();
        let path = dir.path().join("journal");
        let mut writer = Core::create(&path, options()).unwrap();
        for round in 0..60 {
            let start = rng.below(IMAGE as u64);
            let len = rng.below(IMAGE as u64 - start + 1).min(rng.below(200) + 1);
            writer
                .append(&region(start, len as usize, round as u8 + 1))
                .unwrap();
        }
        writer.flush().unwrap();
        let before = image_of(&path);
        let (entries, kept) = compact_now(&mut writer);
        assert_eq!(entries, 60);
        assert!(kept < 60);
        assert_eq!(image_of(&path), before);
        assert_eq!(compact_now(&mut writer), (kept, kept));
        assert_eq!(image_of(&path), before);
    }
}

// Spec: JRNL-18
// Parity: D49, F51
#[test]
fn identical_ranges_keep_the_last_and_others_stay() {
    let dir = coldframe_testkit::scratch::on_disk();
    let path = dir.path().join("journal");
    let mut writer = Core::create(&path, options()).unwrap();
    for (start, len) in [(0, 16), (16, 16), (8, 16), (100, 8), (0, 16), (96, 16)] {
        writer.append(&region(start, len, start as u8)).unwrap();
    }
    compact_now(&mut writer);
    // The first 0..16 is identical to a later one; 100..108 lies inside 96..112.
    assert_eq!(starts(&path), [16, 8, 0, 96]);
}

// Spec: JRNL-17
// Parity: F50, F66
#[test]
fn what_is_appended_during_a_compaction_is_kept() {
    let dir = coldframe_testkit::scratch::on_disk();
    let path = dir.path().join("journal");
    let mut writer = Core::create(&path, options()).unwrap();
    for _ in 0..100 {
        writer.append(&region(0, 64, 1)).unwrap();
    }
    let compaction = writer.begin_compaction().unwrap();
    let runs = std::thread::spawn(move || compaction.run(core_scope));
    for start in 0..20 {
        writer.append(&region(start * 8 + 64, 8, 2)).unwrap();
    }
    let done = writer.adopt(runs.join().unwrap().unwrap()).unwrap();
    assert_eq!((done.entries_before, done.entries_after), (100, 1));
    writer.append(&region(400, 8, 3)).unwrap();
    writer.flush().unwrap();
    assert_eq!(starts(&path).len(), 22);
    assert_eq!(writer.entries(), 22);
    // The lock went along.
    assert!(Core::open(&path, options()).err().unwrap().is_locked());
    drop(writer);
    assert_eq!(Core::open(&path, options()).unwrap().1.entries, 22);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

// Spec: JRNL-17
#[test]
fn abandoned_compaction_leaves_nothing() {
    let dir = coldframe_testkit::scratch::on_disk();
    let path = dir.path().join("journal");
    let mut writer = Core::create(&path, options()).unwrap();
    writer.append(&region(0, 64, 1)).unwrap();
    let rewritten = writer.begin_compaction().unwrap().run(core_scope).unwrap();
    drop(rewritten);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    assert_eq!(starts(&path), [0]);
}

// Spec: JRNL-17
// Parity: F50
#[test]
fn triggers_go_by_entries_growth_factor_and_close() {
    let dir = coldframe_testkit::scratch::on_disk();
    let path = dir.path().join("journal");
    let mut writer = Core::create(&path, options()).unwrap();
    let none = CompactWhen::default();
    let entries = CompactWhen {
        entries: Some(3),
        ..none
    };
    let growth = CompactWhen {
        growth: Some(ByteLen::new(1000)),
        ..none
    };
    let close = CompactWhen {
        on_close: true,
        ..none
    };
    assert!(!close.is_due(&writer, true));
    for count in 1..=20 {
        writer.append(&region(0, 64, 1)).unwrap();
        assert_eq!(entries.is_due(&writer, false), count >= 3);
        assert_eq!(growth.is_due(&writer, false), writer.end().get() >= 1112);
        assert!(!none.is_due(&writer, true) && !close.is_due(&writer, false));
        assert!(close.is_due(&writer, true));
    }
    compact_now(&mut writer);
    for when in [entries, growth, close] {
        assert!(!when.is_due(&writer, true));
    }
}

#[test]
fn latest_of_each_key_is_kept_and_dropped_entries_go() {
    let (storage, mut writer) = super::sample::fresh();
    for at in 0..20 {
        writer.append(&super::sample::note(at)).unwrap();
    }
    writer.append(&super::sample::Tick).unwrap();
    writer.flush().unwrap();
    let scope = |entry: &EntryRef<'_>| match entry.decode::<super::sample::Note>() {
        Ok(note) => Scope::Latest {
            class: 1,
            key: vec![note.at as u8 % 5],
        },
        Err(_) => Scope::Drop,
    };
    let (compacted, mut sink) = super::sample::fresh();
    let mut source = super::sample::reader_of::<super::sample::All>(&storage.to_vec());
    let done = compact(&mut source, &mut sink, scope).unwrap();
    assert_eq!((done.entries_before, done.entries_after), (21, 5));
    sink.flush().unwrap();
    let found = super::sample::notes_in(&compacted.to_vec()).0;
    assert_eq!(found, [15, 16, 17, 18, 19]);
}
