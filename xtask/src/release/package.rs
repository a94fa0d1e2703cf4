//! The packages themselves: made, looked into, unpacked side by side, and each checked from what is
//! in it and in the other packages alone, as a user of the registry would get them.
//!
//! Cargo's own verification does the same through a registry of its own, but unpacks each version
//! only once per machine: what changed since is not seen. Here every run unpacks afresh.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::exec;
use crate::findings::Findings;
use crate::manifests::Crate;
use crate::steps;
use crate::tree::Tree;

/// Where packages are made, unpacked and built: not in the folder of everyday builds.
const FOLDER: &str = "target/release-kit";

/// What every package has.
const WANTED: [&str; 5] = [
    "Cargo.toml",
    "Cargo.lock",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "src/",
];

/// Packages the crates and checks each, for its documented targets too; a tree with changes will
/// do for a dry run.
pub fn check(tree: &Tree, crates: &[&Crate], dry_run: bool) -> Result<Findings> {
    let mut findings = Findings::default();
    for one in crates {
        let mut list = exec::cargo(tree, "package --list --locked --allow-dirty --package");
        let done = exec::logged(tree, "package-list", list.arg(&one.name))?;
        if !done.ok {
            findings.fail(&one.name, done.output.trim());
        }
        for what in missing(&done.output) {
            findings.fail(&one.name, format!("its package has no {what}"));
        }
    }
    let mut command = exec::cargo(tree, "package --locked --no-verify --target-dir");
    command.arg(tree.path(FOLDER));
    if dry_run {
        command.arg("--allow-dirty");
    }
    for one in crates {
        command.args(["--package", &one.name]);
    }
    let done = exec::logged(tree, "package", &mut command)?;
    if !done.ok {
        findings.fail("packages", errors(&done.output));
        return Ok(findings);
    }
    let folder = unpack(tree, crates)?;
    for one in crates {
        build(tree, &folder, one, None, &mut findings)?;
        for target in &one.docs.targets {
            build(tree, &folder, one, Some(target), &mut findings)?;
        }
    }
    Ok(findings)
}

/// What is not among the files of a package.
pub fn missing(listing: &str) -> Vec<&'static str> {
    let has = |wanted: &str| {
        listing.lines().any(|file| match wanted.strip_suffix('/') {
            Some(_) => file.starts_with(wanted),
            None => file == wanted,
        })
    };
    WANTED.into_iter().filter(|wanted| !has(wanted)).collect()
}

/// A workspace of the packages, in which each takes the place of the one in the registry.
fn unpack(tree: &Tree, crates: &[&Crate]) -> Result<PathBuf> {
    let folder = tree.path(FOLDER).join("unpacked");
    if folder.exists() {
        std::fs::remove_dir_all(&folder).context("clearing what was unpacked")?;
    }
    std::fs::create_dir_all(&folder)?;
    for one in crates {
        let package = format!("{FOLDER}/package/{}.crate", unpacked(one));
        let mut tar = Command::new("tar");
        // Times are those of now: in packages all are the same, and cargo would see no change.
        tar.arg("-xzmf")
            .arg(tree.path(&package))
            .arg("-C")
            .arg(&folder);
        if !exec::shown(&mut tar)? {
            bail!("{package} cannot be unpacked");
        }
    }
    std::fs::write(folder.join("Cargo.toml"), workspace(crates))?;
    // External crates stay at the versions that everything was tested with.
    std::fs::copy(tree.path("Cargo.lock"), folder.join("Cargo.lock"))?;
    Ok(folder)
}

/// The folder that a package unpacks to.
fn unpacked(one: &Crate) -> String {
    format!("{}-{}", one.name, one.version)
}

/// The manifest of that workspace.
pub fn workspace(crates: &[&Crate]) -> String {
    let mut text = String::from("[workspace]\nresolver = \"3\"\nmembers = [\"*\"]\n");
    text.push_str("\n[patch.crates-io]\n");
    for one in crates {
        let _ = writeln!(text, "{} = {{ path = \"{}\" }}", one.name, unpacked(one));
    }
    text
}

/// Checks one package by itself, so that no other one turns its features on.
fn build(
    tree: &Tree,
    folder: &Path,
    one: &Crate,
    target: Option<&str>,
    findings: &mut Findings,
) -> Result<()> {
    let mut command = exec::cargo(tree, "check --package");
    command
        .arg(&one.name)
        .current_dir(folder)
        .arg("--target-dir");
    command.arg(tree.path(FOLDER).join("target"));
    if let Some(target) = target {
        command.args(["--target", target]);
        steps::without_c(&mut command, target);
    }
    let done = exec::logged(tree, "package-build", &mut command)?;
    if !done.ok {
        let place = match target {
            Some(target) => format!("{} for {target}", one.name),
            None => one.name.clone(),
        };
        findings.fail(place, errors(&done.output));
    }
    Ok(())
}

fn errors(output: &str) -> String {
    let lines = output.lines();
    let lines: Vec<&str> = lines
        .skip_while(|line| !line.starts_with("error"))
        .collect();
    lines.join("\n")
}
