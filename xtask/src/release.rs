//! What a release must be before anybody gets it: each crate described, in the changelog, with its
//! goldens, and whole in its packaged form. Publishing itself is a person's, with their own token.
//!
//! Invariant: nothing here changes the registry; without `--dry-run` a tag is made, and no more.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::exec;
use crate::findings::Findings;
use crate::layout;
use crate::manifests::{self, Crate, Rank};
use crate::tree::Tree;
use crate::verdict::Verdict;
use crate::{layers, spec, tidy, toolchain, unsafe_code};

mod metadata;
mod order;
mod package;

#[cfg(test)]
mod tests;

use order::order;

/// Runs every step for one crate or all; false if one failed.
pub fn run(tree: &Tree, which: &str, dry_run: bool) -> Result<bool> {
    let crates = manifests::crates(tree)?;
    let chosen = choose(&crates, which)?;
    println!("in the order of publishing:");
    for one in &chosen {
        let Rank::Of(rank) = one.rank else { continue };
        println!("  {rank}  {} {}", one.name, one.version);
    }
    let mut total = Verdict::default();
    for (name, check) in CHECKS {
        step(name, &check(tree), &mut total);
    }
    let mut found = Findings::default();
    let metadata = metadata::check(tree, &chosen, &mut found);
    goldens(tree, &chosen, &mut found);
    step("metadata", &metadata.map(|()| found), &mut total);
    println!("{:<14}{}", "semver", semver(tree, &chosen, &mut total)?);
    let with_lower = order::closure(&crates, &chosen);
    println!("packaging {} crates, and checking each", with_lower.len());
    let packaged = package::check(tree, &with_lower, dry_run);
    step("package", &packaged, &mut total);
    let (passed, failed) = (total.passed, total.failed);
    println!(
        "{passed} passed, {failed} failed, {} skipped",
        total.skipped
    );
    if failed > 0 || dry_run {
        return Ok(failed == 0);
    }
    tag(tree, &chosen)
}

/// What takes no time of all this: metadata, changelog, licences and goldens of every crate.
pub fn check_all(tree: &Tree) -> Result<Findings> {
    let crates = manifests::crates(tree)?;
    let chosen = choose(&crates, "all")?;
    let mut findings = Findings::default();
    metadata::check(tree, &chosen, &mut findings)?;
    goldens(tree, &chosen, &mut findings);
    Ok(findings)
}

/// A check of the tree.
type Check = fn(&Tree) -> Result<Findings>;

/// What is checked of the whole tree, for a release of any of its crates.
const CHECKS: [(&str, Check); 6] = [
    ("rust-version", toolchain::check),
    ("layers", layers::check),
    ("spec", spec::check),
    ("layout", layout::check),
    ("unsafe", unsafe_code::check),
    ("tidy", tidy::check),
];

fn step(name: &str, found: &Result<Findings>, total: &mut Verdict) {
    let verdict = match found {
        Ok(findings) => Verdict::of_findings(findings),
        Err(error) => Verdict::of(false, format!("{error:#}\n")),
    };
    println!("{name:<14}{}", verdict.word());
    for line in verdict.detail.lines() {
        println!("    {line}");
    }
    total.add(&verdict);
}

/// The published crates that are meant, in the order in which they can be published.
fn choose<'a>(crates: &'a [Crate], which: &str) -> Result<Vec<&'a Crate>> {
    let ordered = order(crates)?;
    if which == "all" {
        return Ok(ordered);
    }
    let found = ordered.into_iter().find(|one| one.name == which);
    match found {
        Some(one) => Ok(vec![one]),
        None => bail!("no published crate {which}: name one under crates/, or `all`"),
    }
}

/// Each crate with a layout has golden files of it.
fn goldens(tree: &Tree, chosen: &[&Crate], findings: &mut Findings) {
    let is_chosen = |name: &&str| chosen.iter().any(|one| one.name == *name);
    for name in layout::formats().filter(is_chosen) {
        let folder = format!("crates/{name}/tests/golden/v1/");
        if !has_golden(tree, &folder) {
            findings.fail(name, format!("has layouts and no golden file in {folder}"));
        }
    }
}

fn has_golden(tree: &Tree, folder: &str) -> bool {
    let mut files = tree.files();
    files.any(|path| path.starts_with(folder) && path.ends_with(".bin"))
}

/// Compares the public API with that of the last tag of the same crate, where there is one.
fn semver(tree: &Tree, chosen: &[&Crate], total: &mut Verdict) -> Result<&'static str> {
    let mut verdict = Verdict::default();
    for one in chosen {
        let pattern = format!("{}-v*", one.name);
        let tags = tree.git(&["tag", "--list", "--sort=-v:refname", &pattern])?;
        let Some(baseline) = tags.lines().next() else {
            continue;
        };
        if !exec::works(&mut exec::cargo(tree, "semver-checks --version")) {
            let reason = "semver-checks: `cargo install --locked cargo-semver-checks`";
            verdict.add(&Verdict::missing("semver-checks", reason));
            break;
        }
        let args = format!("semver-checks -p {} --baseline-rev {baseline}", one.name);
        let done = exec::logged(tree, "semver", &mut exec::cargo(tree, &args))?;
        verdict.add(&Verdict::of_program(&done));
    }
    total.add(&verdict);
    print!("{}", verdict.detail);
    Ok(match verdict.passed + verdict.failed + verdict.skipped {
        0 => "no baseline: none of these crates was released yet",
        _ => verdict.word(),
    })
}

/// Marks the release, and says what is left to do.
fn tag(tree: &Tree, chosen: &[&Crate]) -> Result<bool> {
    let status = tree.git(&["status", "--porcelain"])?;
    if !status.is_empty() {
        bail!("the tree has changes that are not committed: a tag would not name what was checked");
    }
    for one in chosen {
        let (tag, text) = (one.tag(), format!("{} {}", one.name, one.version));
        let mut command = Command::new("git");
        command.args(["tag", "--annotate", "--message", &text, &tag]);
        let done = exec::shown(command.current_dir(tree.root())).context("making a tag")?;
        if !done {
            bail!("{tag} was not made: is there one already?");
        }
    }
    println!("tagged; publish in this order:");
    for one in chosen {
        println!("  cargo publish --locked --package {}", one.name);
    }
    Ok(true)
}
