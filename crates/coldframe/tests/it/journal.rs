//! `journal stat|dump`: a typed journal in a file, whatever became of it.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use coldframe_journal::kinds::{ClockRead, CoreEntries, Deleted};
use coldframe_journal::{Entry, EntrySet, JournalOptions, JournalWriter, Schema, Span, TypeId};
use serde_json::Value;

use crate::support::{Home, Outcome, changed, coldframe, json_of, keys, run_on};

/// Another program: it has an entry of its own, and one of coldframe's.
enum Theirs {}

const THEIRS: TypeId = TypeId::must_understand(0x1234);

impl EntrySet for Theirs {
    const SCHEMA: Schema = Schema::new("their");
    const TYPES: &'static [TypeId] = &[THEIRS, Deleted::TYPE];
}

fn clock(progress: u64) -> ClockRead {
    ClockRead {
        progress,
        nanoseconds: 1000 + progress,
        clock: 0,
        vcpu: 0,
    }
}

/// A journal of `count` clock reads, each flushed, and where each stands.
fn clocks(path: &Path, count: u64, close: bool) -> Vec<Span> {
    let options = JournalOptions::new().unwrap();
    let mut writer = JournalWriter::<CoreEntries>::create(path, options).unwrap();
    let mut spans = Vec::new();
    for progress in 0..count {
        spans.push(writer.append(&clock(progress)).unwrap());
        writer.flush().unwrap();
    }
    if close {
        writer.close().unwrap();
    }
    spans
}

fn journal(verb: &str, path: &Path, more: &[&str]) -> Outcome {
    run_on("journal", verb, path, more)
}

#[track_caller]
fn json(verb: &str, path: &Path, code: i32) -> Value {
    json_of("journal", verb, path, code)
}

/// The progress of each entry of a dump.
fn progress(dump: &Value) -> Vec<u64> {
    let entries = dump["entries"].as_array().unwrap();
    let progress = |entry: &Value| entry["progress"].as_u64().unwrap();
    entries.iter().map(progress).collect()
}

/// A recorded demonstration: `full` and `diff-1`, and their journal.
fn recording(home: &Home) -> PathBuf {
    let dir = home.at("d");
    let demo = ["demo", "--record", "--ram", "16MiB", "--diffs", "1"];
    let mut args: Vec<&dyn AsRef<OsStr>> = demo.iter().map(|arg| arg as _).collect();
    args.extend([
        &"--backend" as &dyn AsRef<OsStr>,
        &"simulated",
        &"--dir",
        &dir,
    ]);
    coldframe(&args).done();
    dir
}

#[test]
fn a_recording_is_described() {
    let home = Home::new();
    let dir = recording(&home);
    let path = dir.join("journal");
    let report = json("stat", &path, 0);
    assert_eq!(
        keys(&report),
        [
            "damages",
            "end",
            "end_offset",
            "entries",
            "file",
            "kinds",
            "parts",
            "sealed",
            "torn_bytes",
            "unreadable",
            "verdict"
        ]
    );
    assert_eq!(
        (&report["verdict"], &report["end"]),
        (&"sound".into(), &"clean".into())
    );
    assert_eq!(report["sealed"], true);
    assert_eq!(report["end_offset"], fs::metadata(&path).unwrap().len());
    let part = &report["parts"][0];
    assert_eq!(
        keys(part),
        ["offset", "part_id", "producer", "schema", "version"]
    );
    assert_eq!(
        (&part["schema"], &part["version"]),
        (&"minivmm".into(), &"1.0".into())
    );
    for (kind, count) in [("begin", 1), ("guest_end", 1), ("snapshot_mark", 2)] {
        assert_eq!(report["kinds"][kind], count, "{report:#}");
    }
    assert!(
        report["kinds"]["clock_read"].as_u64().unwrap() > 0,
        "{report:#}"
    );
}

#[test]
fn a_recording_is_printed_in_its_own_words() {
    let home = Home::new();
    let dir = recording(&home);
    let path = dir.join("journal");
    let report = json("stat", &path, 0);
    let dump = json("dump", &path, 0);
    let entries = dump["entries"].as_array().unwrap();
    assert_eq!(report["entries"], entries.len());
    assert_eq!(
        (&entries[0]["kind"], &entries[0]["type"]),
        (&"begin".into(), &"0x9001".into())
    );
    assert_eq!(entries[0]["offset"], 112);
    let end = entries.last().unwrap();
    assert_eq!(end["kind"], "guest_end");
    assert_eq!(end["ram_blake3"].as_str().unwrap().len(), 64);
    let text = journal("dump", &path, &[]).done().stdout;
    assert_eq!(text.lines().count(), entries.len());
    assert!(text.starts_with("0x70 begin recording="), "{text}");
    let text = journal("stat", &path, &[]).done().stdout;
    for part in [
        "typed journal",
        "entries of minivmm",
        "2 snapshot_mark",
        "closed",
        "sound: ",
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    // The catalog that `rm` keeps beside snapshots is one too.
    coldframe(&[&"rm", &dir.join("diff-1")]).done();
    let catalog = json("stat", &dir.join("catalog"), 0);
    assert_eq!(catalog["kinds"]["deleted"], 1, "{catalog:#}");
}

#[test]
fn unknown_entries_are_printed_as_bytes_with_their_type() {
    let home = Home::new();
    let path = home.at("theirs");
    let options = JournalOptions::new().unwrap();
    let mut writer = JournalWriter::<Theirs>::create(&path, options).unwrap();
    writer.append_encoded(THEIRS, &[0xab; 40]).unwrap();
    let snapshot = [0x11; 16];
    writer.append(&Deleted { snapshot }).unwrap();
    // A sound record whose payload is no value of the type that it says.
    writer.append_encoded(Deleted::TYPE, b"abc").unwrap();
    writer.flush().unwrap();
    let text = journal("dump", &path, &[]).done().stdout;
    let lines: Vec<_> = text.lines().collect();
    let bytes = "ab".repeat(32);
    assert_eq!(lines[0], format!("0x70 type_9234 len=40 bytes={bytes}.."));
    assert!(
        lines[1].ends_with(&format!(" deleted snapshot={}", "11".repeat(16))),
        "{text}"
    );
    assert!(
        lines[2].ends_with(" type_8024 len=3 bytes=616263"),
        "{text}"
    );
    let dump = json("dump", &path, 0);
    let entry = &dump["entries"][0];
    assert_eq!(keys(entry), ["bytes", "kind", "len", "offset", "type"]);
    assert_eq!(
        (&entry["type"], &entry["bytes"]),
        (&"0x9234".into(), &"ab".repeat(40).into())
    );
    assert_eq!(json("stat", &path, 0)["kinds"]["type_9234"], 1);
}

// Parity: F45
#[test]
fn every_flipped_byte_of_an_entry_is_damage_at_its_offset_and_both_sides_are_shown() {
    let home = Home::new();
    let path = home.at("journal");
    let spans = clocks(&path, 6, true);
    let (start, end) = (spans[2].start.get(), spans[2].end.get());
    for at in start..end {
        let damaged = changed(&home, &path, |bytes| bytes[at as usize] ^= 0x20);
        let dump = json("dump", &damaged, 1);
        assert_eq!(progress(&dump), [0, 1, 3, 4, 5], "byte {at:#x}");
        assert_eq!(
            (&dump["verdict"], &dump["end"]),
            (&"damaged".into(), &"clean".into())
        );
        let damages = dump["damages"].as_array().unwrap();
        assert_eq!(damages.len(), 1, "byte {at:#x}: {dump:#}");
        assert_eq!(
            keys(&damages[0]),
            ["detail", "kind", "offset", "torn_bytes", "until"]
        );
        assert_eq!(
            (&damages[0]["offset"], &damages[0]["until"]),
            (&start.into(), &end.into())
        );
    }
    let damaged = home.at("changed");
    let text = journal("dump", &damaged, &[]);
    assert_eq!((text.code, text.stderr.as_str()), (1, ""));
    let named = format!("{start:#x} damage: ");
    assert!(
        text.stdout.lines().nth(2).unwrap().starts_with(&named),
        "{text:#?}"
    );
    let stat = journal("stat", &damaged, &[]);
    assert_eq!(stat.code, 1);
    let verified = coldframe(&[&"verify", &damaged]);
    let line = format!("changed: offset {start:#x}: damage: ");
    assert!(verified.stdout.contains(&line), "{verified:#?}");
    coldframe(&[&"verify", &path]).done();
    assert!(
        stat.stdout.contains(&named) && stat.stdout.contains("damaged: 5"),
        "{stat:#?}"
    );
}

// Parity: F44
#[test]
fn a_journal_cut_at_every_byte_of_the_last_three_entries_is_sound() {
    let home = Home::new();
    let path = home.at("journal");
    let spans = clocks(&path, 6, false);
    let len = fs::metadata(&path).unwrap().len();
    for cut in spans[3].start.get()..=len {
        let torn = changed(&home, &path, |bytes| bytes.truncate(cut as usize));
        let dump = json("dump", &torn, 0);
        let whole = spans.iter().filter(|span| span.end.get() <= cut).count();
        assert_eq!(
            progress(&dump),
            (0..whole as u64).collect::<Vec<_>>(),
            "cut at {cut:#x}"
        );
        let kept = spans[whole - 1].end.get();
        assert_eq!(dump["end_offset"], kept);
        assert_eq!(dump["torn_bytes"], cut - kept);
        assert_eq!(dump["end"], if cut == kept { "clean" } else { "torn" });
    }
    let torn = changed(&home, &path, |bytes| bytes.truncate(len as usize - 1));
    let text = journal("stat", &torn, &[]).done().stdout;
    assert!(
        text.contains("torn at ") && text.contains("are dropped"),
        "{text}"
    );
}

#[test]
fn what_is_no_journal_is_exit_1_and_an_empty_one_is_sound() {
    let home = Home::new();
    let path = home.at("foreign");
    for bytes in [&b"GIF89a".repeat(400)[..], &[0; 4096], &[0xff; 200]] {
        fs::write(&path, bytes).unwrap();
        for verb in ["stat", "dump"] {
            journal(verb, &path, &[]).fails(1, &["foreign", "no journal"]);
            journal(verb, &path, &["--json"]).fails(1, &["foreign", "no journal"]);
        }
    }
    fs::write(&path, b"").unwrap();
    assert_eq!(json("stat", &path, 0)["entries"], 0);
    assert!(progress(&json("dump", &path, 0)).is_empty());
    journal("stat", home.path(), &[]).fails(2, &["no regular file"]);
    journal("stat", &home.at("nowhere"), &[]).fails(3, &["nowhere"]);
    coldframe(&[&"journal", &"dump"]).fails(2, &["FILE"]);
}

#[test]
fn joined_journals_are_read_as_one_also_behind_a_torn_or_a_newer_part() {
    let home = Home::new();
    let (one, two) = (home.at("one"), home.at("two"));
    clocks(&one, 2, true);
    clocks(&two, 3, false);
    let (one, two) = (fs::read(one).unwrap(), fs::read(two).unwrap());
    let joined = home.at("joined");
    fs::write(&joined, [&one[..], &two[..two.len() - 5], &one].concat()).unwrap();
    let dump = json("dump", &joined, 0);
    assert_eq!(progress(&dump), [0, 1, 0, 1, 0, 1]);
    assert_eq!(
        (&dump["end"], &dump["sealed"]),
        (&"clean".into(), &true.into())
    );
    assert_eq!(dump["damages"][0]["kind"], "torn");
    let parts = json("stat", &joined, 0)["parts"].as_array().unwrap().len();
    assert_eq!(parts, 3);

    let mut newer = one.clone();
    newer[8] = 9;
    let sum = blake3::hash(&newer[..108]);
    newer[108..112].copy_from_slice(&sum.as_bytes()[..4]);
    fs::write(&joined, [&one[..], &newer, &two].concat()).unwrap();
    let dump = json("dump", &joined, 1);
    assert_eq!(progress(&dump), [0, 1, 0, 1, 2]);
    let damage = &dump["damages"][0];
    assert_eq!(
        (&damage["kind"], &damage["offset"]),
        (&"unsupported".into(), &one.len().into())
    );
    assert!(
        damage["detail"].as_str().unwrap().contains("9.0"),
        "{dump:#}"
    );
}

// Parity: F49
#[test]
fn a_journal_that_is_being_written_is_read_without_a_lock() {
    let home = Home::new();
    let path = home.at("journal");
    let options = JournalOptions::new().unwrap();
    let mut writer = JournalWriter::<CoreEntries>::create(&path, options).unwrap();
    writer.append(&clock(7)).unwrap();
    assert_eq!(progress(&json("dump", &path, 0)), [7]);
    writer.append(&clock(8)).unwrap();
    assert_eq!(json("stat", &path, 0)["entries"], 2);
}

#[test]
fn inspect_knows_a_journal_and_what_is_wrong_with_it() {
    let home = Home::new();
    let path = home.at("journal");
    let spans = clocks(&path, 4, true);
    let report = coldframe(&[&"inspect", &path, &"--json"]).done().json();
    assert_eq!(
        (&report["format"], &report["version"]),
        (&"JRNL".into(), &"1.0".into())
    );
    assert_eq!(report["journal"]["entries"], 4);
    let shown = coldframe(&[&"inspect", &path]).done().stdout;
    assert!(
        shown.contains("typed journal") && shown.contains("4 clock_read"),
        "{shown}"
    );
    let at = spans[1].start.get();
    let damaged = changed(&home, &path, |bytes| bytes[at as usize + 9] ^= 1);
    let shown = coldframe(&[&"inspect", &damaged]);
    assert_eq!((shown.code, shown.stderr.as_str()), (1, ""));
    let offset = format!("{at:#x}");
    assert!(
        shown.stdout.contains("problem") && shown.stdout.contains(&offset),
        "{shown:#?}"
    );
}

/// Short, and so no more a journal than a long one; it is no journal that was cut short either.
#[test]
fn a_short_file_that_is_no_journal_is_refused() {
    let home = Home::new();
    let file = home.at("notes");
    for text in ["x", "no file of ours\n"] {
        fs::write(&file, text).unwrap();
        for verb in ["stat", "dump"] {
            run_on("journal", verb, &file, &[]).fails(1, &["notes is no journal"]);
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
    }
}
