//! `wal stat|dump|check`: a ring WAL in a file, whatever became of it.

mod damage;

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use coldframe_ring::{Region, RingOptions, RingWal, Sequence};
use coldframe_storage::FileStorage;
use coldframe_units::{ByteLen, FileOffset};
use serde_json::Value;

use crate::support::{Home, Outcome, changed, coldframe, json_of, keys, run_on};

/// Bytes before the first record, of a record of ours, and of the region.
const RING_START: u64 = 8192;
const RECORD: u64 = 64;
const REGION: u64 = RING_START + 4096;

fn region(offset: u64) -> Region {
    Region::new(FileOffset::new(offset), ByteLen::new(REGION)).unwrap()
}

fn payload(number: u64) -> [u8; 16] {
    let mut payload = [number as u8; 16];
    payload[0] = 0xee;
    payload
}

/// A log of `count` records that begins at `offset` of its file.
fn log_at(path: &Path, offset: u64, count: u64, options: RingOptions) -> RingWal<FileStorage> {
    let storage = FileStorage::create(path).unwrap();
    let log = RingWal::create(storage, region(offset), options).unwrap();
    for number in 1..=count {
        log.append(&payload(number)).unwrap();
    }
    log
}

/// A closed log of eight records, at the beginning of its file.
fn eight(home: &Home) -> PathBuf {
    let path = home.at("disk.wal");
    let log = log_at(&path, 0, 8, RingOptions::SYNC_EACH);
    log.close().unwrap();
    path
}

/// The same, of which the first two are checkpointed.
fn six(home: &Home) -> PathBuf {
    let path = home.at("disk.wal");
    let log = log_at(&path, 0, 8, RingOptions::SYNC_EACH);
    log.checkpoint(Sequence::new(2)).unwrap();
    log.close().unwrap();
    path
}

/// Where record `number` begins in the file.
const fn start(number: u64) -> u64 {
    RING_START + (number - 1) * RECORD
}

fn wal(verb: &str, path: &Path, more: &[&str]) -> Outcome {
    run_on("wal", verb, path, more)
}

#[track_caller]
fn json(verb: &str, path: &Path, code: i32) -> Value {
    json_of("wal", verb, path, code)
}

fn numbers(dump: &Value) -> Vec<u64> {
    let records = dump["records"].as_array().unwrap();
    let number = |record: &Value| record["sequence"].as_u64().unwrap();
    records.iter().map(number).collect()
}

#[test]
fn a_sound_log_is_described() {
    let home = Home::new();
    let path = six(&home);
    let before = fs::read(&path).unwrap();

    let report = json("stat", &path, 0);
    assert_eq!(
        keys(&report),
        [
            "checkpointed",
            "closed",
            "dropped_records",
            "durable",
            "end",
            "end_offset",
            "epoch",
            "file",
            "findings",
            "first",
            "laps",
            "last",
            "offset",
            "records",
            "region_bytes",
            "ring_bytes",
            "torn_bytes",
            "used_bytes",
            "verdict"
        ]
    );
    let number = |key: &str| report[key].as_u64().unwrap();
    assert_eq!((number("records"), number("checkpointed")), (6, 2));
    assert_eq!(
        (number("first"), number("last"), number("durable")),
        (3, 8, 8)
    );
    assert_eq!(
        (number("ring_bytes"), number("used_bytes")),
        (4096, 6 * RECORD)
    );
    assert_eq!((number("end_offset"), number("torn_bytes")), (start(9), 0));
    assert_eq!(
        (&report["end"], &report["closed"]),
        (&"clean".into(), &true.into())
    );
    assert_eq!(report["verdict"], "sound");
    let text = wal("stat", &path, &[]).done().stdout;
    for part in [
        "ring WAL at 0x0",
        "6, 3 to 8",
        "up to 2",
        "closed",
        "sound: 6 records",
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }

    assert!(fs::read(&path).unwrap() == before, "a look wrote");
}

#[test]
fn a_sound_log_is_dumped_and_checked() {
    let home = Home::new();
    let path = six(&home);
    let before = fs::read(&path).unwrap();
    let dump = json("dump", &path, 0);
    assert_eq!(numbers(&dump), [3, 4, 5, 6, 7, 8]);
    assert_eq!(dump["records"][0]["offset"], start(3));
    assert_eq!(
        dump["records"][0]["payload"],
        format!("ee{}", "03".repeat(15))
    );
    let text = wal("dump", &path, &[]).done().stdout;
    let line = format!(
        "{:#x} record sequence=4 len=16 bytes=ee{}",
        start(4),
        "04".repeat(15)
    );
    assert!(text.lines().any(|found| found == line), "{text}");

    let check = wal("check", &path, &[]).done();
    assert_eq!(check.stdout, "sound: 6 sound records\n");
    assert_eq!(json("check", &path, 0)["applied"], false);
    assert!(fs::read(&path).unwrap() == before, "a look wrote");
}

#[test]
fn an_empty_log_and_long_payloads_are_shown() {
    let home = Home::new();
    let empty = home.at("empty.wal");
    log_at(&empty, 0, 0, RingOptions::SYNC_EACH)
        .close()
        .unwrap();
    let report = json("stat", &empty, 0);
    assert_eq!(
        (&report["records"], &report["first"]),
        (&0.into(), &Value::Null)
    );
    let dump = json("dump", &empty, 0);
    assert!(numbers(&dump).is_empty());
    let long = home.at("long.wal");
    let log = log_at(&long, 0, 0, RingOptions::SYNC_EACH);
    log.append(&[0x5a; 100]).unwrap();
    log.append(b"").unwrap();
    drop(log);
    let text = wal("dump", &long, &[]).done().stdout;
    let line = format!("sequence=1 len=100 bytes={}..", "5a".repeat(32));
    assert!(text.contains(&line), "{text}");
    let dump = json("dump", &long, 0);
    assert_eq!(dump["records"][0]["payload"], "5a".repeat(100));
    assert_eq!(dump["records"][1]["len"], 0);
    // The writer did not close it, and is named.
    let findings = &json("check", &long, 0)["findings"];
    assert_eq!(findings[0]["kind"], "not-closed");
    assert!(
        findings[0]["detail"].as_str().unwrap().contains("process "),
        "{findings}"
    );
}

#[test]
fn a_log_inside_a_file_is_found_by_its_region() {
    let home = Home::new();
    let path = home.at("disk.img");
    log_at(&path, 8192, 3, RingOptions::SYNC_EACH)
        .close()
        .unwrap();
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(1 << 20).unwrap();
    for more in [
        vec!["--offset", "8KiB"],
        vec!["--offset", "0x2000", "--size", "12KiB"],
        vec!["--offset", "8192", "--size", "0x3000"],
    ] {
        let dump = wal("dump", &path, &[&more[..], &["--json"]].concat())
            .done()
            .json();
        assert_eq!(numbers(&dump), [1, 2, 3], "{more:?}");
        assert_eq!(dump["records"][0]["offset"], 8192 + RING_START);
    }
    wal("stat", &path, &[]).fails(1, &["disk.img", "no ring WAL"]);
}

#[test]
fn what_is_no_log_is_exit_1_and_says_so() {
    let home = Home::new();
    let path = home.at("foreign");
    let zeros = vec![0; REGION as usize];
    for bytes in [&b"GIF89a".repeat(4000)[..], &zeros, &[0xff; 20000]] {
        fs::write(&path, bytes).unwrap();
        for verb in ["stat", "dump", "check"] {
            wal(verb, &path, &[]).fails(1, &["foreign", "no ring WAL"]);
        }
    }
    for bytes in [&b""[..], b"short", &zeros[..8192]] {
        fs::write(&path, bytes).unwrap();
        wal("stat", &path, &["--json"]).fails(1, &["no ring WAL", "8240"]);
    }
    let whole = eight(&home);
    let damaged = changed(&home, &whole, |bytes| {
        bytes[30] ^= 1;
        bytes[4096 + 30] ^= 1;
    });
    wal("check", &damaged, &[]).fails(1, &["control block", "0x0"]);
    let cut = changed(&home, &whole, |bytes| bytes.truncate(REGION as usize - 16));
    wal("stat", &cut, &[]).fails(1, &["12288", "12272"]);
}

#[test]
fn an_impossible_region_is_wrong_usage_and_a_missing_file_is_exit_3() {
    let home = Home::new();
    let path = eight(&home);
    for more in [
        // Smaller than one record; not aligned; behind the end; smaller than the log; no number.
        ["--size", "8192"],
        ["--size", "8239"],
        ["--offset", "100"],
        ["--offset", "1MiB"],
        ["--size", "8240"],
        ["--offset", "0xzz"],
        ["--size", "12KB"],
    ] {
        let refused = wal("stat", &path, &more);
        refused.fails(2, &[]);
    }
    wal("stat", home.path(), &[]).fails(2, &["no regular file"]);
    wal("stat", &home.at("nowhere"), &[]).fails(3, &["nowhere"]);
    coldframe(&[&"wal", &"stat"]).fails(2, &["FILE"]);
}

// Parity: F66
#[test]
fn a_log_in_use_is_exit_3_and_names_the_owner() {
    let home = Home::new();
    let path = home.at("disk.wal");
    let log = log_at(&path, 0, 1, RingOptions::SYNC_EACH);
    let owner = format!("process {}", std::process::id());
    for verb in ["stat", "dump", "check"] {
        wal(verb, &path, &[]).fails(3, &["in use by", &owner]);
    }
    drop(log);
    wal("stat", &path, &[]).done();
}

#[test]
fn a_file_without_permissions_is_read_if_it_can_be_and_never_written() {
    let home = Home::new();
    let path = eight(&home);
    let damaged = changed(&home, &path, |bytes| bytes[start(2) as usize + 50] ^= 1);
    let image = fs::read(&damaged).unwrap();
    fs::set_permissions(&damaged, Permissions::from_mode(0o400)).unwrap();
    let modified = fs::metadata(&damaged).unwrap().modified().unwrap();
    for verb in ["stat", "dump", "check"] {
        json(verb, &damaged, 1);
    }
    assert_eq!(
        fs::metadata(&damaged).unwrap().modified().unwrap(),
        modified
    );
    // The superuser may write all the same.
    if OpenOptions::new().write(true).open(&damaged).is_err() {
        wal("check", &damaged, &["--apply"]).fails(3, &["changed"]);
        assert!(fs::read(&damaged).unwrap() == image);
    }
    fs::set_permissions(&damaged, Permissions::from_mode(0o000)).unwrap();
    if File::open(&damaged).is_err() {
        wal("stat", &damaged, &[]).fails(3, &["changed"]);
    }
}

#[test]
fn inspect_knows_a_log_and_what_is_wrong_with_it() {
    let home = Home::new();
    let path = eight(&home);
    let shown = coldframe(&[&"inspect", &path]).done().stdout;
    for part in ["ring WAL", "8, 1 to 8", "clean at"] {
        assert!(shown.contains(part), "no {part:?} in {shown}");
    }
    let report = coldframe(&[&"inspect", &path, &"--json"]).done().json();
    assert_eq!(
        (&report["format"], &report["wal"]["records"]),
        (&"RING".into(), &8.into())
    );
    // Known by either of its control blocks.
    let half = changed(&home, &path, |bytes| bytes[..128].fill(0));
    let report = coldframe(&[&"inspect", &half, &"--json"]);
    assert_eq!((report.code, &report.json()["format"]), (1, &"RING".into()));
    let damaged = changed(&home, &path, |bytes| bytes[start(5) as usize] ^= 1);
    let shown = coldframe(&[&"inspect", &damaged]);
    assert_eq!((shown.code, shown.stderr.as_str()), (1, ""));
    let offset = format!("{:#x}", start(5));
    assert!(
        shown.stdout.contains("problem") && shown.stdout.contains(&offset),
        "{shown:#?}"
    );
}
