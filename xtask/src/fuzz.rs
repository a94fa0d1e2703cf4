//! Fuzzing, with nightly and cargo-fuzz. A crash is minimised and filed under
//! `fuzz/regressions/<target>/`, where `cargo test` replays it for ever.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::exec;
use crate::findings::Findings;
use crate::goldens;
use crate::tree::{Tree, crate_of};

/// Fuzzes one target or all, or runs one input.
pub fn run(tree: &Tree, only: Option<&str>, secs: u64, repro: Option<&Path>) -> Result<bool> {
    if !is_installed(tree) {
        bail!("needs nightly and cargo-fuzz: `{INSTALL}`");
    }
    let targets = targets(tree)?;
    if let Some(name) = only.filter(|name| !targets.iter().any(|t| t == name)) {
        bail!("no target {name}; there are: {}", targets.join(", "));
    }
    let mut ok = true;
    for target in targets
        .iter()
        .filter(|t| only.is_none_or(|name| name == *t))
    {
        ok &= match repro {
            Some(file) => {
                let file = file.canonicalize().context("finding the input")?;
                exec::shown(exec::nightly_cargo(tree, "fuzz run").arg(target).arg(file))?
            }
            None => fuzz(tree, target, secs)?,
        };
    }
    Ok(ok)
}

/// How to get what it needs.
pub const INSTALL: &str = "rustup toolchain install nightly && cargo install cargo-fuzz";

/// Whether nightly and cargo-fuzz are there.
pub fn is_installed(tree: &Tree) -> bool {
    exec::works(&mut exec::nightly_cargo(tree, "fuzz --version"))
}

/// The targets in `fuzz/Cargo.toml` whose source is there.
pub fn targets(tree: &Tree) -> Result<Vec<String>> {
    let manifest: toml::Table = tree.read("fuzz/Cargo.toml")?.parse()?;
    let bins = manifest.get("bin").and_then(toml::Value::as_array);
    let names = bins.into_iter().flatten().filter_map(|bin| {
        let name = bin.get("name")?.as_str()?;
        Some(name.to_owned())
    });
    Ok(names.collect())
}

/// Checks that each target has its source, and each filed crash a target that replays it.
pub fn check_regressions(tree: &Tree) -> Result<Findings> {
    let mut findings = Findings::default();
    let targets = targets(tree)?;
    for target in &targets {
        let source = format!("fuzz/fuzz_targets/{target}.rs");
        if !tree.has(&source) {
            findings.fail(source, "a target of fuzz/Cargo.toml is missing");
        }
    }
    for path in tree.files() {
        let Some(rest) = path.strip_prefix("fuzz/regressions/") else {
            continue;
        };
        let target = rest.split_once('/').map_or("", |(target, _)| target);
        if !targets.iter().any(|name| name == target) {
            findings.fail(path, "no fuzz target of its folder's name replays it");
        }
    }
    Ok(findings)
}

/// The command that fuzzes one target for so many seconds.
pub fn command(tree: &Tree, target: &str, secs: u64) -> Result<Command> {
    let corpus = tree.path(&format!("fuzz/corpus/{target}"));
    std::fs::create_dir_all(&corpus)?;
    let mut command = exec::nightly_cargo(tree, "fuzz run");
    command.arg(target).arg(&corpus).args(seeds(tree, target));
    command.arg("--").arg(format!("-max_total_time={secs}"));
    Ok(command)
}

fn fuzz(tree: &Tree, target: &str, secs: u64) -> Result<bool> {
    let before = artifacts(tree, target)?;
    let ok = exec::shown(&mut command(tree, target, secs)?)?;
    for crash in artifacts(tree, target)?.difference(&before) {
        file(tree, target, crash)?;
    }
    Ok(ok)
}

/// Folders with inputs to start from: the goldens of the crate, and the crashes of old.
fn seeds(tree: &Tree, target: &str) -> BTreeSet<PathBuf> {
    let name = format!("coldframe-{target}");
    let regressions = format!("fuzz/regressions/{target}/");
    tree.files()
        .filter(|path| {
            goldens::is_golden(path) && crate_of(path) == Some(&name)
                || path.starts_with(&regressions)
        })
        .filter_map(|path| tree.path(path).parent().map(Path::to_owned))
        .collect()
}

fn artifacts(tree: &Tree, target: &str) -> Result<BTreeSet<PathBuf>> {
    let folder = tree.path(&format!("fuzz/artifacts/{target}"));
    if !folder.exists() {
        return Ok(BTreeSet::new());
    }
    let mut files = BTreeSet::new();
    for entry in std::fs::read_dir(folder)? {
        files.insert(entry?.path());
    }
    Ok(files)
}

fn file(tree: &Tree, target: &str, crash: &Path) -> Result<()> {
    let before = artifacts(tree, target)?;
    let mut command = exec::nightly_cargo(tree, "fuzz tmin");
    exec::shown(command.arg(target).arg(crash))?;
    // The minimiser leaves ever smaller files; without any, the crash itself is the smallest.
    let smallest = artifacts(tree, target)?
        .difference(&before)
        .min_by_key(|path| path.metadata().map_or(u64::MAX, |meta| meta.len()))
        .map_or_else(|| crash.to_owned(), Clone::clone);
    let folder = tree.path(&format!("fuzz/regressions/{target}"));
    std::fs::create_dir_all(&folder)?;
    let name = smallest.file_name().context("an artefact without a name")?;
    let filed = folder.join(name);
    std::fs::copy(&smallest, &filed)?;
    println!("filed {}", filed.display());
    Ok(())
}
