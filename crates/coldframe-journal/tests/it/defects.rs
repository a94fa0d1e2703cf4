//! What the typed journal before ours got wrong, each as a test: the numbers are those of
//! `xtask/parity.md`.

use std::sync::Arc;

use coldframe_journal::kinds::CoreEntries;
use coldframe_journal::{
    Batch, CompactWhen, End, JournalReader, JournalWriter, Next, Scope, Sink, Source, Transaction,
    apply_memory, compact, core_scope,
};
use coldframe_storage::{MemStorage, Storage};
use coldframe_testkit::crash::{CrashStorage, SECTOR_512};
use coldframe_testkit::fault::{Fault, FaultStorage};
use coldframe_units::FileOffset;

use super::compaction::{mark, region};
use super::sample::{
    All, Blob, Note, Writer, fresh, note, notes, notes_in, options, read_notes, reader_of, reopen,
};

// Spec: JRNL-16
// Parity: D39
#[test]
fn d39_flush_syncs_so_that_a_power_cut_takes_nothing() {
    let storage = Arc::new(CrashStorage::new(Vec::new()));
    let mut writer = Writer::create_in(storage.clone(), options()).unwrap();
    for at in 0..4 {
        writer.append(&note(at)).unwrap();
    }
    writer.flush().unwrap();
    for image in storage.crash_states(SECTOR_512, 1, 64) {
        assert_eq!(notes_in(&image).0, [0, 1, 2, 3]);
    }
}

// Spec: JRNL-11
// Parity: D40
#[test]
fn d40_what_is_appended_after_a_torn_tail_is_visible() {
    let (bytes, _) = notes(3, false);
    for cut in 1..40 {
        let (storage, mut writer, torn) = reopen(&bytes[..bytes.len() - cut]).unwrap();
        assert!(torn > 0);
        writer.append(&note(2)).unwrap();
        writer.flush().unwrap();
        assert_eq!(notes_in(&storage.to_vec()).0, [0, 1, 2]);
    }
}

// Spec: JRNL-4, JRNL-5
// Parity: D41
#[test]
fn d41_cut_and_rotten_records_are_ends_and_never_panics() {
    let (bytes, spans) = notes(3, true);
    assert!(
        notes_in(&bytes[..spans[2].end.get() as usize - 1])
            .1
            .is_torn()
    );
    let mut rotten = bytes.clone();
    rotten[spans[1].start.get() as usize + 40] ^= 1;
    let (found, end) = notes_in(&rotten);
    assert_eq!(found, [0]);
    assert!(matches!(end, End::Corrupt { offset, .. } if offset == spans[1].start));
    // A size field of 2^48 - 1 asks for no memory.
    let mut hostile = bytes;
    let size = spans[0].start.get() as usize + 2;
    hostile[size..size + 6].fill(0xff);
    assert!(matches!(notes_in(&hostile).1, End::Corrupt { .. }));
}

// Spec: JRNL-16
// Parity: D42
#[test]
fn d42_failed_write_does_not_shift_what_follows() {
    let storage = Arc::new(FaultStorage::new(MemStorage::new(), &[]));
    let mut writer = Writer::create_in(storage.clone(), options()).unwrap();
    let first = writer.append(&note(0)).unwrap();
    storage.inject(Fault::FullAt(FileOffset::new(first.end.get() + 50)));
    let bytes = vec![1; 500];
    assert!(writer.append(&Blob { bytes }).is_err());
    storage.heal();
    let second = writer.append(&note(1)).unwrap();
    assert_eq!(second.start, first.end);
    assert_eq!(notes_in(&storage.inner().to_vec()).0, [0, 1]);
}

// Spec: JRNL-6, JRNL-9
// Parity: D43, F47
#[test]
fn d43_joined_journals_of_any_length_stay_aligned() {
    for count in 0..6 {
        let (a, _) = notes(count, count % 2 == 0);
        assert!(a.len().is_multiple_of(16));
        let (b, _) = notes(2, true);
        let mut reader = reader_of::<All>(&[a, b].concat());
        while let Next::Entry(entry) = reader.read().unwrap() {
            assert!(entry.payload().as_ptr().addr().is_multiple_of(16));
            entry.archived::<Note>().unwrap();
        }
        reader.restart().unwrap();
        let expected: Vec<_> = (0..count).chain(0..2).collect();
        assert_eq!(read_notes(&mut reader).0, expected);
    }
}

// Spec: JRNL-12
// Parity: D44, F56
#[test]
fn d44_read_only_open_writes_nothing_even_to_an_empty_file() {
    let (bytes, _) = notes(2, false);
    for content in [Vec::new(), bytes[..bytes.len() - 5].to_vec(), vec![0; 50]] {
        let storage = Arc::new(FaultStorage::new(
            MemStorage::from_vec(content.clone()),
            &[],
        ));
        let mut reader = JournalReader::<All>::from_storage(storage.clone()).unwrap();
        read_notes(&mut reader);
        reader.resume().unwrap();
        reader.restart().unwrap();
        let counts = storage.counts();
        assert_eq!((counts.writes, counts.syncs), (0, 0));
        assert_eq!(storage.inner().to_vec(), content);
    }
    let dir = coldframe_testkit::scratch::on_disk();
    let path = dir.path().join("empty");
    std::fs::write(&path, []).unwrap();
    let mut reader = JournalReader::<All>::open(&path).unwrap();
    assert!(read_notes(&mut reader).1.is_clean());
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
}

fn core() -> (Arc<MemStorage>, JournalWriter<CoreEntries>) {
    let storage = Arc::new(MemStorage::new());
    let writer = JournalWriter::create_in(storage.clone(), options()).unwrap();
    (storage, writer)
}

fn image(bytes: &[u8], to_mark: Option<u64>) -> Vec<u8> {
    let mut reader = reader_of::<CoreEntries>(bytes);
    let mut image = vec![0; 256];
    while let Next::Entry(entry) = reader.read().unwrap() {
        use coldframe_journal::kinds::{MemoryRegion, SnapshotMark};
        if let Ok(region) = entry.decode::<MemoryRegion>() {
            let start = region.ram_offset as usize;
            image[start..start + region.bytes.len()].copy_from_slice(&region.bytes);
        }
        let mark = entry.decode::<SnapshotMark>().ok();
        if to_mark.is_some() && mark.map(|mark| mark.progress) == to_mark {
            break;
        }
    }
    image
}

fn compacted(bytes: &[u8]) -> (Vec<u8>, u64) {
    let (storage, mut sink) = core();
    let mut source = reader_of::<CoreEntries>(bytes);
    let done = compact(&mut source, &mut sink, core_scope).unwrap();
    sink.flush().unwrap();
    (storage.to_vec(), done.entries_after)
}

// Spec: JRNL-18
// Parity: D45
#[test]
fn d45_compacting_twice_is_compacting_once() {
    let (storage, mut writer) = core();
    for at in 0..20 {
        writer.append(&region(at % 7 * 16, 24, at as u8)).unwrap();
    }
    let bytes = storage.to_vec();
    let (once, kept) = compacted(&bytes);
    let (twice, again) = compacted(&once);
    assert_eq!(kept, again);
    assert_eq!(image(&once, None), image(&bytes, None));
    assert_eq!(image(&twice, None), image(&bytes, None));
}

// Spec: JRNL-17
// Parity: D46
#[test]
fn d46_reader_of_a_replaced_file_is_told_and_misses_nothing() {
    let dir = coldframe_testkit::scratch::on_disk();
    let path = dir.path().join("journal");
    let mut writer = Writer::create(&path, options()).unwrap();
    writer.append(&note(0)).unwrap();
    let mut reader = JournalReader::<All>::open(&path).unwrap();
    writer.append(&note(1)).unwrap();
    let rewritten = writer
        .begin_compaction()
        .unwrap()
        .run(|_| Scope::Keep)
        .unwrap();
    writer.append(&note(2)).unwrap();
    assert!(!reader.is_replaced());
    writer.adopt(rewritten).unwrap();
    writer.append(&note(3)).unwrap();
    assert!(reader.is_replaced());
    reader.refresh().unwrap();
    assert_eq!(read_notes(&mut reader).0, [0, 1, 2]);
    let mut reader = JournalReader::<All>::open(&path).unwrap();
    assert_eq!(read_notes(&mut reader).0, [0, 1, 2, 3]);
    assert!(!reader.is_replaced());
}

// Spec: JRNL-17
// Parity: D47
#[test]
fn d47_factor_is_not_due_on_a_new_journal_nor_again_at_once() {
    let dir = coldframe_testkit::scratch::on_disk();
    let path = dir.path().join("journal");
    let mut writer = JournalWriter::<CoreEntries>::create(&path, options()).unwrap();
    let factor = Some(2);
    let when = CompactWhen {
        factor,
        ..CompactWhen::default()
    };
    let mut appended = 0;
    while !when.is_due(&writer, false) {
        writer.append(&region(0, 1000, 1)).unwrap();
        appended += 1;
    }
    assert!(appended > 100, "due after {appended} entries");
    let rewritten = writer.begin_compaction().unwrap().run(core_scope).unwrap();
    writer.adopt(rewritten).unwrap();
    writer.append(&region(0, 1000, 1)).unwrap();
    assert!(!when.is_due(&writer, false));
}

// Spec: JRNL-18
// Parity: D48
#[test]
fn d48_entries_that_no_rule_supersedes_are_never_lost() {
    let (storage, mut writer) = core();
    let input = coldframe_journal::kinds::ClockRead {
        progress: 1,
        nanoseconds: 2,
        clock: 3,
        vcpu: 0,
    };
    for _ in 0..5 {
        writer.append(&input).unwrap();
        writer.append(&region(0, 8, 1)).unwrap();
    }
    assert_eq!(compacted(&storage.to_vec()).1, 6);
}

// Spec: JRNL-18
// Parity: D49
#[test]
fn d49_memory_behind_the_last_mark_supersedes_nothing_before_it() {
    let (storage, mut writer) = core();
    writer.append(&region(0, 64, 1)).unwrap();
    writer.append(&mark(1)).unwrap();
    writer.append(&region(0, 64, 2)).unwrap();
    writer.append(&region(32, 64, 3)).unwrap();
    writer.append(&mark(2)).unwrap();
    writer.append(&region(0, 128, 4)).unwrap();
    let bytes = storage.to_vec();
    let (after, kept) = compacted(&bytes);
    // The first region and the first mark went.
    assert_eq!(kept, 4);
    assert_eq!(image(&after, Some(2)), image(&bytes, Some(2)));
    assert_eq!(image(&after, None), image(&bytes, None));
}

// Spec: JRNL-10
// Parity: D50, F52
#[test]
fn d50_commit_that_fails_anywhere_leaves_nothing_and_can_be_repeated() {
    for fit in 0..300 {
        let storage = Arc::new(FaultStorage::new(MemStorage::new(), &[]));
        let mut writer = Writer::create_in(storage.clone(), options()).unwrap();
        writer.append(&note(0)).unwrap();
        let end = writer.end().get();
        storage.inject(Fault::FullAt(FileOffset::new(end + fit)));
        let mut transaction = Transaction::<All, _>::new(&mut writer);
        for at in 1..5 {
            transaction.append(&note(at)).unwrap();
        }
        if let Err(_full) = transaction.finish() {
            assert_eq!(notes_in(&storage.inner().to_vec()).0, [0]);
            storage.heal();
            let (count, _) = transaction.finish().unwrap();
            assert_eq!(count, 4);
        }
        assert_eq!(notes_in(&storage.inner().to_vec()).0, [0, 1, 2, 3, 4]);
        assert_eq!(writer.entries(), 5);
    }
}

// Spec: JRNL-10
// Parity: D50
#[test]
fn d50_batched_entries_have_places_of_their_own() {
    let (_, mut writer) = fresh();
    let mut batch = Batch::<All>::new();
    for at in 0..4 {
        batch.push(&note(at)).unwrap();
    }
    let record = writer.commit(&batch).unwrap();
    let spans: Vec<_> = batch.spans(record).collect();
    assert!(spans.windows(2).all(|pair| pair[0].end == pair[1].start));
    assert_eq!(spans[3].end, record.end);
}

// Spec: JRNL-10
// Parity: D51
#[test]
fn d51_dropped_transaction_leaves_nothing_open() {
    let (storage, mut writer) = fresh();
    let end = writer.end();
    let mut transaction = Transaction::<All, _>::new(&mut writer);
    transaction.append(&note(0)).unwrap();
    drop(transaction);
    assert_eq!(writer.end(), end);
    assert!(notes_in(&storage.to_vec()).0.is_empty());
}

// Spec: JRNL-20
// Parity: D52
#[test]
fn d52_image_keeps_its_length_and_refuses_what_does_not_fit() {
    let (storage, mut writer) = core();
    writer.append(&region(0, 8, 1)).unwrap();
    writer.append(&region(12, 8, 2)).unwrap();
    let target = MemStorage::from_vec(vec![0; 16]);
    let mut reader = reader_of::<CoreEntries>(&storage.to_vec());
    assert!(apply_memory(&mut reader, &target).is_err());
    assert_eq!(target.len().unwrap().get(), 16);
    assert_eq!(target.to_vec()[8..], [0; 8]);
}

// Spec: JRNL-18
// Parity: D53, F51
#[test]
fn d53_overlapping_adjacent_and_disjoint_regions_are_kept() {
    for (regions, kept) in [
        (vec![(0, 16), (8, 16)], 2),
        (vec![(0, 16), (16, 16)], 2),
        (vec![(0, 16), (100, 16)], 2),
        (vec![(0, 16), (0, 16)], 1),
        (vec![(4, 8), (0, 16)], 1),
        (vec![(0, 16), (0, 8), (8, 8)], 2),
        (vec![(0, 16), (4, 0)], 1),
    ] {
        let (storage, mut writer) = core();
        for (fill, (start, len)) in regions.iter().enumerate() {
            writer
                .append(&region(*start, *len, fill as u8 + 1))
                .unwrap();
        }
        let bytes = storage.to_vec();
        let (after, count) = compacted(&bytes);
        assert_eq!(count, kept, "{regions:?}");
        assert_eq!(image(&after, None), image(&bytes, None));
    }
}

// Spec: JRNL-5, JRNL-11
// Parity: D66
#[test]
fn d66_damaged_tail_is_dropped_as_a_short_one_is() {
    let (bytes, spans) = notes(3, false);
    for at in spans[2].start.get() as usize..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0xff;
        let (storage, _, torn) = reopen(&damaged).unwrap();
        assert_eq!(torn, spans[2].end.get() - spans[2].start.get());
        assert_eq!(notes_in(&storage.to_vec()).0, [0, 1]);
    }
    // An entry without bytes is an entry.
    let (storage, mut writer) = fresh();
    writer.append(&super::sample::Tick).unwrap();
    let mut reader = reader_of::<All>(&storage.to_vec());
    assert!(reader.advance().unwrap().is_none());
    assert!(reader.current().unwrap().payload().is_empty());
}

// A directory of mode 0300 may be entered and written to, and not listed.
#[test]
fn a_journal_is_made_and_opened_in_a_directory_that_cannot_be_read() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = coldframe_testkit::scratch::on_disk();
    let drop_box = dir.path().join("box");
    std::fs::create_dir(&drop_box).unwrap();
    let set = |mode| {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(&drop_box, mode).unwrap();
    };
    set(0o300);
    let path = drop_box.join("journal");
    let made = JournalWriter::<CoreEntries>::create(&path, options());
    let made = made.and_then(JournalWriter::close);
    let opened = JournalWriter::<CoreEntries>::open(&path, options()).map(drop);
    set(0o700);
    if cfg!(target_os = "linux") {
        made.unwrap();
        opened.unwrap();
    }
}
