//! `ls` and `rm`: a directory of snapshots as a tree, of which nothing is deleted that is needed.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use coldframe_testkit::require::skipped;

use crate::support::{Home, assert_sound, coldframe, keys, names, patch, simulated};

#[test]
fn ls_shows_the_tree_with_sizes_and_writes_nothing() {
    let home = Home::new();
    let dir = home.at("kept");
    simulated(&dir);
    // Elsewhere in the directory, with the same memory as diff-2.
    coldframe(&[&"merge", &dir.join("diff-2"), &"-o", &dir.join("flat")]).done();
    let before = names(&dir);
    let report = coldframe(&[&"ls", &dir, &"--json"]).done().json();
    let lines = report["snapshots"].as_array().unwrap();
    let line = |name: &str| lines.iter().find(|line| line["name"] == name).unwrap();
    assert_eq!(
        keys(line("full")),
        [
            "created_unix_seconds",
            "depth",
            "id",
            "kind",
            "leased_by",
            "name",
            "own_bytes",
            "parent",
            "pinned",
            "ram_bytes",
            "shared_bytes"
        ]
    );
    assert_eq!(lines.len(), 4);
    for (name, kind, depth) in [
        ("full", "full", 0),
        ("diff-1", "diff", 1),
        ("diff-2", "diff", 2),
    ] {
        assert_eq!(
            (&line(name)["kind"], &line(name)["depth"]),
            (&kind.into(), &depth.into())
        );
    }
    assert_eq!(line("diff-2")["parent"], line("diff-1")["id"]);
    assert_eq!(
        (&line("flat")["depth"], &line("flat")["ram_bytes"]),
        (&0.into(), &(8 << 20).into())
    );
    assert!(
        line("flat")["shared_bytes"].as_u64().unwrap() > 0,
        "{report:#}"
    );
    let text = coldframe(&[&"ls", &dir]).done().stdout;
    assert!(
        text.contains("\n  diff-1 ") && text.contains("\n    diff-2 "),
        "{text}"
    );
    assert_eq!(names(&dir), before);
    coldframe(&[&"ls", &home.at("nowhere")]).fails(2, &["nowhere", "No such file"]);
    let one = dir.join("full");
    coldframe(&[&"ls", &one]).fails(2, &["is a snapshot", "inspect"]);
    coldframe(&[&"ls", &one.join("manifest")]).fails(2, &["is not a directory"]);
}

#[test]
fn rm_refuses_a_parent_until_its_children_are_merged_or_gone() {
    let home = Home::new();
    let dir = home.at("kept");
    simulated(&dir);
    let at = |name: &str| dir.join(name);
    for name in ["full", "diff-1"] {
        let refused = coldframe(&[&"rm", &at(name)]);
        refused.fails(1, &["has children", "merge them first"]);
        assert!(at(name).exists());
    }
    coldframe(&[&"merge", &at("diff-2"), &"-o", &at("flat")]).done();
    // Each in turn: what nothing is built on any more goes, and the rest is told.
    let report = coldframe(&[&"rm", &at("full"), &at("diff-2"), &at("diff-1"), &"--json"]);
    assert_eq!(report.code, 1, "{report:#?}");
    let report = report.json();
    assert_eq!(report["removed"].as_array().unwrap().len(), 2);
    assert_eq!(report["refused"].as_array().unwrap().len(), 1);
    let gone = coldframe(&[&"rm", &at("full")]).done();
    assert!(gone.stdout.ends_with("full: deleted\n"), "{gone:#?}");
    assert_sound(&at("flat"));
    assert_eq!(names(&dir), ["catalog", "console.txt", "flat"]);
    coldframe(&[&"rm", &at("full")]).fails(3, &["full"]);
}

#[test]
fn a_damaged_catalog_is_told_with_its_place() {
    let home = Home::new();
    let dir = home.at("kept");
    simulated(&dir);
    coldframe(&[&"rm", &dir.join("diff-2")]).done();
    let catalog = dir.join("catalog");
    let mut bytes = fs::read(&catalog).unwrap();
    bytes[112 + 40] ^= 1;
    fs::write(&catalog, bytes).unwrap();
    // Reading goes on, deleting does not.
    let listed = coldframe(&[&"ls", &dir]);
    assert_eq!(listed.code, 1);
    assert!(listed.stderr.contains("damaged at 0x70"), "{listed:#?}");
    assert!(listed.stdout.contains("\n  diff-1 "), "{listed:#?}");
    let refused = coldframe(&[&"rm", &dir.join("diff-1")]);
    refused.fails(1, &["damaged at 0x70"]);
    assert!(dir.join("diff-1").exists());
}

#[test]
fn verify_without_deep_says_what_it_did_not_read() {
    let home = Home::new();
    let dir = home.at("kept");
    simulated(&dir);
    let full = dir.join("full");
    let shallow = coldframe(&[&"verify", &full]).done();
    assert!(
        shallow
            .stdout
            .contains("of guest memory not read (--deep reads it)")
    );
    let shallow = coldframe(&[&"verify", &full, &"--json"]).done().json();
    let deep = coldframe(&[&"verify", &full, &"--deep", &"--json"])
        .done()
        .json();
    let number = |report: &serde_json::Value, key: &str| report[key].as_u64().unwrap();
    assert!(number(&shallow, "bytes_not_read") >= 8 << 20);
    assert_eq!(number(&deep, "bytes_not_read"), 0);
    assert_eq!(
        number(&shallow, "bytes_not_read") + number(&shallow, "bytes_checked"),
        number(&deep, "bytes_checked")
    );
    // Without its tables nothing of the memory is checked, however it is asked.
    let memory = full.join("memory");
    let len = fs::metadata(&memory).unwrap().len();
    patch(&memory, len - 1, |byte| *byte ^= 1);
    let alone = memory.display().to_string();
    for args in [&["verify", &alone][..], &["verify", &alone, "--deep"]] {
        let args = [args, &["--json"]].concat();
        let args: Vec<&dyn AsRef<OsStr>> = args.iter().map(|arg| arg as _).collect();
        let damaged = coldframe(&args);
        assert_eq!(damaged.code, 1, "{damaged:#?}");
        assert_eq!(number(&damaged.json(), "bytes_checked"), 0);
        assert_eq!(number(&damaged.json(), "bytes_not_read"), len);
    }
}

// Spec: CAT-4
#[test]
fn rm_removes_what_it_names_or_refuses() {
    let home = Home::new();
    let dir = home.at("kept");
    simulated(&dir);
    symlink("diff-2", dir.join("latest")).unwrap();
    let refused = coldframe(&[&"rm", &dir.join("latest")]);
    refused.fails(1, &["symbolic link", "diff-2"]);
    let text = coldframe(&[&"ls", &dir]).done().stdout;
    assert!(text.contains("latest -> diff-2"), "{text}");
    coldframe(&[&"rm", &dir.join("diff-2")]).done();
    assert!(!dir.join("diff-2").exists());
    assert!(dir.join("latest").symlink_metadata().is_ok());
    // What cannot be read may be built on any other.
    let odd = dir.join("odd");
    fs::create_dir(&odd).unwrap();
    fs::write(odd.join("manifest"), b"no manifest").unwrap();
    let refused = coldframe(&[&"rm", &dir.join("diff-1")]);
    refused.fails(1, &["odd", "cannot be read"]);
    let listed = coldframe(&[&"ls", &dir]);
    assert_eq!(listed.code, 1);
    assert!(listed.stdout.contains("odd: damaged"), "{listed:#?}");
    assert!(listed.stdout.contains("\n  diff-1 "), "{listed:#?}");
    fs::remove_dir_all(odd).unwrap();
    coldframe(&[&"rm", &dir.join("diff-1")]).done();
}

// Spec: CAT-6, CAT-8
#[test]
fn parents_in_another_directory_are_found_by_search_and_kept() {
    let home = Home::new();
    let dir = home.at("kept");
    simulated(&dir);
    let here = home.at("here");
    fs::create_dir(&here).unwrap();
    let at = |name: &str| dir.join(name);
    let child = here.join("child");
    coldframe(&[&"diff", &at("full"), &at("diff-2"), &"-o", &child]).done();
    let search = |args: &[&dyn AsRef<OsStr>]| {
        let found = [args, &[&"--search" as &dyn AsRef<OsStr>, &dir]].concat();
        let missing = coldframe(args);
        assert_eq!(missing.code, 1);
        let text = format!("{}{}", missing.stdout, missing.stderr);
        assert!(text.contains("parent"), "{missing:#?}");
        coldframe(&found).done();
    };
    search(&[&"merge", &child, &"-o", &here.join("flat")]);
    search(&[&"export", &"raw", &child, &"-o", &here.join("raw")]);
    search(&[&"diff", &at("diff-1"), &child, &"-o", &here.join("delta")]);
    search(&[&"verify", &child]);
    for name in ["diff-2", "diff-1"] {
        fs::remove_dir_all(at(name)).unwrap();
    }
    coldframe(&[&"rm", &at("full")]).fails(1, &["child", "merge them first"]);
    // As if the file system of the children were not mounted.
    let aside = home.at("aside");
    fs::rename(&here, &aside).unwrap();
    for is_there in [false, true] {
        if is_there {
            fs::create_dir(&here).unwrap();
        }
        let refused = coldframe(&[&"rm", &at("full")]);
        refused.fails(
            1,
            &[
                "here",
                "not there or has no snapshots",
                "--forget-children-in",
            ],
        );
    }
    fs::remove_dir(&here).unwrap();
    fs::rename(&aside, &here).unwrap();
    coldframe(&[&"verify", &child, &"--search", &dir]).done();
    fs::remove_dir_all(&here).unwrap();
    coldframe(&[&"rm", &at("full"), &"--forget-children-in", &here]).done();
    assert!(!at("full").exists());
}

#[test]
fn leftovers_of_killed_runs_are_shown_and_swept_by_the_next_that_writes() {
    let home = Home::new();
    let dir = home.at("kept");
    simulated(&dir);
    let name = ".gone.1-0123456789abcdef.tmp";
    fs::create_dir(dir.join(name)).unwrap();
    fs::write(dir.join(name).join("memory"), b"half").unwrap();
    let text = coldframe(&[&"ls", &dir]).done().stdout;
    assert!(text.contains(name), "{text}");
    let gone = coldframe(&[&"rm", &dir.join("diff-2")]).done();
    assert!(gone.stdout.contains("1 leftovers"), "{gone:#?}");
    assert!(!dir.join(name).exists());
}

/// Makes a manifest undecodable.
fn spoil(snapshot: &std::path::Path) {
    patch(&snapshot.join("manifest"), 0x30, |byte| *byte ^= 0xff);
}

// Spec: CAT-10, CAT-11, CAT-13
#[test]
fn a_snapshot_without_a_sound_manifest_is_deleted_unless_another_may_need_it() {
    let home = Home::new();
    let dir = home.at("kept");
    simulated(&dir);
    let at = |name: &str| dir.join(name);
    // The youngest: what has its own parents, and a memory file that says so, does not need it.
    spoil(&at("diff-2"));
    coldframe(&[&"rm", &at("diff-2")]).fails(1, &["diff-2", "cannot be read", "--damaged"]);
    coldframe(&[&"rm", &"--damaged", &at("diff-2")]).done();
    assert!(!at("diff-2").exists());
    assert_sound(&at("diff-1"));
    // A parent: the child's memory file names its own.
    spoil(&at("full"));
    let refused = coldframe(&[&"rm", &"--damaged", &at("full")]);
    refused.fails(1, &["full", "has children", "diff-1"]);
    // Neither can be told from a child of the other: together or not at all.
    for name in ["full", "diff-1"] {
        let memory = at(name).join("memory");
        fs::set_permissions(&memory, std::fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&memory, b"no memory").unwrap();
    }
    let refused = coldframe(&[&"rm", &"--damaged", &at("full")]);
    refused.fails(1, &["may be the parent of", "diff-1", "together"]);
    assert!(at("full").exists() && at("diff-1").exists());
    let gone = coldframe(&[&"rm", &"--damaged", &at("full"), &at("diff-1"), &"--json"]).done();
    assert_eq!(gone.json()["removed"].as_array().unwrap().len(), 2);
    assert_eq!(names(&dir), ["catalog", "console.txt"]);
}

// Spec: CAT-13
#[test]
fn a_sound_child_of_a_damaged_parent_may_be_deleted_with_it() {
    let home = Home::new();
    let dir = home.at("kept");
    simulated(&dir);
    let at = |name: &str| dir.join(name);
    symlink("diff-2", at("latest")).unwrap();
    spoil(&at("diff-1"));
    let refused = coldframe(&[&"rm", &"--damaged", &at("diff-1"), &at("full")]);
    refused.fails(1, &["has children", "diff-2"]);
    coldframe(&[&"rm", &"--damaged", &at("full")]).fails(1, &["has children", "diff-1"]);
    coldframe(&[&"rm", &"--damaged", &at("diff-1"), &at("diff-2")]).done();
    assert_sound(&at("full"));
    // A manifest that is gone is no other than a damaged one; what is none of ours stays.
    fs::remove_file(at("full").join("manifest")).unwrap();
    fs::create_dir(at("other")).unwrap();
    coldframe(&[&"rm", &"--damaged", &at("other")]).fails(1, &["no snapshot"]);
    coldframe(&[&"rm", &"--damaged", &at("latest")]).fails(1, &["symbolic link"]);
    coldframe(&[&"rm", &"--damaged", &at("full")]).done();
    assert_eq!(names(&dir), ["catalog", "console.txt", "latest", "other"]);
}

// Spec: CAT-12
#[test]
fn what_the_catalog_knows_of_a_damaged_snapshot_still_protects_it() {
    let home = Home::new();
    let dir = home.at("kept");
    simulated(&dir);
    let here = home.at("here");
    fs::create_dir(&here).unwrap();
    let at = |name: &str| dir.join(name);
    let child = here.join("child");
    coldframe(&[&"diff", &at("full"), &at("diff-2"), &"-o", &child]).done();
    coldframe(&[&"rm", &at("diff-2"), &at("diff-1")]).done();
    spoil(&at("full"));
    coldframe(&[&"rm", &"--damaged", &at("full")]).fails(1, &["has children", "child"]);
    let aside = home.at("aside");
    fs::rename(&here, &aside).unwrap();
    let refused = coldframe(&[&"rm", &"--damaged", &at("full")]);
    refused.fails(1, &["here", "--forget-children-in"]);
    coldframe(&[
        &"rm",
        &"--damaged",
        &at("full"),
        &"--forget-children-in",
        &here,
    ])
    .done();
    assert!(!at("full").exists());
}

// Spec: CAT-10
#[test]
fn a_manifest_that_cannot_be_read_is_not_taken_for_a_damaged_one() {
    let home = Home::new();
    let dir = home.at("kept");
    simulated(&dir);
    let full = dir.join("full");
    fs::set_permissions(&full, std::fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read_dir(&full).is_ok() {
        skipped("ordinary user", "root may look into every directory");
    } else {
        let refused = coldframe(&[&"rm", &"--damaged", &full]);
        assert_eq!(refused.code, 3, "{refused:#?}");
    }
    fs::set_permissions(&full, std::fs::Permissions::from_mode(0o700)).unwrap();
    assert_sound(&full);
}

// Spec: CAT-3
#[test]
fn a_pair_for_firecracker_is_no_damaged_snapshot() {
    let home = Home::new();
    let dir = home.at("kept");
    simulated(&dir);
    let pair = dir.join("pair");
    fs::create_dir(&pair).unwrap();
    fs::write(pair.join("state"), b"another program's").unwrap();
    fs::write(pair.join("mem"), [1; 4096]).unwrap();
    assert_eq!(coldframe(&[&"ls", &dir]).done().code, 0);
    coldframe(&[&"rm", &"--damaged", &pair]).fails(1, &["no snapshot"]);
    coldframe(&[&"rm", &dir.join("diff-2")]).done();
    assert!(pair.exists());
}

// Spec: CAT-1
#[test]
fn rm_of_what_is_no_snapshot_leaves_no_catalog() {
    let home = Home::new();
    fs::write(home.at("notes.txt"), "mine").unwrap();
    fs::create_dir(home.at("photos")).unwrap();
    for name in ["notes.txt", "photos"] {
        coldframe(&[&"rm", &home.at(name)]).fails(1, &[name, "is no snapshot"]);
        coldframe(&[&"rm", &"--damaged", &home.at(name)]).fails(1, &[name, "is no snapshot"]);
    }
    coldframe(&[&"rm", &home.at("nosuch")]).fails(3, &["nosuch", "No such file"]);
    assert_eq!(names(home.path()), ["notes.txt", "photos"]);
}

// Spec: CAT-8, CAT-12
#[test]
fn children_that_are_seen_are_not_forgotten_and_exchanged_names_tell_nothing() {
    let home = Home::new();
    let dir = home.at("kept");
    simulated(&dir);
    let at = |name: &str| dir.join(name);
    let here = home.at("here");
    fs::create_dir(&here).unwrap();
    coldframe(&[
        &"diff",
        &at("full"),
        &at("diff-2"),
        &"-o",
        &here.join("child"),
    ])
    .done();
    coldframe(&[&"merge", &at("diff-1"), &"-o", &at("other")]).done();
    coldframe(&[&"rm", &at("diff-2"), &at("diff-1")]).done();
    let forget = [&"--forget-children-in" as &dyn AsRef<OsStr>, &here];
    let refused = coldframe(&[&"rm", &at("full"), &forget[0], &forget[1]]);
    refused.fails(1, &["has children", "child"]);
    for name in ["full", "other"] {
        spoil(&at(name));
    }
    for (from, to) in [("full", "aside"), ("other", "full"), ("aside", "other")] {
        fs::rename(at(from), at(to)).unwrap();
    }
    let refused = coldframe(&[&"rm", &"--damaged", &at("other"), &forget[0], &forget[1]]);
    refused.fails(1, &["has children", "child"]);
    coldframe(&[&"rm", &"--damaged", &at("full")]).done();
    assert!(at("other").exists());
}
