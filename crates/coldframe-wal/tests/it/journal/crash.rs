//! Power cuts, by enumeration: what was flushed is there, in order, and nothing else is.

use std::sync::Arc;

use coldframe_testkit::crash::{CrashStorage, SECTOR_4K, SECTOR_512};
use coldframe_testkit::rng::Rng;
use coldframe_units::ByteLen;
use coldframe_wal::journal::{Batch, Durability, JournalOptions};

use super::sample::{Blob, Note, Writer, note, notes_in, options, reopen};

/// What was durable at a moment: operations so far, and notes flushed by then.
struct Moment {
    operations: usize,
    flushed: u64,
}

fn run(seed: u64, options: JournalOptions) -> (Arc<CrashStorage>, Vec<Moment>, Vec<Vec<u64>>) {
    let storage = Arc::new(CrashStorage::new(Vec::new()));
    let mut writer = Writer::create_in(storage.clone(), options).unwrap();
    let (mut rng, mut next) = (Rng::new(seed), 0);
    let mut moments = Vec::new();
    let mut batches = Vec::new();
    for _ in 0..12 {
        match rng.below(4) {
            0 => {
                let mut batch = Batch::new();
                let count = rng.below(4) + 2;
                for _ in 0..count {
                    batch.push(&note(next)).unwrap();
                    next += 1;
                }
                batches.push((next - count..next).collect());
                writer.commit(&batch).unwrap();
            }
            1 => {
                let bytes = rng.bytes(700);
                writer.append(&Blob { bytes }).unwrap();
            }
            _ => {
                writer.append(&note(next)).unwrap();
                next += 1;
            }
        }
        let mut flushed = moments.last().map_or(0, |moment: &Moment| moment.flushed);
        moments.push(Moment {
            operations: storage.operations() - 1,
            flushed,
        });
        if options.durability == Durability::Each || rng.below(3) == 0 {
            writer.flush().unwrap();
            flushed = next;
        }
        moments.push(Moment {
            operations: storage.operations(),
            flushed,
        });
    }
    (storage, moments, batches)
}

fn check(seed: u64, options: JournalOptions) {
    let (storage, moments, batches) = run(seed, options);
    for moment in &moments {
        for sector in [SECTOR_512, SECTOR_4K] {
            for image in storage.crash_states_at(moment.operations, sector, seed, 24) {
                check_image(&image, moment.flushed, &batches);
            }
        }
    }
}

fn check_image(image: &[u8], flushed: u64, batches: &[Vec<u64>]) {
    let (found, end) = notes_in(image);
    let count = found.len() as u64;
    assert_eq!(found, (0..count).collect::<Vec<_>>(), "not a prefix");
    assert!(
        count >= flushed,
        "{flushed} were flushed, {count} are there: {end}"
    );
    assert!(end.is_clean() || end.is_torn(), "{end}");
    for batch in batches {
        let there = batch.iter().filter(|at| **at < count).count();
        assert!(there == 0 || there == batch.len(), "half a batch");
    }
    // Recovery is repeatable, and what is appended after it is visible.
    let (again, mut writer, _) = reopen(image).unwrap();
    writer.append(&note(count)).unwrap();
    writer.flush().unwrap();
    let (found, end) = notes_in(&again.to_vec());
    assert_eq!(found.len() as u64, count + 1);
    assert!(end.is_clean(), "{end}");
    assert_eq!(
        writer.entries(),
        reopen(&again.to_vec()).unwrap().1.entries()
    );
}

// Spec: JRNL-5, JRNL-16
#[test]
fn power_cut_leaves_what_was_flushed() {
    for seed in 0..12 {
        check(seed, options());
    }
}

// Spec: JRNL-15, JRNL-16
#[test]
fn power_cut_leaves_what_was_flushed_into_zeros_written_ahead() {
    let mut options = options();
    options.preallocate = ByteLen::new(2048);
    for seed in 20..28 {
        check(seed, options);
    }
    options.durability = Durability::Each;
    check(40, options);
}

// Spec: JRNL-5
#[test]
fn power_cut_during_recovery_is_recovered_from() {
    let (storage, _, _) = run(3, options());
    let bytes = storage.image();
    for cut in (bytes.len() - 300)..bytes.len() {
        let torn = Arc::new(CrashStorage::new(bytes[..cut].to_vec()));
        let before = notes_in(&bytes[..cut]).0;
        let (mut writer, _) = Writer::open_in(torn.clone(), options()).unwrap();
        writer.append(&note(before.len() as u64)).unwrap();
        for moment in 0..=torn.operations() {
            for image in torn.crash_states_at(moment, SECTOR_512, 1, 8) {
                let (found, end) = notes_in(&image);
                assert!(found.starts_with(&before), "cut {cut}");
                assert!(end.is_clean() || end.is_torn(), "{end}");
            }
        }
    }
}

#[test]
fn notes_of_the_sample_differ() {
    assert_ne!(note(1), Note { at: 1, ..note(2) });
}
