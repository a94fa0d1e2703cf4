//! Power cuts while files and directories are published and taken away.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use coldframe_storage::{Overwrite, PendingDir, PendingFile, Storage, retract, sweep_stale};
use coldframe_testkit::crash::{Cuts, HostOp, Recording, Timeline, Trace, World, explore, planted};
use coldframe_testkit::rng::Rng;
use coldframe_testkit::scratch;
use coldframe_units::FileOffset;

/// An operation; names are few, so that they meet.
#[derive(Clone, Debug)]
enum Step {
    /// A file with so many bytes, in two writes.
    File {
        name: u8,
        len: usize,
        replace: bool,
    },
    /// A directory with so many files.
    Dir {
        name: u8,
        files: u8,
        len: usize,
    },
    Retract {
        name: u8,
    },
    /// Written, and never published.
    Abandon {
        name: u8,
        len: usize,
    },
}

/// What is under each name: files of a directory, or one file without a name.
type Names = BTreeMap<String, BTreeMap<String, Vec<u8>>>;

struct Publish {
    /// What the program does instead of what it did.
    plant: fn(&mut Trace),
}

fn name_of(name: u8) -> String {
    format!("n{name}")
}

fn content(fresh: u64, len: usize) -> Vec<u8> {
    let mut bytes = Rng::new(fresh).bytes(len + 8);
    bytes[..8].copy_from_slice(&fresh.to_le_bytes());
    bytes
}

fn fill(file: &impl Storage, bytes: &[u8]) {
    // Behind each other, and not in order.
    let half = bytes.len() / 2;
    file.write_at(FileOffset::new(half as u64), &bytes[half..])
        .unwrap();
    file.write_at(FileOffset::ZERO, &bytes[..half]).unwrap();
}

impl World for Publish {
    type Step = Step;

    fn draw(&self, rng: &mut Rng) -> Vec<Step> {
        let step = |rng: &mut Rng| {
            let (name, len) = (rng.below(3) as u8, rng.below(5000) as usize);
            match rng.below(10) {
                0..=3 => Step::File {
                    name,
                    len,
                    replace: rng.below(3) > 0,
                },
                4..=6 => Step::Dir {
                    name,
                    files: 1 + rng.below(3) as u8,
                    len: len / 4,
                },
                7..=8 => Step::Retract { name },
                _ => Step::Abandon { name, len },
            }
        };
        let count = 2 + rng.below(5);
        (0..count).map(|_| step(rng)).collect()
    }

    fn run(&self, steps: &[Step], cuts: &mut Cuts) {
        let dir = scratch::dir();
        let recording = Recording::start(dir.path());
        // What was there before the step, and what it makes of it.
        let mut known = Timeline::new([Names::new(), Names::new()]);
        for (number, step) in (1u64..).zip(steps) {
            let [_, before] = known.last();
            let after = outcome(&before, step, number);
            let is_idle = after == before && !matches!(step, Step::Abandon { .. });
            known.note(recording.operations(), [before, after.clone()]);
            assert_eq!(work(dir.path(), step, number), !is_idle, "{step:?}");
            known.note(recording.operations(), [after.clone(), after]);
        }
        let mut trace = recording.trace();
        drop(recording);
        (self.plant)(&mut trace);
        for moment in 0..=trace.operations() {
            let allowed = known.promised(moment);
            cuts.tree(&trace, moment, &mut |dir| check(dir, allowed));
        }
    }
}

/// What a step makes of the names.
fn outcome(before: &Names, step: &Step, fresh: u64) -> Names {
    let mut after = before.clone();
    match step {
        Step::File { name, len, replace } => {
            let name = name_of(*name);
            let is_dir = before
                .get(&name)
                .is_some_and(|files| !files.contains_key(""));
            if !is_dir && (*replace || !before.contains_key(&name)) {
                let file = (String::new(), content(fresh, *len));
                after.insert(name, BTreeMap::from([file]));
            }
        }
        Step::Dir { name, files, len } => {
            let name = name_of(*name);
            let file = |at: u8| (format!("f{at}"), content(fresh + u64::from(at) * 100, *len));
            let files = (0..*files).map(file).collect();
            after.entry(name).or_insert(files);
        }
        Step::Retract { name } => {
            after.remove(&name_of(*name));
        }
        Step::Abandon { .. } => {}
    }
    after
}

/// Whether it was done.
fn work(dir: &Path, step: &Step, fresh: u64) -> bool {
    match step {
        Step::File { name, len, replace } => {
            let overwrite = if *replace {
                Overwrite::Replace
            } else {
                Overwrite::Refuse
            };
            let Ok(file) = PendingFile::create(&dir.join(name_of(*name)), overwrite) else {
                return false;
            };
            fill(&file, &content(fresh, *len));
            file.publish().is_ok()
        }
        Step::Dir { name, files, len } => {
            let Ok(pending) = PendingDir::create(&dir.join(name_of(*name))) else {
                return false;
            };
            for at in 0..*files {
                let file = pending.file(&format!("f{at}")).unwrap();
                fill(&file, &content(fresh + u64::from(at) * 100, *len));
            }
            pending.publish().is_ok()
        }
        Step::Retract { name } => retract(&dir.join(name_of(*name))).is_ok(),
        Step::Abandon { name, len } => {
            let file = PendingFile::create(&dir.join(name_of(*name)), Overwrite::Replace).unwrap();
            fill(&file, &content(fresh, *len));
            true
        }
    }
}

/// The old state or the new one, never a third.
fn check(dir: &Path, allowed: &[Names]) {
    sweep_stale(dir).unwrap();
    let mut found = Names::new();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let mut files = BTreeMap::new();
        let is_dir = entry.metadata().unwrap().is_dir();
        let paths = if is_dir {
            let inside = fs::read_dir(entry.path()).unwrap();
            inside.map(|entry| entry.unwrap().path()).collect()
        } else {
            vec![entry.path()]
        };
        for path in paths {
            let mode = path.metadata().unwrap().permissions().mode() & 0o7777;
            assert_eq!(mode, 0o400, "{}", path.display());
            let name = if is_dir { path.file_name() } else { None };
            let name = name.map_or_else(String::new, |name| name.to_string_lossy().into_owned());
            files.insert(name, fs::read(&path).unwrap());
        }
        found.insert(entry.file_name().to_string_lossy().into_owned(), files);
    }
    let names = |names: &Names| -> Vec<String> {
        let all = names.iter();
        all.map(|(name, files)| format!("{name}: {} files", files.len()))
            .collect()
    };
    assert!(
        allowed.contains(&found),
        "there is {:?}, and may be {:?}",
        names(&found),
        allowed.iter().map(names).collect::<Vec<_>>()
    );
}

#[test]
fn a_power_cut_leaves_the_old_state_or_the_new_one_and_never_a_third() {
    explore("publish and retract", 3000, &Publish { plant: |_| () });
}

/// Whether this is a sync of the directory that all is in.
fn is_parent(op: &HostOp) -> bool {
    matches!(op, HostOp::Sync { node: 0, .. })
}

#[test]
fn planted_no_sync_before_the_rename_is_found() {
    let plant = |trace: &mut Trace| {
        trace.leave_out(|_, op| matches!(op, HostOp::Sync { .. }) && !is_parent(op));
    };
    planted(
        "publish: no sync before the rename",
        20_000,
        &Publish { plant },
    );
}

#[test]
fn planted_no_sync_of_the_directory_is_found() {
    let plant = |trace: &mut Trace| trace.leave_out(|_, op| is_parent(op));
    planted(
        "publish: no sync of the directory",
        20_000,
        &Publish { plant },
    );
}

#[test]
fn planted_a_rename_before_the_sync_is_found() {
    let plant = |trace: &mut Trace| {
        let ops = trace.ops_mut();
        for at in 1..ops.len() {
            let is_sync = matches!(ops[at - 1], HostOp::Sync { node, .. } if node != 0);
            if is_sync && matches!(ops[at], HostOp::Rename { .. }) {
                ops.swap(at - 1, at);
            }
        }
    };
    planted(
        "publish: renamed before the sync",
        20_000,
        &Publish { plant },
    );
}

#[test]
fn planted_names_of_a_directory_that_are_not_synced_are_found() {
    let plant = |trace: &mut Trace| {
        trace.leave_out(|trace, op| match op {
            HostOp::Sync { node, .. } => *node != 0 && trace.is_dir(*node),
            _ => false,
        });
    };
    planted(
        "publish: names in a directory not synced",
        20_000,
        &Publish { plant },
    );
}

#[test]
fn planted_a_mode_that_is_not_durable_is_found() {
    // As with fdatasync(2) in place of fsync(2).
    let plant = |trace: &mut Trace| {
        for op in trace.ops_mut() {
            if let HostOp::Sync { data_only, node } = op {
                *data_only = *node != 0;
            }
        }
    };
    planted("publish: mode not synced", 20_000, &Publish { plant });
}

#[test]
fn planted_removal_in_place_is_found() {
    // Without the rename first, some files of a directory go before others.
    let plant = |trace: &mut Trace| {
        let ops = trace.ops_mut();
        for op in ops {
            let is_retraction = matches!(op, HostOp::Rename { to, .. }
                if to.1.starts_with('.'));
            if is_retraction {
                *op = HostOp::NOTHING;
            }
        }
    };
    planted("retract: removed in place", 20_000, &Publish { plant });
}

/// A name that is found taken, by one who ended before it was durable; and then a power cut.
struct Taken {
    plant: fn(&mut Trace),
}

impl World for Taken {
    /// Whether it is a directory.
    type Step = bool;

    fn draw(&self, rng: &mut Rng) -> Vec<bool> {
        vec![rng.below(2) == 0]
    }

    fn run(&self, steps: &[bool], cuts: &mut Cuts) {
        let dir = scratch::dir();
        let recording = Recording::start(dir.path());
        let is_dir = steps.first().is_some_and(|is_dir| *is_dir);
        let path = dir.path().join("name");
        let error = if is_dir {
            fs::create_dir(&path).unwrap();
            PendingDir::create(&path).unwrap_err()
        } else {
            let file = fs::File::create(&path).unwrap();
            file.sync_all().unwrap();
            PendingFile::create(&path, Overwrite::Refuse).unwrap_err()
        };
        assert!(error.is_exists(), "{error}");
        let mut trace = recording.trace();
        drop(recording);
        (self.plant)(&mut trace);
        cuts.tree(&trace, trace.operations(), &mut |dir| {
            assert!(dir.join("name").exists(), "the name that was taken is gone");
        });
    }
}

// Spec: CRASH-5
#[test]
fn a_name_that_was_said_to_be_taken_survives_any_cut() {
    explore("publish, taken names", 8, &Taken { plant: |_| () });
}

#[test]
fn planted_a_taken_name_that_is_not_durable_is_found() {
    let plant = |trace: &mut Trace| {
        trace.leave_out(|_, op| matches!(op, HostOp::Sync { node: 0, .. }));
    };
    planted("publish: taken name not durable", 100, &Taken { plant });
}
