//! A journal that compacts itself: beside the writer, safely, and as often as it was told to.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use coldframe_journal::kinds::CoreEntries;
use coldframe_journal::{
    CompactWhen, Compacting, EntryRef, JournalReader, JournalWriter, Scope, Sink, apply_memory,
    core_scope,
};
use coldframe_storage::MemStorage;
use coldframe_testkit::child;
use coldframe_testkit::rng::Rng;
use coldframe_units::ByteLen;

use super::compaction::region;
use super::sample::{All, Writer, note, options, read_notes};

const IMAGE: usize = 512;

fn image_of(path: &Path) -> Vec<u8> {
    let mut reader = JournalReader::<CoreEntries>::open(path).unwrap();
    let image = MemStorage::from_vec(vec![0; IMAGE]);
    assert!(apply_memory(&mut reader, &image).unwrap().end.is_clean());
    image.into_vec()
}

// Spec: JRNL-17, JRNL-18
// Parity: F50
#[test]
fn state_stays_and_the_file_stays_short_by_each_trigger() {
    let none = CompactWhen::default();
    for when in [
        CompactWhen {
            entries: Some(200),
            ..none
        },
        CompactWhen {
            growth: Some(ByteLen::new(16 * 1024)),
            ..none
        },
        CompactWhen {
            factor: Some(2),
            ..none
        },
    ] {
        let dir = coldframe_testkit::scratch::on_disk();
        let path = dir.path().join("journal");
        let writer = JournalWriter::<CoreEntries>::create(&path, options()).unwrap();
        let mut journal = Compacting::new(writer, when, core_scope);
        let mut expected = vec![0; IMAGE];
        let mut rng = Rng::new(3);
        let mut longest = 0;
        for round in 0..6000_u64 {
            let start = rng.below(IMAGE as u64 - 64) as usize;
            let fill = round as u8 | 1;
            expected[start..start + 64].fill(fill);
            journal.append(&region(start as u64, 64, fill)).unwrap();
            if round % 500 == 499 {
                // So that a slow machine's compaction is done before the next one is due.
                while !journal.is_idle() {
                    std::thread::sleep(Duration::from_millis(1));
                    journal.tend();
                }
            }
            longest = longest.max(journal.writer().end().get());
        }
        assert!(journal.compactions() >= 3, "{when:?}");
        assert!(journal.take_failure().is_none());
        assert!(longest < 400_000, "{longest} bytes, {when:?}");
        assert!(journal.last().unwrap().entries_after < 400, "{when:?}");
        journal.close().unwrap();
        assert_eq!(image_of(&path), expected);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}

// Spec: JRNL-17
// Parity: D47, F50
#[test]
fn appends_go_on_while_a_compaction_runs() {
    let dir = coldframe_testkit::scratch::on_disk();
    let path = dir.path().join("journal");
    let writer = Writer::create(&path, options()).unwrap();
    let (go, wait) = mpsc::channel::<()>();
    let wait = Arc::new(Mutex::new(wait));
    let scope = move |_: &EntryRef<'_>| {
        // Until the other end is gone: the compaction cannot be done before that.
        let _ = wait.lock().unwrap().recv();
        Scope::Keep
    };
    let when = CompactWhen {
        entries: Some(10),
        ..CompactWhen::default()
    };
    let mut journal = Compacting::new(writer, when, scope);
    for at in 0..60 {
        Sink::<All>::append(&mut journal, &note(at)).unwrap();
    }
    Sink::<All>::flush(&mut journal).unwrap();
    assert_eq!((journal.compactions(), journal.is_idle()), (0, false));
    let mut reader = JournalReader::<All>::open(&path).unwrap();
    assert_eq!(read_notes(&mut reader).0, (0..60).collect::<Vec<_>>());
    drop(go);
    journal.close().unwrap();
    assert!(reader.is_replaced());
    let mut reader = JournalReader::<All>::open(&path).unwrap();
    let (found, end) = read_notes(&mut reader);
    assert_eq!(found, (0..60).collect::<Vec<_>>());
    assert!(end.is_clean());
}

// Spec: JRNL-17
// Parity: F50
#[test]
fn closing_compacts_if_told_to() {
    let dir = coldframe_testkit::scratch::on_disk();
    let path = dir.path().join("journal");
    let writer = JournalWriter::<CoreEntries>::create(&path, options()).unwrap();
    let when = CompactWhen {
        on_close: true,
        ..CompactWhen::default()
    };
    let mut journal = Compacting::new(writer, when, core_scope);
    for fill in 1..50 {
        journal.append(&region(0, 64, fill)).unwrap();
    }
    journal.close().unwrap();
    let (writer, recovered) = JournalWriter::<CoreEntries>::open(&path, options()).unwrap();
    assert_eq!((recovered.entries, recovered.sealed), (1, true));
    drop(writer);
    assert_eq!(image_of(&path)[..64], [49; 64]);
}

// Spec: JRNL-17
// Parity: D47
#[test]
fn a_compaction_that_fails_costs_no_entry_and_is_not_tried_at_once_again() {
    let dir = coldframe_testkit::scratch::on_disk();
    let (here, moved) = (dir.path().join("here"), dir.path().join("moved"));
    std::fs::create_dir(&here).unwrap();
    let path = here.join("journal");
    let writer = Writer::create(&path, options()).unwrap();
    let when = CompactWhen {
        entries: Some(10),
        ..CompactWhen::default()
    };
    let mut journal = Compacting::new(writer, when, |_: &EntryRef<'_>| Scope::Keep);
    // There is no place for the new file any more.
    std::fs::rename(&here, &moved).unwrap();
    let mut failures = 0;
    for at in 0..60 {
        Sink::<All>::append(&mut journal, &note(at)).unwrap();
        failures += u32::from(journal.take_failure().is_some());
    }
    assert_eq!((failures, journal.compactions()), (5, 0));
    journal.close().unwrap();
    let mut reader = JournalReader::<All>::open(&moved.join("journal")).unwrap();
    assert_eq!(read_notes(&mut reader).0, (0..60).collect::<Vec<_>>());
    assert_eq!(std::fs::read_dir(&moved).unwrap().count(), 1);
}

const INNER: &str = "COLDFRAME_TEST_COMPACT_FOR_EVER";

/// Appends and compacts until it is killed; says each number that is durable.
fn append_for_ever(path: &Path) -> ! {
    let (writer, recovered) = Writer::open(path, options()).unwrap();
    let when = CompactWhen {
        entries: Some(7),
        ..CompactWhen::default()
    };
    let mut journal = Compacting::new(writer, when, |_: &EntryRef<'_>| Scope::Keep);
    for at in recovered.entries.. {
        Sink::<All>::append(&mut journal, &note(at)).unwrap();
        Sink::<All>::flush(&mut journal).unwrap();
        println!("durable {at}");
        std::io::stdout().flush().unwrap();
    }
    unreachable!("it is killed before it has counted so far")
}

// Spec: JRNL-16, JRNL-17
// Parity: F50
#[test]
fn what_was_flushed_is_there_whenever_a_compacting_process_is_killed() {
    if let Some(path) = std::env::var_os(INNER) {
        append_for_ever(Path::new(&path));
    }
    let dir = coldframe_testkit::scratch::on_disk();
    let path = dir.path().join("journal");
    drop(Writer::create(&path, options()).unwrap());
    let mut rng = Rng::new(11);
    let mut durable = None;
    for round in 0..12 {
        let name = "compacting::\
                    what_was_flushed_is_there_whenever_a_compacting_process_is_killed";
        let mut child = child::command(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", name])
            .env(INNER, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut told = 0;
        for line in lines.map_while(Result::ok) {
            // The harness's own words may stand before ours.
            let Some((_, number)) = line.rsplit_once("durable ") else {
                continue;
            };
            durable = Some(number.parse::<u64>().unwrap());
            told += 1;
            if told == 10 {
                std::thread::sleep(Duration::from_micros(rng.below(3000)));
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(told >= 10, "round {round}: {told}");
        let mut reader = JournalReader::<All>::open(&path).unwrap();
        let (found, end) = read_notes(&mut reader);
        assert!(end.is_clean() || end.is_torn(), "round {round}: {end}");
        assert_eq!(found, (0..found.len() as u64).collect::<Vec<_>>());
        assert!(found.len() as u64 > durable.unwrap(), "round {round}");
    }
}
