//! Flipped bytes, cut tails, and what a repair keeps.

use std::fs;

use coldframe_ring::{RingOptions, RingWal};
use coldframe_storage::FileStorage;
use serde_json::Value;

use super::{RECORD, RING_START, changed, eight, json, log_at, numbers, region, start, wal};
use crate::support::{Home, coldframe};

// Parity: F60
#[test]
fn every_flipped_byte_of_a_record_is_damage_at_the_offset_of_that_record() {
    let home = Home::new();
    let path = eight(&home);
    for at in start(3)..start(4) {
        let damaged = changed(&home, &path, |bytes| bytes[at as usize] ^= 0x20);
        let check = json("check", &damaged, 1);
        assert_eq!(check["verdict"], "damaged");
        assert_eq!(check["records"], 7);
        let findings = check["findings"].as_array().unwrap();
        assert_eq!(findings.len(), 1, "byte {at:#x}: {check:#}");
        assert_eq!(findings[0]["kind"], "damage");
        assert_eq!(findings[0]["offset"], start(3));
        assert_eq!(findings[0]["detail"], "record 3 is damaged");
    }
    let damaged = home.at("changed");
    let verified = coldframe(&[&"verify", &path, &damaged]);
    assert_eq!((verified.code, verified.stderr.as_str()), (1, ""));
    let named = format!("changed: offset {:#x}: damage: record 3", start(3));
    let lines: Vec<_> = verified.stdout.lines().collect();
    assert!(
        lines[0].contains(&named) && lines[1].contains("2 files"),
        "{verified:#?}"
    );
    let text = wal("check", &damaged, &[]);
    assert_eq!(text.code, 1);
    let named = format!("changed: offset {:#x}: damage: record 3", start(3));
    assert!(text.stdout.contains(&named), "{text:#?}");
}

#[test]
fn dump_shows_the_sound_records_on_both_sides_of_damage() {
    let home = Home::new();
    let path = eight(&home);
    let damaged = changed(&home, &path, |bytes| {
        bytes[start(2) as usize + 50] ^= 1;
        bytes[start(5) as usize + 20] ^= 1;
        bytes[start(6) as usize] ^= 1;
    });
    let dump = json("dump", &damaged, 1);
    assert_eq!(numbers(&dump), [1, 3, 4, 7, 8]);
    let offsets: Vec<_> = (dump["findings"].as_array().unwrap().iter())
        .map(|finding| finding["offset"].as_u64().unwrap())
        .collect();
    assert_eq!(offsets, [start(2), start(5)]);
    let text = wal("dump", &damaged, &[]);
    assert_eq!((text.code, text.stderr.as_str()), (1, ""));
    let lost = format!("{:#x} lost first=5 count=2", start(5));
    assert!(text.stdout.lines().any(|line| line == lost), "{text:#?}");
    let report = json("stat", &damaged, 1);
    assert_eq!(
        (&report["records"], &report["last"]),
        (&5.into(), &8.into())
    );
    assert_eq!(
        (&report["end"], &report["used_bytes"]),
        (&"damaged".into(), &Value::Null)
    );
}

// Parity: F59
#[test]
fn a_tail_cut_at_every_byte_of_the_last_three_records_is_sound() {
    let home = Home::new();
    let path = home.at("disk.wal");
    drop(log_at(&path, 0, 6, RingOptions::ON_DEMAND));
    for cut in start(4)..=start(7) {
        let torn = changed(&home, &path, |bytes| bytes[cut as usize..].fill(0));
        let report = json("stat", &torn, 0);
        let whole = (cut - RING_START) / RECORD;
        // A record ends with the last byte of it that is not zero: its payload fills it.
        assert_eq!(report["records"], whole, "cut at {cut:#x}");
        assert_eq!(report["verdict"], "sound");
        let torn_bytes = report["torn_bytes"].as_u64().unwrap();
        assert_eq!(
            torn_bytes > 0,
            !(cut - RING_START).is_multiple_of(RECORD),
            "cut at {cut:#x}"
        );
        assert!(torn_bytes <= RECORD);
        assert_eq!(report["end_offset"], start(whole + 1));
    }
    let torn = changed(&home, &path, |bytes| {
        bytes[start(6) as usize + 40..].fill(0)
    });
    let check = wal("check", &torn, &[]).done().stdout;
    assert!(
        check.contains("torn-tail") && check.contains("dropped when"),
        "{check}"
    );
}

// Parity: D63, F67
#[test]
fn a_plan_writes_nothing_and_a_repair_keeps_every_sound_record() {
    let home = Home::new();
    let path = eight(&home);
    let damaged = changed(&home, &path, |bytes| {
        bytes[start(2) as usize + 50] ^= 1;
        bytes[start(8) as usize + 50] ^= 1;
        bytes[4096 + 30] ^= 1;
    });
    let image = fs::read(&damaged).unwrap();
    let plan = json("check", &damaged, 1);
    assert_eq!(
        (&plan["records"], &plan["applied"]),
        (&6.into(), &false.into())
    );
    let kinds: Vec<_> = (plan["findings"].as_array().unwrap().iter())
        .map(|finding| finding["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["control-slot", "damage", "damage"]);
    assert_eq!(plan["findings"][0]["offset"], 4096);
    for verb in ["stat", "dump", "check"] {
        assert_eq!(wal(verb, &damaged, &[]).code, 1);
        assert!(fs::read(&damaged).unwrap() == image, "{verb} wrote");
    }

    let repaired = wal("check", &damaged, &["--apply", "--json"]).done().json();
    assert_eq!(repaired["verdict"], "repaired");
    assert_eq!(
        (&repaired["records"], &repaired["applied"]),
        (&6.into(), &true.into())
    );
    let after = json("check", &damaged, 0);
    assert_eq!(after["verdict"], "sound");
    assert_eq!(after["findings"][0]["kind"], "given-up");
    assert_eq!(numbers(&json("dump", &damaged, 0)), [1, 3, 4, 5, 6, 7]);
    let storage = FileStorage::open(&damaged).unwrap();
    let log = RingWal::open(storage, region(0), RingOptions::SYNC_EACH).unwrap();
    assert_eq!(
        log.append(b"next").unwrap().get(),
        9,
        "a lost number was given out again"
    );
    drop(log);
    // Of a sound log nothing is written.
    let image = fs::read(&path).unwrap();
    wal("check", &path, &["--apply"]).done();
    assert!(fs::read(&path).unwrap() == image);
}
