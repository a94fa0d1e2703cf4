//! Power cuts, by enumeration: what was flushed is there, in order, and nothing else is.

use std::sync::Arc;

use coldframe_journal::Durability;
use coldframe_testkit::crash::{CrashStorage, HostOp, Op, SECTOR_512, Trace, explore, planted};
use coldframe_units::ByteLen;

use super::cached::CachedJournal;
use super::sample::{Note, Writer, note, notes, notes_in, options};
use super::world::{Journal, JournalFile};

// Spec: JRNL-5, JRNL-16
// Parity: F46, F52
#[test]
fn power_cut_leaves_what_was_flushed() {
    explore("journal, flush", 4000, &Journal::new(None));
}

// Spec: JRNL-15, JRNL-16
#[test]
fn power_cut_leaves_what_was_flushed_into_zeros_written_ahead() {
    let mut world = Journal::new(None);
    world.options.preallocate = ByteLen::new(2048);
    explore("journal, zeros ahead", 4000, &world);
    world.options.durability = Durability::Each;
    explore("journal, zeros ahead, sync each", 2000, &world);
}

// Spec: JRNL-17
#[test]
fn power_cut_leaves_the_file_before_a_compaction_or_behind_it() {
    explore(
        "journal, file and compaction",
        2000,
        &JournalFile { plant: |_| () },
    );
}

// Spec: JRNL-11, JRNL-16, JRNL-21
#[test]
fn what_was_found_after_a_failed_sync_survives_any_cut() {
    let lazy = false;
    let mut options = options();
    explore(
        "journal, page cache",
        12_000,
        &CachedJournal { options, lazy },
    );
    options.preallocate = ByteLen::new(2048);
    options.durability = Durability::Each;
    let world = CachedJournal { options, lazy };
    explore("journal, page cache, sync each", 12_000, &world);
}

#[test]
fn planted_page_cache_bytes_taken_for_durable_are_found() {
    let (options, lazy) = (options(), true);
    let world = CachedJournal { options, lazy };
    planted(
        "journal: page cache bytes taken for durable",
        50_000,
        &world,
    );
}

// Spec: JRNL-5
// Parity: F44
#[test]
fn power_cut_during_recovery_is_recovered_from() {
    let bytes = notes(9, false).0;
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

#[test]
fn planted_a_flush_that_is_none_is_found() {
    planted(
        "journal: flush without a sync",
        20_000,
        &Journal::new(Some(|_| true)),
    );
}

#[test]
fn planted_records_behind_a_header_that_is_not_durable_are_found() {
    // The first sync of all is that of the header.
    let lie: fn(&[Op]) -> bool = |ops| ops.len() == 1;
    let world = Journal::new(Some(lie));
    planted(
        "journal: records before the header is durable",
        50_000,
        &world,
    );
}

#[test]
fn planted_a_compaction_that_is_renamed_before_it_is_synced_is_found() {
    let plant = |trace: &mut Trace| {
        trace.leave_out(|_, op| matches!(op, HostOp::Sync { node, .. } if *node != 0));
    };
    planted(
        "journal: no sync before the rename",
        20_000,
        &JournalFile { plant },
    );
}
