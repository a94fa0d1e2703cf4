//! The crash proofs, further than the tests go by default.
//!
//! A scenario is a test in a module called `crash` that calls
//! `coldframe_testkit::crash::explore`, a kill loop one in a module called `kill` that calls
//! `kills::rounds`: a crate adds one by writing it. They run here as they are, in release mode, and
//! say in lines of fields what they did.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};

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
    let mut ok = run_tests(tree, "crash", "explore(", &report, extent)?;
    if extent.kills.is_some() {
        ok &= run_tests(tree, "kill", "kills::rounds(", &report, extent)?;
    }
    let lines = std::fs::read_to_string(&report)?;
    let summary = summarise(&lines);
    print!("{}", summary.text);
    Ok(ok && summary.is_clean)
}

fn run_tests(
    tree: &Tree,
    module: &str,
    call: &str,
    report: &Path,
    extent: &Extent,
) -> Result<bool> {
    let crates = crates_with(tree, module, call)?;
    ensure!(
        !crates.is_empty(),
        "no test in a module `{module}` calls `{call}`"
    );
    let mut command = exec::cargo(tree, "test --release --locked --no-fail-fast --test it");
    for name in &crates {
        command.args(["--package", name]);
    }
    command
        .args(["--", &format!("{module}::"), "--nocapture"])
        .env("COLDFRAME_REPORT", report)
        .env("COLDFRAME_CRASH_SEED", extent.seed.to_string())
        .env("COLDFRAME_CRASH_ITERS", extent.iters.to_string());
    if let Some(kills) = extent.kills {
        command.env("COLDFRAME_KILLS", kills.to_string());
    }
    println!("{module}: {}", crates.join(" "));
    let done = exec::logged(tree, module, &mut command)?;
    if !done.ok {
        println!("FAILED: see target/xtask/{module}.log");
    }
    Ok(done.ok)
}

/// The crates that have a module of this name with such a call in it.
fn crates_with(tree: &Tree, module: &str, call: &str) -> Result<Vec<String>> {
    let mut crates = Vec::new();
    let file = format!("/{module}.rs");
    for path in tree.rust_files().filter(|path| {
        path.contains("/tests/it/")
            && (path.ends_with(&file) || path.contains(&format!("/{module}/")))
    }) {
        let name = crate_of(path).context("a test outside of crates/")?;
        if tree.read(path)?.contains(call) {
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
