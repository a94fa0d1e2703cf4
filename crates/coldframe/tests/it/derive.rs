//! `diff` and `merge`.

use std::fs;

use crate::support::{Home, assert_sound, coldframe, keys, memory_of, simulated};

#[test]
fn a_diff_leads_from_one_snapshot_to_the_other() {
    let home = Home::new();
    let dir = home.at("kept");
    simulated(&dir);
    let [full, one, two] = ["full", "diff-1", "diff-2"].map(|name| dir.join(name));
    for (name, a, b) in [
        ("there", &full, &two),
        ("back", &two, &full),
        ("same", &one, &one),
    ] {
        let made = dir.join(name);
        let said = coldframe(&[&"diff", a, b, &"-o", &made, &"--json"])
            .done()
            .json();
        assert_eq!(
            keys(&said),
            [
                "id",
                "kind",
                "memory_file_bytes",
                "parent",
                "path",
                "ram_bytes",
                "root"
            ]
        );
        assert_eq!(said["kind"], "diff");
        let parent = coldframe(&[&"inspect", a, &"--json"]).json();
        assert_eq!(
            said["parent"],
            parent["files"]["manifest"]["manifest"]["id"]
        );
        assert!(memory_of(&made) == memory_of(b), "{name}");
        assert_sound(&made);
        // It thaws as B does: the machine is B's.
        let end = |path| coldframe(&[&"thaw", path]).done().json()["end"].clone();
        assert_eq!(end(&made), end(b), "{name}");
    }
}

#[test]
fn a_folded_chain_stands_alone_and_ends_the_same() {
    let home = Home::new();
    let dir = home.at("kept");
    simulated(&dir);
    let two = dir.join("diff-2");
    let memory = memory_of(&two);
    let end = coldframe(&[&"thaw", &two]).done().json()["end"].clone();
    let flat = home.at("flat");
    let said = coldframe(&[&"merge", &two, &"-o", &flat]).done();
    assert!(said.stdout.contains("full snapshot"), "{said:#?}");
    fs::remove_dir_all(&dir).unwrap();
    assert_sound(&flat);
    assert!(memory_of(&flat) == memory);
    assert_eq!(coldframe(&[&"thaw", &flat]).done().json()["end"], end);
}

#[test]
fn folding_down_to_an_ancestor_keeps_it_as_the_parent() {
    let home = Home::new();
    let dir = home.at("kept");
    simulated(&dir);
    let [full, one, two] = ["full", "diff-1", "diff-2"].map(|name| dir.join(name));
    let folded = dir.join("folded");
    coldframe(&[&"merge", &two, &"--down-to", &full, &"-o", &folded]).done();
    fs::rename(&one, home.at("away")).unwrap();
    assert_sound(&folded);
    let end = coldframe(&[&"thaw", &folded]).done().json()["end"].clone();
    fs::rename(home.at("away"), &one).unwrap();
    assert!(memory_of(&folded) == memory_of(&two));
    assert_eq!(coldframe(&[&"thaw", &two]).done().json()["end"], end);
}

#[test]
fn what_is_no_ancestor_is_wrong_usage() {
    let home = Home::new();
    let dir = home.at("kept");
    simulated(&dir);
    let [full, one, two] = ["full", "diff-1", "diff-2"].map(|name| dir.join(name));
    let out = home.at("out");
    for (snapshot, stranger) in [(&one, &two), (&one, &one), (&full, &two)] {
        let merge = coldframe(&[&"merge", snapshot, &"--down-to", stranger, &"-o", &out]);
        merge.fails(2, &["not an ancestor", stranger.to_str().unwrap()]);
    }
    assert!(!out.exists());
}

#[test]
fn snapshots_of_different_guests_have_no_diff() {
    let home = Home::new();
    let import = |name: &str, len: usize| {
        let (file, dir) = (home.at(&format!("{name}.mem")), home.at(name));
        fs::write(&file, vec![1; len]).unwrap();
        coldframe(&[&"import", &"raw", &file, &"-o", &dir]).done();
        dir
    };
    let (a, b) = (import("a", 8192), import("b", 12288));
    coldframe(&[&"diff", &a, &b, &"-o", &home.at("out")]).fails(1, &["another machine"]);
    assert!(!home.at("out").exists());
}

#[test]
fn a_taken_name_is_refused() {
    let home = Home::new();
    let dir = home.at("kept");
    simulated(&dir);
    let [full, one] = ["full", "diff-1"].map(|name| dir.join(name));
    coldframe(&[&"diff", &full, &one, &"-o", &one]).fails(3, &["exists already"]);
    coldframe(&[&"merge", &one, &"-o", &full]).fails(3, &["exists already"]);
    assert_sound(&one);
}
