//! The crash proofs, further than the tests go by default.
//!
//! A scenario is a test in a module called `crash` that calls `explore` of
//! `coldframe_testkit::crash` or one of `coldframe_testkit::unreadable`, a kill loop one in a
//! module called `kill` that calls `kills::rounds`: a crate adds one by writing it. They run here
//! as they are, in release mode, and say in lines of fields what they did.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::binaries::{self, Binary};
use crate::exec;
use crate::tree::{Tree, crate_of};

/// How far to go.
pub struct Extent {
    /// Where the workloads are drawn from.
    pub seed: u64,
    /// States of each scenario.
    pub iters: u64,
    /// Kills of each writer; none when left out.
    pub kills: Option<u64>,
}

/// Runs all scenarios; false if one was violated, or a planted bug missed.
pub fn run(tree: &Tree, extent: &Extent) -> Result<bool> {
    let report = tree.path("target/xtask/crash.report");
    std::fs::create_dir_all(tree.path("target/xtask"))?;
    std::fs::write(&report, "")?;
    println!(
        "seed {}, {} states of each scenario",
        extent.seed, extent.iters
    );
    let mut ok = run_tests(
        tree,
        "crash",
        &["explore(", "explore_sampled("],
        &report,
        extent,
    )?;
    if extent.kills.is_some() {
        ok &= run_tests(tree, "kill", &["kills::rounds("], &report, extent)?;
    }
    let lines = std::fs::read_to_string(&report)?;
    let summary = summarise(&lines);
    print!("{}", summary.text);
    Ok(ok && summary.is_clean)
}

/// Runs the tests of a module in all crates that have it, the crates beside each other.
fn run_tests(
    tree: &Tree,
    module: &str,
    calls: &[&str],
    report: &Path,
    extent: &Extent,
) -> Result<bool> {
    let crates = crates_with(tree, module, calls)?;
    ensure!(
        !crates.is_empty(),
        "no test in a module `{module}` calls any of {calls:?}"
    );
    println!("{module}: {}", crates.join(" "));
    let binaries = build(tree, &crates)?;
    let run = |binary: &Binary| -> Result<bool> {
        let mut command = Command::new(&binary.path);
        command
            .current_dir(&binary.folder)
            .args([&format!("{module}::"), "--nocapture"])
            .env("COLDFRAME_REPORT", report)
            .env("COLDFRAME_CRASH_SEED", extent.seed.to_string())
            .env("COLDFRAME_CRASH_ITERS", extent.iters.to_string());
        if let Some(kills) = extent.kills {
            command.env("COLDFRAME_KILLS", kills.to_string());
        }
        let log = format!("{module}-{}", binary.name);
        let done = exec::logged(tree, &log, &mut command)?;
        if !done.ok {
            println!("FAILED: see target/xtask/{log}.log");
        }
        Ok(done.ok)
    };
    let done: Vec<Result<bool>> = std::thread::scope(|scope| {
        let run = &run;
        let start = |binary| scope.spawn(move || run(binary));
        let threads: Vec<_> = binaries.iter().map(start).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|_| Ok(false))
        };
        threads.into_iter().map(join).collect()
    });
    done.into_iter().try_fold(true, |ok, one| Ok(one? && ok))
}

/// Builds them all at once: one by one, the features that they share would differ.
fn build(tree: &Tree, crates: &[String]) -> Result<Vec<Binary>> {
    let mut command = exec::cargo(tree, "test --release --locked --no-run --test it");
    for name in crates {
        command.args(["--package", name]);
    }
    let binaries = binaries::build(&mut command)?;
    ensure!(binaries.len() == crates.len(), "a crate without tests");
    Ok(binaries)
}

/// The crates that have a module of this name with such a call in it.
fn crates_with(tree: &Tree, module: &str, calls: &[&str]) -> Result<Vec<String>> {
    let mut crates = Vec::new();
    let file = format!("/{module}.rs");
    for path in tree.rust_files().filter(|path| {
        path.contains("/tests/it/")
            && (path.ends_with(&file) || path.contains(&format!("/{module}/")))
    }) {
        let name = crate_of(path).context("a test outside of crates/")?;
        let text = tree.read(path)?;
        if calls.iter().any(|call| text.contains(call)) {
            crates.push(name.to_owned());
        }
    }
    crates.dedup();
    Ok(crates)
}

/// What the scenarios said, for people.
pub struct Summary {
    /// A table, and what is wrong.
    pub text: String,
    /// Whether nothing is.
    pub is_clean: bool,
}

/// Adds the lines up.
pub fn summarise(lines: &str) -> Summary {
    let mut rows: Vec<Vec<&str>> = lines
        .lines()
        .map(|line| line.split('\t').collect())
        .collect();
    rows.sort();
    let mut text = format!(
        "{:<36} {:>10} {:>10} {:>9}\n",
        "scenario", "states", "workloads", "time"
    );
    let (mut states, mut violations, mut found, mut missed) = (0, 0, 0, 0);
    let mut wrong = String::new();
    for row in &rows {
        match row[..] {
            ["CRASH", name, "ok", count, workloads, millis] => {
                states += number(count);
                let time = seconds(millis);
                let _ = writeln!(text, "{name:<36} {count:>10} {workloads:>10} {time:>7} s");
            }
            ["CRASH", name, _, _, _, millis, violation] => {
                violations += 1;
                let time = seconds(millis);
                let _ = writeln!(text, "{name:<36} {:>21} {time:>7} s", "VIOLATION");
                let _ = writeln!(wrong, "{name}: {}", violation.replace("\\n", "\n"));
            }
            ["PLANTED", name, "found", steps, _] => {
                found += 1;
                let _ = writeln!(text, "planted: {name}: found, {steps} operations");
            }
            ["PLANTED", name, ..] => {
                missed += 1;
                let _ = writeln!(text, "planted: {name}: MISSED");
            }
            ["KILLS", name, _, count, at_work, millis] => {
                let time = seconds(millis);
                let _ = writeln!(
                    text,
                    "killed: {name}: {count} times in {time} s, {at_work} at work, nothing lost"
                );
            }
            _ => {
                violations += 1;
                let _ = writeln!(wrong, "not understood: {row:?}");
            }
        }
    }
    let _ = writeln!(
        text,
        "{states} states, {violations} violations; planted bugs: {found} found, {missed} missed"
    );
    text.push_str(&wrong);
    Summary {
        text,
        is_clean: violations + missed == 0 && states > 0 && found > 0,
    }
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or(0)
}

fn seconds(millis: &str) -> String {
    format!("{}.{}", number(millis) / 1000, number(millis) % 1000 / 100)
}
