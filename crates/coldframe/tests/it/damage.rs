//! `verify`: every damage has its line, sound snapshots have none.

use std::fs;
use std::path::Path;

use coldframe_testkit::rng::Rng;

use crate::support::{Home, Outcome, coldframe, keys, patch, simulated};

const SNAPSHOTS: [&str; 3] = ["full", "diff-1", "diff-2"];
const FILES: [&str; 3] = ["manifest", "state", "memory"];

fn verify(dir: &Path, more: &[&str]) -> Outcome {
    let paths = SNAPSHOTS.map(|name| dir.join(name));
    let mut verify = crate::support::command(&[&"verify"]);
    verify.args(more).args(paths).output().unwrap().into()
}

#[test]
fn each_flipped_bit_has_a_line_with_file_and_offset() {
    let home = Home::new();
    let dir = home.at("kept");
    simulated(&dir);
    let sound = verify(&dir, &["--deep"]).done();
    assert!(
        sound.stdout.starts_with("sound: 3 snapshots, 9 files"),
        "{sound:#?}"
    );
    assert_eq!(sound.stdout.lines().count(), 1);

    let mut rng = Rng::new(12);
    for round in 0..18 {
        let path = dir.join(SNAPSHOTS[round % 3]).join(FILES[round / 3 % 3]);
        let at = rng.below(fs::metadata(&path).unwrap().len());
        let bit = rng.below(8);
        patch(&path, at, |byte| *byte ^= 1 << bit);
        let found = verify(&dir, &["--deep"]);
        assert_eq!((found.code, found.stderr.as_str()), (1, ""));
        let line = format!("{}: offset 0x", path.display());
        let told = found.stdout.lines().any(|told| told.starts_with(&line));
        assert!(told, "bit {bit} at {at:#x}: {found:#?}");
        assert!(
            found
                .stdout
                .lines()
                .last()
                .unwrap()
                .starts_with("damaged: ")
        );
        patch(&path, at, |byte| *byte ^= 1 << bit);
    }
    verify(&dir, &["--deep"]).done();
}

#[test]
fn the_report_names_every_damage() {
    let home = Home::new();
    let dir = home.at("kept");
    simulated(&dir);
    let sound = verify(&dir, &["--deep", "--json"]).done().json();
    let all = [
        "bytes_checked",
        "bytes_not_read",
        "damages",
        "depth",
        "files",
        "snapshots",
        "verdict",
    ];
    assert_eq!(keys(&sound), all);
    assert_eq!(sound["verdict"], "sound");

    let path = dir.join("full/memory");
    patch(&path, 2 << 20, |byte| *byte ^= 1);
    let found = verify(&dir, &["--deep", "--json"]);
    assert_eq!(found.code, 1);
    let found = found.json();
    assert_eq!(found["verdict"], "damaged");
    let damages = found["damages"].as_array().unwrap();
    assert_eq!(damages.len(), 1, "{found:#}");
    assert_eq!(keys(&damages[0]), ["detail", "file", "kind", "offset"]);
    assert_eq!(damages[0]["file"], path.to_str().unwrap());
    assert_eq!(damages[0]["offset"], 2 << 20);
    // Without --deep pages are not read.
    verify(&dir, &[]).done();
}

#[test]
fn damage_stops_every_verb_that_would_use_it() {
    let home = Home::new();
    let dir = home.at("kept");
    simulated(&dir);
    let full = dir.join("full");
    // The first byte in use is the program's own, which no diff has.
    let bytes = fs::read(full.join("memory")).unwrap();
    let used = bytes[2 << 20..].iter().position(|byte| *byte != 0);
    let at = (2 << 20) + used.unwrap() as u64;
    patch(&full.join("memory"), at, |byte| *byte ^= 1);
    let diff = dir.join("diff-1");
    let out = home.at("out");
    coldframe(&[&"export", &"raw", &diff, &"-o", &out]).fails(1, &["hash"]);
    coldframe(&[&"merge", &diff, &"-o", &out]).fails(1, &["hash"]);
    assert!(!out.exists());
    coldframe(&[&"thaw", &full, &"--mode", &"copy"]).fails(1, &["hash"]);
    patch(&full.join("manifest"), 200, |byte| *byte ^= 1);
    coldframe(&[&"thaw", &full]).fails(1, &["manifest"]);
}

#[test]
fn a_missing_parent_is_named_and_found_elsewhere() {
    let home = Home::new();
    let dir = home.at("kept");
    simulated(&dir);
    let away = home.at("away");
    fs::create_dir(&away).unwrap();
    let id = coldframe(&[&"inspect", &"--json", &dir.join("full")]).json()["files"]["manifest"]
        ["manifest"]["id"]
        .clone();
    let id = id.as_str().unwrap();
    fs::rename(dir.join("full"), away.join("base")).unwrap();
    let diff = dir.join("diff-2");
    let found = coldframe(&[&"verify", &diff]);
    assert_eq!(found.code, 1, "{found:#?}");
    assert!(found.stdout.contains("missing parent"), "{found:#?}");
    assert!(found.stdout.contains(id), "{found:#?}");
    coldframe(&[&"export", &"raw", &diff, &"-o", &home.at("out")]).fails(1, &["parent", id]);
    coldframe(&[&"thaw", &diff]).fails(1, &["parent", id]);
    coldframe(&[&"verify", &"--deep", &"--search", &away, &diff]).done();
}

// Parity: D3
#[test]
fn memory_of_another_snapshot_is_refused_by_root() {
    let home = Home::new();
    let (one, two) = (home.at("one"), home.at("two"));
    simulated(&one);
    simulated(&two);
    // Equal memory, another header: the manifest names the root of its own file.
    fs::remove_file(one.join("diff-1/memory")).unwrap();
    fs::copy(two.join("diff-1/memory"), one.join("diff-1/memory")).unwrap();
    let whole = fs::read(one.join("diff-1/memory")).unwrap();
    assert!(!whole.is_empty());
    let found = coldframe(&[&"verify", &"--deep", &one.join("diff-2")]);
    let same = coldframe(&[&"inspect", &"--json", &one.join("full/memory")]).json()["root"]
        == coldframe(&[&"inspect", &"--json", &two.join("full/memory")]).json()["root"];
    // A demonstration is the same each time, and so are its memory files, byte for byte.
    assert_eq!(found.code, i32::from(!same), "{found:#?}");

    fs::remove_file(one.join("diff-1/memory")).unwrap();
    fs::copy(one.join("diff-2/memory"), one.join("diff-1/memory")).unwrap();
    let found = coldframe(&[&"verify", &"--deep", &one.join("diff-2")]);
    assert_eq!(found.code, 1, "{found:#?}");
    let named = one.join("diff-1/memory").display().to_string();
    assert!(found.stdout.starts_with(&named), "{found:#?}");
}

#[test]
fn single_files_are_verified_and_foreign_ones_refused() {
    let home = Home::new();
    let dir = home.at("kept");
    simulated(&dir);
    for file in FILES {
        coldframe(&[&"verify", &"--deep", &dir.join("diff-1").join(file)]).done();
    }
    let found = coldframe(&[&"verify", &dir.join("console.txt")]);
    assert_eq!(found.code, 1);
    assert!(found.stdout.contains("foreign"), "{found:#?}");
    coldframe(&[&"verify", &home.at("nowhere")]).fails(3, &["nowhere"]);
    coldframe(&[&"verify"]).fails(2, &["PATHS"]);
}
