//! `ls` and `rm`: a directory of snapshots as a tree, of which nothing is deleted that is needed.

use std::fs;

use crate::support::{Home, assert_sound, coldframe, keys, names, simulated};

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
    coldframe(&[&"ls", &home.at("nowhere")]).fails(2, &["nowhere"]);
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
    coldframe(&[&"ls", &dir]).fails(1, &["catalog", "damaged at 0x70"]);
    let refused = coldframe(&[&"rm", &dir.join("diff-1")]);
    refused.fails(1, &["damaged at 0x70"]);
    assert!(dir.join("diff-1").exists());
}
