//! Logs on a disk that cannot read some sectors: what can be read is shown and rescued, what cannot
//! is named, and nothing goes on as if it had been nothing.

use std::fs;
use std::path::Path;

use coldframe_journal::kinds::{ClockRead, CoreEntries};
use coldframe_journal::{JournalOptions, JournalWriter};
use coldframe_testkit::poor_host::PoorHost;

use crate::disk_log::{MIB, text};
use crate::nbd_client::{Client, FLUSH};
use crate::served::Place;
use crate::support::{Home, Outcome, coldframe, command};

/// Pages that were written, one after the other, each flushed.
const PAGES: [u64; 5] = [0, 16, 32, 48, 64];
const PAGE: usize = 4096;

/// Runs the command where these bytes of a file cannot be read.
fn run(host: &PoorHost, bad: (&Path, u64, u64), args: &[&str]) -> Outcome {
    let mut run = command(&[]);
    run.args(args);
    let name = format!("/{}", bad.0.file_name().unwrap().to_str().unwrap());
    host.bad_sectors(&name, bad.1, bad.2, &mut run);
    run.output().unwrap().into()
}

fn killed() -> Place {
    let place = Place::new();
    fs::write(place.at("a.img"), vec![0; MIB]).unwrap();
    place.import(&place.at("a.img"), "a");
    let server = place.serve("a", &["--wal-size", "4MiB"]);
    let mut client = Client::simple(&server.socket, "a");
    for page in PAGES {
        let bytes = [page as u8 + 1; PAGE];
        assert_eq!(client.write(0, page * PAGE as u64, &bytes), 0);
        assert_eq!(client.error_of(0, FLUSH, 0, 0), 0);
    }
    server.kill();
    place
}

/// Where the record of each page begins in the log, behind that of the disk.
fn records(wal: &str) -> Vec<u64> {
    let dump = coldframe(&[&"wal", &"dump", &"--json", &wal]).done().json();
    let of = |record: &serde_json::Value| record["offset"].as_u64().unwrap();
    let long = |record: &&serde_json::Value| record["len"].as_u64().unwrap() > PAGE as u64;
    let records = dump["records"].as_array().unwrap();
    records.iter().filter(long).map(of).collect()
}

/// What the verbs of logs say of one record that cannot be read.
#[track_caller]
fn check_log(host: &PoorHost, bad: (&Path, u64, u64)) {
    let (wal, at_hex) = (text(bad.0), format!("{:#x}", bad.1));
    let check = run(host, bad, &["wal", "check", &wal]);
    assert_eq!(check.code, 1, "{check:?}");
    let parts = [
        "unreadable: 512 bytes",
        &at_hex,
        "Input/output error",
        "5 sound",
    ];
    for part in parts {
        assert!(check.stdout.contains(part), "{part}: {check:?}");
    }
    assert!(!check.stdout.contains("--apply"), "{check:?}");
    let dump = run(host, bad, &["wal", "dump", "--json", &wal]);
    assert_eq!(dump.code, 1);
    let dump = dump.json();
    assert_eq!(dump["records"].as_array().unwrap().len(), PAGES.len());
    let stat = run(host, bad, &["wal", "stat", &wal]);
    assert!(stat.code == 1 && stat.stdout.contains(&at_hex), "{stat:?}");
    run(host, bad, &["wal", "check", "--apply", &wal]).fails(1, &["repair"]);
}

/// No verb goes on without what cannot be read; each says what does.
#[track_caller]
fn check_refused(host: &PoorHost, place: &Place, bad: (&Path, u64, u64)) {
    let (wal, store, out) = (text(bad.0), text(&place.store()), text(&place.at("out")));
    let socket = format!("unix:{}", place.at("s2").display());
    for more in [
        &["serve", "a", "--listen", &socket][..],
        &["resize", "a", "--size", "0"],
        &["export", "a", "-o", &out],
    ] {
        let args = [&["disk"], more, &["--store", &store]].concat();
        let hint = format!("disk recover --wal {wal}");
        run(host, bad, &args).fails(3, &["Input/output error", &hint, "--damaged"]);
    }
    assert!(!place.at("out").exists());
}

// Spec: BLK-35
#[test]
fn what_a_log_has_around_bad_sectors_is_listed_and_rescued() {
    let Some(host) = PoorHost::get() else { return };
    let place = killed();
    let (path, store) = (place.store().join("wal/a.wal"), text(&place.store()));
    let wal = text(&path);
    let starts = records(&wal);
    for (index, at) in starts.iter().enumerate() {
        let from = (at + 1024).next_multiple_of(512);
        let bad = (path.as_path(), from, 512);
        check_log(host, bad);
        check_refused(host, &place, bad);
        let name = format!("r{index}");
        let recover = [
            "disk", "recover", "--store", &store, "--wal", &wal, "--name", &name,
        ];
        run(host, bad, &recover).fails(3, &["Input/output error", "--damaged"]);
        let made = run(host, bad, &[&recover[..], &["--damaged"]].concat());
        assert_eq!(made.code, 1, "{made:?}");
        assert!(made.stderr.contains("1 lost record"), "{made:?}");
        let at_hex = format!("{from:#x}");
        for part in [
            "512 bytes",
            &at_hex,
            "which blocks they changed is not known",
        ] {
            assert!(made.stdout.contains(part), "{part}: {made:?}");
        }
        let mut expected = vec![0; MIB];
        for (number, page) in PAGES.iter().enumerate() {
            if number != index {
                let start = *page as usize * PAGE;
                expected[start..start + PAGE].fill(*page as u8 + 1);
            }
        }
        assert!(place.export(&name) == expected, "{index}");
    }
    // Nothing was given up: where it can be read, all of it is there.
    assert_eq!(place.export("a")[..PAGE], [1; PAGE]);
}

#[test]
fn bad_sectors_in_free_space_and_in_a_control_block_cost_nothing() {
    let Some(host) = PoorHost::get() else { return };
    let place = killed();
    let (path, store) = (place.store().join("wal/a.wal"), text(&place.store()));
    let wal = text(&path);
    for (name, from) in [("slot", 0), ("slot-2", 4096), ("free", 3 << 20)] {
        let bad = (path.as_path(), from, 512);
        let check = run(host, bad, &["wal", "check", &wal]);
        assert!(
            check.code == 1 && check.stdout.contains("6 sound"),
            "{check:?}"
        );
        let recover = [
            "disk", "recover", "--store", &store, "--wal", &wal, "--name", name,
        ];
        run(host, bad, &recover).done();
        assert_eq!(place.export(name), place.export("a"));
    }
}

// Spec: JRNL-22
#[test]
fn a_journal_is_read_on_both_sides_of_bad_sectors() {
    let Some(host) = PoorHost::get() else { return };
    let home = Home::new();
    let path = home.at("j");
    let options = JournalOptions::new().unwrap();
    let mut writer = JournalWriter::<CoreEntries>::create(&path, options).unwrap();
    let mut spans = Vec::new();
    for progress in 0..64 {
        let clock = ClockRead {
            progress,
            nanoseconds: progress,
            clock: 0,
            vcpu: 0,
        };
        spans.push(writer.append(&clock).unwrap());
        writer.flush().unwrap();
    }
    writer.close().unwrap();
    let file = text(&path);
    let all = spans.len() as u64;
    let last = fs::metadata(&path).unwrap().len() / 512 * 512;
    for from in [0, 512, 1024, last] {
        let bad = (path.as_path(), from, 512);
        let hidden = |span: &&coldframe_journal::Span| {
            span.start.get() < from + 512 && from < span.end.get()
        };
        let lost = spans.iter().filter(hidden).count() as u64;
        let stat = run(host, bad, &["journal", "stat", "--json", &file]);
        assert_eq!(stat.code, 1, "{stat:?}");
        let stat = stat.json();
        assert_eq!(
            stat["entries"].as_u64().unwrap(),
            all - lost,
            "{from}: {stat}"
        );
        assert_eq!(stat["unreadable"][0]["offset"], from);
        let dump = run(host, bad, &["journal", "dump", &file]);
        assert!(
            dump.code == 1 && dump.stdout.contains("cannot be read"),
            "{dump:?}"
        );
    }
    // Nothing at all can be read: an error of the disk, or at least no other file.
    let all = run(host, (&path, 0, 1 << 20), &["journal", "stat", &file]);
    assert!(
        all.code != 0 && !all.stderr.contains("no journal"),
        "{all:?}"
    );
}
