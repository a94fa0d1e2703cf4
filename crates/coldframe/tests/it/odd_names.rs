//! Files and directories of odd names: every verb works on them, its JSON is JSON, and its text
//! stays on its lines.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{Home, Outcome, command, simulated};

const NAMES: [&[u8]; 8] = [
    b"not\xffutf-8\xc3",
    b"line\nbreak",
    b"\x1b[31mred",
    b"-o",
    b" spaced  out ",
    b"\"quoted\" 'twice' \\",
    b"%s{}$HOME*",
    "\u{1f9ca}\u{202e}".as_bytes(),
];

/// Where the verbs run: a directory of an odd name, in which all names are odd.
struct Place {
    dir: PathBuf,
    name: &'static [u8],
}

impl Place {
    /// An odd path of the directory, as `-o` can only be named with more before it.
    fn at(&self, more: &str) -> PathBuf {
        self.dir
            .join(OsStr::from_bytes(&[self.name, more.as_bytes()].concat()))
    }

    fn run(&self, words: &[&str]) -> Outcome {
        let mut command = command(&[]);
        command.current_dir(&self.dir);
        for word in words {
            match word.strip_prefix('@') {
                Some(more) => command.arg(self.at(more)),
                None => command.arg(word),
            };
        }
        // What is not UTF-8 is not shown as such, so that this can be read as text.
        command.output().unwrap().into()
    }

    /// Runs a verb for people, then for programs; what a `prepare` of the name makes goes before.
    #[track_caller]
    fn both(&self, code: i32, words: &[&str], makes: Option<&str>) -> Value {
        let text = self.run(words);
        assert_eq!(
            (text.code, &text.stderr[..]),
            (code, ""),
            "{words:?}: {text:#?}"
        );
        let is_control = |c: char| c.is_control() && c != '\n';
        assert!(!text.stdout.contains(is_control), "{words:?}: {text:#?}");
        if let Some(made) = makes {
            let made = self.at(made);
            let removed = if made.is_dir() {
                fs::remove_dir_all(&made)
            } else {
                fs::remove_file(&made)
            };
            removed.unwrap();
        }
        let json = self.run(&[words, &["--json"]].concat());
        assert_eq!(
            (json.code, &json.stderr[..]),
            (code, ""),
            "{words:?}: {json:#?}"
        );
        json.json()
    }
}

fn snapshots(place: &Place) {
    simulated(&place.at(""));
    place.both(
        0,
        &[
            "demo",
            "--backend",
            "simulated",
            "--ram",
            "8MiB",
            "--diffs",
            "0",
            "--workload",
            "input",
            "--record",
            "--dir",
            "@rec",
        ],
        Some("rec"),
    );
    let (full, two) = ("@/full", "@/diff-2");
    place.both(
        0,
        &["replay", "@rec/full", "--journal", "@rec/journal"],
        None,
    );
    for verb in ["stat", "dump"] {
        place.both(0, &["journal", verb, "@rec/journal"], None);
    }
    place.both(0, &["inspect", two], None);
    place.both(0, &["inspect", "@/full/memory"], None);
    place.both(0, &["verify", "--deep", two, "--search", "@"], None);
    place.both(0, &["ls", "@"], None);
    place.both(0, &["merge", two, "-o", "@flat"], Some("flat"));
    place.both(0, &["diff", full, two, "-o", "@/delta"], Some("/delta"));
    place.both(0, &["export", "raw", two, "-o", "@mem"], Some("mem"));
    place.both(
        0,
        &["import", "raw", "@mem", "-o", "@imported"],
        Some("imported"),
    );
    place.run(&["rm", "@/delta", "--json"]).done().json();
    let store = ["--store", "store"];
    place.run(&[&["store", "init"], &store[..]].concat()).done();
    place.both(
        0,
        &[&["push", two, "--name", "one"], &store[..]].concat(),
        None,
    );
    place.both(
        0,
        &[
            &["pull", "one", "-o", "@pulled", "--cache", "@cache"],
            &store[..],
        ]
        .concat(),
        Some("pulled"),
    );
}

fn disks(place: &Place) {
    let store = ["--store", "store"];
    place
        .run(
            &[
                &["disk", "import", "@mem", "--name", "d", "--lazy"],
                &store[..],
            ]
            .concat(),
        )
        .done();
    let of = |words: &[&'static str]| [words, &store[..]].concat();
    place.both(
        0,
        &of(&["disk", "export", "d", "--base", "@mem", "-o", "@img"]),
        Some("img"),
    );
    place.both(
        0,
        &of(&[
            "disk", "resize", "d", "--size", "16MiB", "--base", "@mem", "--wal", "@wal",
        ]),
        None,
    );
    for verb in ["stat", "dump", "check"] {
        place.both(0, &["wal", verb, "@wal"], None);
    }
    place.both(0, &["inspect", "@wal"], None);
}

/// What is wrong is said in one line, and the report for programs is whole.
fn damage(place: &Place) {
    fs::remove_file(place.at("/full/memory")).unwrap();
    let found = place.both(1, &["verify", "@/diff-1"], None);
    let file = found["damages"][0]["file"].as_str().unwrap();
    assert_eq!(file, place.at("/full/memory").to_string_lossy());
    for words in [
        &["inspect", "@none"][..],
        &["ls", "@none"],
        &["verify", "@none", "--json"],
        &["import", "raw", "@none", "-o", "@x"],
        &["export", "raw", "@none", "-o", "@x", "--json"],
        &["merge", "@mem", "-o", "@x"],
        &["wal", "check", "@none"],
        &["journal", "stat", "@none"],
        &["replay", "@rec/full", "--journal", "@none"],
        &["disk", "import", "@none", "--store", "store", "--name", "x"],
        &[
            "store",
            "import-shuru",
            "@none",
            "--store",
            "store",
            "--name",
            "x",
        ],
        &["no-such-verb", "@none"],
    ] {
        let refused = place.run(words);
        assert!(matches!(refused.code, 1..=3), "{words:?}: {refused:#?}");
        refused.fails(refused.code, &[]);
        assert!(
            !refused.stderr.trim_end().contains(char::is_control),
            "{refused:#?}"
        );
    }
}

fn check(name: &'static [u8]) {
    let home = Home::new();
    let dir = home.path().join(OsStr::from_bytes(name));
    fs::create_dir(&dir).unwrap();
    let place = Place { dir, name };
    snapshots(&place);
    disks(&place);
    damage(&place);
}

#[test]
fn every_verb_works_on_odd_names() {
    for name in NAMES {
        check(name);
    }
}

/// A name may be as long as the host lets it.
#[test]
fn long_names_work() {
    let home = Home::new();
    let longest = "n".repeat(255);
    let snapshots = home.at(&longest);
    simulated(&snapshots);
    let out = home.at(&"m".repeat(255));
    let export: [&Path; 2] = ["export".as_ref(), "raw".as_ref()];
    let mut export_to = command(&[]);
    export_to
        .args(export)
        .arg(snapshots.join("full"))
        .arg("-o")
        .arg(&out);
    Outcome::from(export_to.output().unwrap()).done();
    let mut import = command(&[&"import", &"raw", &out, &"-o", &home.at(&"i".repeat(255))]);
    Outcome::from(import.output().unwrap()).done();
}
