//! Miri: the tests of pure crates, and of the unsafe code that it can run, on an interpreter that
//! finds undefined behaviour. It is slow: what only repeats safe code on many inputs is left out.

use std::process::Command;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::exec;
use crate::manifests::{self, Crate};
use crate::tree::Tree;
use crate::verdict::Verdict;

/// Modules of tests that try thousands of inputs, and crates of pure code do the same to each.
const SKIPPED: &[&str] = &["hostile", "model", "bound", "loom"];

/// Crates that are not pure, and the tests of theirs that Miri can run: it has no devices, no
/// mappings of files, and few system calls (not renameat2(2), by which files are published). What
/// is unsafe in the hypervisors' adapters and in coldframe-mem is calls of just these.
const IMPURE: &[(&str, &[&str])] = &[(
    "coldframe-storage",
    &["source::a_file_cut_short_under_plain_reading_is_an_error"],
)];

/// Seconds that one crate may take: more of its tests have to be left out then, or made smaller
/// under `cfg(miri)`.
const SECS_MAX: u32 = 1800;

/// Runs one crate or all; false if one failed.
pub fn run(tree: &Tree, only: Option<&str>) -> Result<bool> {
    if !exec::works(&mut exec::nightly_cargo(tree, "miri --version")) {
        bail!("needs miri: `rustup component add --toolchain nightly miri rust-src`");
    }
    let crates = manifests::crates(tree)?;
    let chosen: Vec<&Crate> = crates
        .iter()
        .filter(|one| one.pure || filters(&one.name).is_some())
        .filter(|one| only.is_none_or(|name| one.name == name))
        .collect();
    if chosen.is_empty() {
        bail!("Miri runs no tests of such a crate");
    }
    let mut total = Verdict::default();
    for one in chosen {
        let start = Instant::now();
        let verdict = test(tree, one)?;
        let secs = start.elapsed().as_secs_f64();
        println!("{:<22}{:<8}{secs:>7.1} s", one.name, verdict.word());
        print!("{}", verdict.detail);
        total.add(&verdict);
    }
    println!("{} passed, {} failed", total.passed, total.failed);
    Ok(total.failed == 0)
}

fn filters(name: &str) -> Option<&'static [&'static str]> {
    let found = IMPURE.iter().find(|(one, _)| *one == name);
    found.map(|(_, filters)| *filters)
}

fn test(tree: &Tree, one: &Crate) -> Result<Verdict> {
    let mut command = exec::nightly_cargo(tree, "miri test --locked --test it --package");
    command.args([&one.name, "--target-dir"]);
    command.arg(tree.path("target/miri")).arg("--");
    command.args(filters(&one.name).unwrap_or_default());
    for module in SKIPPED {
        command.args(["--skip", &format!("{module}::")]);
    }
    // Golden files are read and temporary ones made; proptest need not try many cases.
    command.env("MIRIFLAGS", "-Zmiri-disable-isolation");
    command.env("PROPTEST_CASES", "4");
    let done = exec::logged(
        tree,
        &format!("miri-{}", one.name),
        &mut bounded(&command, SECS_MAX),
    )?;
    // Names of modules change: a run of no test would prove nothing.
    if done.ok && done.output.contains("test result: ok. 0 passed") {
        let what = format!("{}: none of its tests ran\n", one.name);
        return Ok(Verdict::of(false, what));
    }
    Ok(Verdict::of_program(&done))
}

/// The same command, ended with all that it started when its time is over (timeout(1)).
fn bounded(command: &Command, secs: u32) -> Command {
    let mut outer = Command::new("timeout");
    outer.arg(secs.to_string());
    outer.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        outer.current_dir(folder);
    }
    outer.stdin(std::process::Stdio::null());
    outer
}
