//! Old files stay readable. The compat tests of the format crates decode every golden of every
//! version; against a release, its own command reads our goldens and ours reads its.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::exec;
use crate::goldens;
use crate::tree::{Tree, crate_of};

/// Runs the compat tests, and compares with a release if one is named.
pub fn run(tree: &Tree, against: Option<&str>, bless: bool) -> Result<bool> {
    let Some(mut tests) = command(tree) else {
        println!("no crate has golden files yet");
        return Ok(true);
    };
    if bless {
        tests.env("COLDFRAME_BLESS", "1");
    }
    let ok = exec::shown(&mut tests)?;
    match against {
        Some(tag) => Ok(across(tree, tag)? && ok),
        None => Ok(ok),
    }
}

/// The compat tests of all crates that have golden files.
pub fn command(tree: &Tree) -> Option<Command> {
    let mut crates: Vec<&str> = tree
        .files()
        .filter(|path| goldens::is_golden(path))
        .filter_map(crate_of)
        .collect();
    crates.dedup();
    if crates.is_empty() {
        return None;
    }
    let mut command = exec::cargo(tree, "test --test it");
    for name in crates {
        command.args(["-p", name]);
    }
    command.args(["--", "compat"]);
    Some(command)
}

fn across(tree: &Tree, tag: &str) -> Result<bool> {
    if tree.git(&["tag", "--list"])?.trim().is_empty() {
        println!("no release is tagged yet: the first goldens serve in its place");
        return Ok(true);
    }
    let theirs = tree.path(&format!("target/compat/{tag}"));
    if !theirs.exists() {
        let path = theirs.to_str().context("the path is not text")?;
        tree.git(&["worktree", "add", "--detach", path, tag])?;
    }
    let build = "build --package coldframe --target-dir";
    for (folder, target) in [
        (tree.root(), "target"),
        (&theirs, "target/release-under-test"),
    ] {
        let mut command = exec::cargo(tree, build);
        if !exec::shown(command.arg(tree.path(target)).current_dir(folder))? {
            bail!("{} does not build", folder.display());
        }
    }
    let ours = tree.path("target/debug/coldframe");
    let old = tree.path("target/release-under-test/debug/coldframe");
    Ok(reads(&old, tree.root(), tree)? & reads(&ours, &theirs, tree)?)
}

/// Whether a command recognises every golden of a tree that both sides have a version of.
fn reads(program: &Path, root: &Path, tree: &Tree) -> Result<bool> {
    let mut ok = true;
    for path in tree.files().filter(|path| goldens::is_golden(path)) {
        let file = root.join(path);
        if !path.ends_with(".bin") || !file.exists() {
            continue;
        }
        if !exec::works(Command::new(program).arg("inspect").arg(&file)) {
            println!("{} does not read {}", program.display(), file.display());
            ok = false;
        }
    }
    Ok(ok)
}
