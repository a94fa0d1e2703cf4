//! The steps of `ci` that run other programs. Each is a function from the tree to a verdict.

use std::fmt::Write as _;
use std::num::NonZero;
use std::path::Path;
use std::process::Command;
use std::thread::ScopedJoinHandle;

use anyhow::{Context as _, Result};

use crate::compat;
use crate::exec::{self, Done};
use crate::fuzz;
use crate::manifests::{self, Crate};
use crate::tree::Tree;
use crate::verdict::{self, Verdict};

/// The target without an operating system that pure crates are built for.
const BARE_METAL: &str = "x86_64-unknown-none";

/// Seconds of fuzzing for each target.
const FUZZ_SECS: u64 = 20;

/// Formatting, of the fuzz and bench workspaces too.
pub fn fmt(tree: &Tree) -> Result<Verdict> {
    let mut verdict = program(tree, "fmt", "fmt --all --check")?;
    for manifest in ["fuzz/Cargo.toml", "bench/Cargo.toml"] {
        let sources = format!("{}/", manifest.trim_end_matches("/Cargo.toml"));
        let mut files = tree.rust_files();
        if tree.has(manifest) && files.any(|path| path.starts_with(&sources)) {
            let args = format!("fmt --manifest-path {manifest} --check");
            verdict.add(&program(tree, "fmt-other", &args)?);
        }
    }
    Ok(as_one(&verdict))
}

/// Lock files of the workspaces beside the main one: a build with `--locked` refuses a stale one.
/// That of the main workspace is checked by every step that compiles.
pub fn locks(tree: &Tree) -> Result<Verdict> {
    let mut verdict = Verdict::default();
    for manifest in ["fuzz/Cargo.toml", "bench/Cargo.toml"] {
        let args = format!("update --workspace --locked --manifest-path {manifest}");
        verdict.add(&program(tree, "locks", &args)?);
    }
    Ok(as_one(&verdict))
}

/// Lints.
pub fn clippy(tree: &Tree) -> Result<Verdict> {
    let args = "clippy --workspace --all-targets --all-features --locked -- -D warnings";
    program(tree, "clippy", args)
}

/// The compat tests alone.
pub fn compat(tree: &Tree) -> Result<Verdict> {
    match compat::command(tree) {
        None => Ok(Verdict::missing("compat", "no crate has golden files yet")),
        Some(mut command) => {
            let done = exec::logged(tree, "compat", &mut command)?;
            Ok(Verdict::of_program(&done))
        }
    }
}

/// All tests; each counts.
pub fn test(tree: &Tree) -> Result<Verdict> {
    let args = "test --workspace --locked --no-fail-fast";
    let done = exec::logged(tree, "test", &mut exec::cargo(tree, args))?;
    Ok(verdict::of_tests(&done, &exec::required()))
}

/// The same of what `cargo test --workspace` has printed. It says not how that ended: that is for
/// the caller to know.
pub fn tested(output: &Path) -> Result<Verdict> {
    let output = std::fs::read(output).with_context(|| format!("reading {}", output.display()))?;
    let output = String::from_utf8_lossy(&output).into_owned();
    // It says so at its end when a program of tests failed, or when one was not built.
    let is_whole = output.contains("test result: ") && output.contains("   Doc-tests ");
    let ok = is_whole && !output.lines().any(|line| line.starts_with("error: "));
    Ok(verdict::of_tests(&Done { ok, output }, &exec::required()))
}

/// Each crate with no feature, with each alone, and with all.
pub fn features(tree: &Tree) -> Result<Verdict> {
    let mut verdict = Verdict::default();
    for one in manifests::crates(tree)? {
        for set in feature_sets(&one) {
            let args = format!("check --locked --package {} {set}", one.name);
            verdict.add(&program(tree, "features", &args)?);
        }
    }
    Ok(as_one(&verdict))
}

fn feature_sets(one: &Crate) -> Vec<String> {
    if one.features.is_empty() && !one.has_default {
        return Vec::new();
    }
    let none = "--no-default-features".to_owned();
    let each = one
        .features
        .iter()
        .map(|feature| format!("--no-default-features --features {feature}"));
    let all = "--all-features".to_owned();
    std::iter::once(none).chain(each).chain([all]).collect()
}

/// The documentation, with warnings denied.
pub fn docs(tree: &Tree) -> Result<Verdict> {
    let args = "doc --workspace --no-deps --all-features --locked";
    let mut command = exec::cargo(tree, args);
    command.env("RUSTDOCFLAGS", "-D warnings");
    Ok(Verdict::of_program(&exec::logged(
        tree,
        "docs",
        &mut command,
    )?))
}

/// Bans, licences and sources; advisories need a database from the network.
pub fn deny(tree: &Tree) -> Result<Verdict> {
    if !exec::works(&mut exec::cargo(tree, "deny --version")) {
        let reason = "deny: cargo-deny is not installed: `cargo install --locked cargo-deny`";
        return Ok(Verdict::missing("deny", reason));
    }
    program(
        tree,
        "deny",
        "deny --all-features check bans licenses sources",
    )
}

/// Pure crates on a target without an operating system.
pub fn bare_metal(tree: &Tree) -> Result<Verdict> {
    let crates = manifests::crates(tree)?;
    let pure = crates.iter().filter(|one| one.pure);
    let names: Vec<&str> = pure.map(|one| one.name.as_str()).collect();
    for_target(tree, "build --no-default-features", BARE_METAL, &names)
}

/// Crates on the targets that their manifests name, with the lints of the host's build: what is of
/// that system alone is linted nowhere else.
pub fn other_targets(tree: &Tree) -> Result<Verdict> {
    let crates = manifests::crates(tree)?;
    let mut targets: Vec<&String> = crates.iter().flat_map(|one| &one.check_targets).collect();
    targets.sort();
    targets.dedup();
    let mut verdict = Verdict::default();
    for target in targets {
        let these = crates
            .iter()
            .filter(|one| one.check_targets.contains(target));
        let names: Vec<&str> = these.map(|one| one.name.as_str()).collect();
        verdict.add(&for_target(tree, "clippy", target, &names)?);
    }
    Ok(as_one(&verdict))
}

/// Tests that touch the C library, linked with musl, which is what VMMs are shipped with.
pub fn musl(tree: &Tree) -> Result<Verdict> {
    const TARGET: &str = "x86_64-unknown-linux-musl";
    const CRATES: [&str; 2] = ["coldframe-hv", "coldframe-kvm"];
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        let reason = "musl: the tests run on x86_64 Linux alone";
        return Ok(Verdict::missing("musl", reason));
    }
    if !exec::works(Command::new("musl-gcc").arg("--version")) {
        let reason = "musl: no musl-gcc: `apt-get install musl-tools`";
        return Ok(Verdict::missing("musl", reason));
    }
    for_target(tree, "test", TARGET, &CRATES)
}

fn for_target(tree: &Tree, verb: &str, target: &str, names: &[&str]) -> Result<Verdict> {
    let mut command = exec::cargo(tree, verb);
    command.args(["--locked", "--target", target]);
    for name in names {
        command.args(["--package", name]);
    }
    if verb == "test" {
        let target = target.replace('-', "_");
        command.env(format!("CC_{target}"), "musl-gcc");
    }
    if verb == "clippy" {
        command.args(["--", "-D", "warnings"]);
        without_c(&mut command, target);
    }
    let done = exec::logged(tree, target, &mut command)?;
    let mut verdict = Verdict::of_program(&done);
    if done.output.contains("target may not be installed") {
        let _ = writeln!(verdict.detail, "install it: `rustup target add {target}`");
    }
    Ok(verdict)
}

/// Nothing is linked in a check, so C code inside dependencies need not be compiled for the target:
/// a compiler and an archiver that do nothing will do. A compiler is named with a wrapper, `env`:
/// one without is run by the cache that RUSTC_WRAPPER may name, which refuses what is no compiler.
pub fn without_c(command: &mut Command, target: &str) {
    let target = target.replace('-', "_");
    command.env("CC_KNOWN_WRAPPER_CUSTOM", "env");
    command.env(format!("CC_{target}"), "env true");
    command.env(format!("AR_{target}"), "true");
}

/// Crates with tests under loom, in a build of their own.
pub fn loom(tree: &Tree) -> Result<Verdict> {
    let mut verdict = Verdict::default();
    for one in manifests::crates(tree)?
        .iter()
        .filter(|one| one.has_loom_tests)
    {
        let (name, folder) = (&one.name, "target/loom");
        let args = format!("test --release --package {name} --test loom --target-dir {folder}");
        let mut command = exec::cargo(tree, &args);
        command.env("RUSTFLAGS", "--cfg loom");
        verdict.add(&Verdict::of_program(&exec::logged(
            tree,
            "loom",
            &mut command,
        )?));
    }
    if verdict.passed + verdict.failed == 0 {
        return Ok(Verdict::missing("loom", "no crate has tests/loom.rs"));
    }
    Ok(as_one(&verdict))
}

/// A short run of each fuzz target.
pub fn fuzz(tree: &Tree) -> Result<Verdict> {
    if !fuzz::is_installed(tree) {
        let reason = format!("fuzz: needs nightly and cargo-fuzz: `{}`", fuzz::INSTALL);
        return Ok(Verdict::missing("fuzz", &reason));
    }
    let build = exec::logged(tree, "fuzz", &mut exec::nightly_cargo(tree, "fuzz build"))?;
    let mut verdict = Verdict::of_program(&build);
    if !build.ok {
        return Ok(verdict);
    }
    // A target keeps one processor busy, and gets it whole.
    let at_once = std::thread::available_parallelism().map_or(1, NonZero::get);
    for targets in fuzz::targets(tree)?.chunks(at_once) {
        let ended = std::thread::scope(|scope| {
            let start = |target| scope.spawn(move || fuzz_one(tree, target));
            let running: Vec<_> = targets.iter().map(start).collect();
            let end = |run: ScopedJoinHandle<_>| run.join().expect("it does not panic");
            running.into_iter().map(end).collect::<Result<Vec<_>>>()
        });
        for one in ended? {
            verdict.add(&one);
        }
    }
    Ok(as_one(&verdict))
}

fn fuzz_one(tree: &Tree, target: &String) -> Result<Verdict> {
    let mut command = fuzz::command(tree, target, FUZZ_SECS)?;
    let done = exec::logged(tree, &format!("fuzz-{target}"), &mut command)?;
    Ok(Verdict::of_program(&done))
}

/// Runs a step as a command of its own.
pub fn alone(tree: &Tree, step: fn(&Tree) -> Result<Verdict>) -> Result<bool> {
    let verdict = step(tree)?;
    print!("{}", verdict.detail);
    println!("{}", verdict.word());
    Ok(verdict.failed == 0)
}

fn program(tree: &Tree, log: &str, args: &str) -> Result<Verdict> {
    Ok(Verdict::of_program(&exec::logged(
        tree,
        log,
        &mut exec::cargo(tree, args),
    )?))
}

/// Several runs that count as one check.
fn as_one(verdict: &Verdict) -> Verdict {
    Verdict::of(verdict.failed == 0, verdict.detail.clone())
}
