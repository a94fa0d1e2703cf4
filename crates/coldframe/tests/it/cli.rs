//! What holds for every verb: help, usage, lines, bare names.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use crate::support::{Home, Outcome, coldframe, command, names, simulated};

pub const VERBS: [&[&str]; 41] = [
    &["demo"],
    &["inspect"],
    &["verify"],
    &["import"],
    &["import", "raw"],
    &["import", "firecracker"],
    &["export"],
    &["export", "raw"],
    &["export", "firecracker"],
    &["diff"],
    &["merge"],
    &["ls"],
    &["rm"],
    &["replay"],
    &["wal"],
    &["wal", "stat"],
    &["wal", "dump"],
    &["wal", "check"],
    &["journal"],
    &["journal", "stat"],
    &["journal", "dump"],
    &["push"],
    &["pull"],
    &["store"],
    &["store", "init"],
    &["store", "ls"],
    &["store", "stat"],
    &["store", "verify"],
    &["store", "gc"],
    &["store", "untag"],
    &["store", "prune"],
    &["store", "import-shuru"],
    &["disk"],
    &["disk", "import"],
    &["disk", "export"],
    &["disk", "ls"],
    &["disk", "resize"],
    &["disk", "serve"],
    &["disk", "checkpoint"],
    &["disk", "recover"],
    &["completions"],
];

fn run(args: &[&str]) -> Outcome {
    command(&[]).args(args).output().unwrap().into()
}

#[test]
fn the_help_of_every_verb_has_an_example() {
    for verb in VERBS {
        let help = run(&[verb, &["--help"]].concat()).done();
        let example = help.stdout.split_once("\nExample").map(|(_, text)| text);
        let line = format!("\n  coldframe {}", verb.join(" "));
        assert!(
            example.is_some_and(|text| text.contains(&line)),
            "{help:#?}"
        );
    }
}

#[test]
fn every_verb_but_completions_has_json() {
    for verb in VERBS {
        let takes_more = matches!(
            verb,
            ["import"] | ["export"] | ["wal"] | ["journal"] | ["store"] | ["disk"]
        );
        let help = run(&[verb, &["--help"]].concat()).done();
        let expected = !takes_more && verb != ["completions"];
        assert_eq!(help.stdout.contains("--json"), expected, "{verb:?}");
    }
}

// Parity: F22
#[test]
fn wrong_usage_is_one_line_and_exit_2() {
    for verb in VERBS {
        run(&[verb, &["--no-such-thing"]].concat()).fails(2, &["--no-such-thing"]);
    }
    run(&["freeze"]).fails(2, &["freeze"]);
    run(&["inspect"]).fails(2, &["PATH"]);
    run(&["diff", "a"]).fails(2, &["--output", "<B>"]);
    run(&["demo", "--workload", "nothing"]).fails(2, &["nothing", "hash"]);
    run(&["demo", "--seed", "-1"]).fails(2, &["-1"]);
    run(&["demo", "--ram", "16MB"]).fails(2, &["16MB", "MiB"]);
    run(&["completions", "basic"]).fails(2, &["basic", "bash"]);
}

#[test]
fn without_a_verb_the_help_is_shown() {
    let help = run(&[]);
    assert_eq!(help.code, 2);
    assert!(help.stderr.contains("Usage: coldframe"), "{help:#?}");
    assert!(
        !help.stderr.contains("\n  thaw"),
        "the hidden verb is shown"
    );
    let version = run(&["--version"]).done();
    assert!(version.stdout.starts_with("coldframe "), "{version:#?}");
}

#[test]
fn completions_are_there_for_each_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(&["completions", shell]).done();
        for verb in [
            "demo", "inspect", "verify", "ls", "replay", "wal", "journal", "check",
        ] {
            assert!(script.stdout.contains(verb), "{shell}");
        }
    }
}

#[test]
fn there_is_no_progress_bar_where_nobody_looks() {
    let home = Home::new();
    let dir = home.at("kept");
    // `done` checks that nothing is on standard error.
    simulated(&dir);
    coldframe(&[&"verify", &"--deep", &dir.join("diff-1")]).done();
    coldframe(&[
        &"export",
        &"raw",
        &dir.join("diff-1"),
        &"-o",
        &home.at("out"),
    ])
    .done();
}

// Parity: F24
#[test]
fn bare_names_and_relative_paths_work() {
    let home = Home::new();
    fs::write(home.at("guest.mem"), vec![1; 8192]).unwrap();
    let run = |args: &[&str]| {
        let mut command = command(&[]);
        let output = command.args(args).current_dir(home.path()).output();
        Outcome::from(output.unwrap()).done()
    };
    run(&["import", "raw", "guest.mem", "-o", "base"]);
    run(&["diff", "base", "./base", "-o", "./delta"]);
    run(&["verify", "--deep", "delta", "base"]);
    run(&["merge", "delta", "-o", "flat"]);
    run(&["export", "raw", "flat", "-o", "out.mem"]);
    run(&["inspect", "flat"]);
    assert_eq!(
        names(home.path()),
        ["base", "delta", "flat", "guest.mem", "out.mem"]
    );
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let home = Home::new();
    let dir = home.at("kept");
    simulated(&dir);
    let snapshot = dir.join("full");
    let verbs: [Vec<&str>; 3] = [
        vec!["inspect", snapshot.to_str().unwrap()],
        vec!["verify", snapshot.to_str().unwrap(), "--json"],
        vec!["completions", "bash"],
    ];
    for verb in verbs {
        let mut child = command(&[]);
        let mut child = child
            .args(&verb)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let outcome = Outcome::from(child.wait_with_output().unwrap());
        assert!(
            !outcome.stderr.contains("panicked"),
            "{verb:?}: {outcome:#?}"
        );
        assert_ne!(outcome.code, 101, "{verb:?}: {outcome:#?}");
    }
}

#[test]
fn the_log_goes_to_standard_error_and_changes_nothing() {
    let home = Home::new();
    fs::write(home.at("guest.mem"), vec![1; 8192]).unwrap();
    let mut import = command(&[
        &"import",
        &"raw",
        &home.at("guest.mem"),
        &"-o",
        &home.at("s"),
    ]);
    let import = Outcome::from(import.env("COLDFRAME_LOG", "debug").output().unwrap());
    assert_eq!(import.code, 0);
    assert!(import.stderr.contains("dump imported"), "{import:#?}");
    assert_eq!(import.stdout.lines().count(), 1);
}

/// A misspelt directory to search finds nothing: it is said, not passed over.
#[test]
fn directories_to_search_must_be_there() {
    let home = Home::new();
    simulated(&home.at("s"));
    let (snap, none, file) = (home.at("s/diff-1"), home.at("none"), home.at("file"));
    fs::write(&file, "").unwrap();
    let (out, full) = (home.at("out"), home.at("s/full"));
    let verbs: [&[&dyn AsRef<OsStr>]; 5] = [
        &[&"verify", &snap],
        &[&"export", &"raw", &snap, &"-o", &out],
        &[&"diff", &full, &snap, &"-o", &out],
        &[&"merge", &snap, &"-o", &out],
        &[&"push", &snap, &"--store", &out],
    ];
    for verb in verbs {
        let search = |dir: &Path| coldframe(&[verb, &[&"--search", &dir]].concat());
        search(&none).fails(3, &["--search", "none", "No such file"]);
        search(&file).fails(2, &["--search", "file", "no directory"]);
        assert!(!out.exists());
    }
    coldframe(&[&"verify", &snap, &"--search", &home.path()]).done();
}
