//! No verb panics: every golden file of every crate, cut short and with bytes flipped, given to
//! every verb that reads files.

use std::fs;
use std::path::{Path, PathBuf};

use coldframe_testkit::rng::Rng;

use crate::support::{Home, Outcome, command, copy_dir, simulated};

/// Verbs that read one file, `@`.
const OF_FILES: [&str; 11] = [
    "inspect @ --json",
    "verify --deep @",
    "wal stat @",
    "wal dump @",
    "wal check @ --apply",
    "journal stat @ --json",
    "journal dump @",
    "import firecracker --state @ --mem @ -o x",
    "replay s/full --journal @",
    "store import-shuru . --index @ --store store --name x",
    "demo --backend simulated --ram 8MiB --payload @",
];

/// Verbs that read one snapshot directory, `@`.
const OF_SNAPSHOTS: [&str; 7] = [
    "inspect @",
    "verify --deep @ --json",
    "export raw @ -o x",
    "merge @ -o x",
    "diff @ @ -o x",
    "push @ --store store",
    "thaw @",
];

fn goldens() -> Vec<PathBuf> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = Vec::new();
    for member in fs::read_dir(crates).unwrap() {
        let golden = member.unwrap().path().join("tests/golden");
        let versions = fs::read_dir(golden).into_iter().flatten();
        for file in versions.flat_map(|version| fs::read_dir(version.unwrap().path()).unwrap()) {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "bin") {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(found.len() > 20, "{found:?}");
    found
}

/// As it is, cut, and with a byte changed.
fn spoiled(bytes: &[u8], rng: &mut Rng) -> Vec<Vec<u8>> {
    let len = bytes.len() as u64;
    let cut = bytes[..rng.below(len) as usize].to_vec();
    let mut flipped = bytes.to_vec();
    flipped[rng.below(len) as usize] ^= 1 << rng.below(8);
    let mut high = bytes.to_vec();
    let at = rng.below(len) as usize;
    let end = (at + 8).min(high.len());
    high[at..end].fill(0xff);
    vec![bytes.to_vec(), cut, flipped, high]
}

/// Runs a verb: it ends with one of the exit codes there are, and at most one line of error.
#[track_caller]
fn run(home: &Home, verb: &str, subject: &str, case: &str) {
    let words = verb
        .split(' ')
        .map(|word| if word == "@" { subject } else { word });
    let mut command = command(&[]);
    let output = command
        .args(words)
        .current_dir(home.path())
        .output()
        .unwrap();
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let outcome = Outcome {
        code: output.status.code().unwrap_or(-1),
        stdout: lossy(&output.stdout),
        stderr: lossy(&output.stderr),
    };
    let lines = outcome.stderr.lines().count();
    let is_orderly = matches!(outcome.code, 0..=3) && lines <= 1;
    assert!(is_orderly, "{verb} of {case}: {outcome:#?}");
    let made = home.at("x");
    let _absent = fs::remove_dir_all(&made);
    let _absent = fs::remove_file(&made);
}

fn scene() -> Home {
    let home = Home::new();
    simulated(&home.at("s"));
    let mut init = command(&[&"store", &"init", &"--store", &home.at("store")]);
    Outcome::from(init.output().unwrap()).done();
    home
}

#[test]
fn no_verb_panics_over_a_bad_file() {
    let home = scene();
    let mut rng = Rng::new(101);
    for golden in goldens() {
        let bytes = fs::read(&golden).unwrap();
        for (at, bad) in spoiled(&bytes, &mut rng).into_iter().enumerate() {
            for verb in OF_FILES {
                fs::write(home.at("bad"), &bad).unwrap();
                run(&home, verb, "bad", &format!("{} ({at})", golden.display()));
            }
        }
    }
}

#[test]
fn no_verb_panics_over_a_bad_snapshot() {
    let home = scene();
    let mut rng = Rng::new(102);
    for name in ["manifest", "memory", "state"] {
        let sound = fs::read(home.at("s/diff-1").join(name)).unwrap();
        // The tables at the beginning say more than the pages behind them.
        let (head, rest) = sound.split_at(sound.len().min(4096));
        for round in 0..6 {
            for bad in spoiled(head, &mut rng).into_iter().skip(1) {
                let _absent = fs::remove_dir_all(home.at("s/bad"));
                copy_dir(&home.at("s/diff-1"), &home.at("s/bad"));
                let path = home.at("s/bad").join(name);
                fs::remove_file(&path).unwrap();
                let is_whole = bad.len() == head.len();
                let rest: &[u8] = if is_whole { rest } else { &[] };
                fs::write(&path, [&bad[..], rest].concat()).unwrap();
                for verb in OF_SNAPSHOTS {
                    run(&home, verb, "s/bad", &format!("{name} in round {round}"));
                }
            }
        }
    }
}
