//! Old files stay readable. The compat tests of the format crates decode every golden of every
//! version, and so do the readers under `specs/readers/`; against a release, its own command reads
//! our goldens and ours reads its.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::exec;
use crate::goldens;
use crate::readers;
use crate::tree::Tree;

#[cfg(test)]
mod tests;

/// Runs the compat tests, and compares with a release if one is named.
pub fn run(tree: &Tree, against: Option<&str>, bless: bool) -> Result<bool> {
    let Some(mut tests) = command(tree) else {
        println!("no crate has golden files yet");
        return Ok(true);
    };
    if bless {
        tests.env("COLDFRAME_BLESS", "1");
    }
    let ok = exec::shown(&mut tests)? & readers::run(tree)?;
    match against {
        Some(tag) => Ok(across(tree, tag)? && ok),
        None => Ok(ok),
    }
}

/// The compat tests of all crates that have golden files.
pub fn command(tree: &Tree) -> Option<Command> {
    if !tree.files().any(goldens::is_golden) {
        return None;
    }
    // All targets of the workspace, as `cargo test --workspace` selects them: with fewer packages,
    // dependencies have fewer features and are built again.
    let args = "test --workspace --locked --lib --bins --tests -- compat";
    Some(exec::cargo(tree, args))
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
    let (ours, theirs) = (Side(&ours, tree.root()), Side(&old, &theirs));
    Ok(ours.reads(&theirs, tree) & theirs.reads(&ours, tree))
}

/// A command, and the tree that it was built of.
struct Side<'a>(&'a Path, &'a Path);

impl Side<'_> {
    fn finds_sound(&self, file: &Path) -> bool {
        exec::works(Command::new(self.0).arg("inspect").arg(file))
    }

    /// Whether this side's command finds each golden of the other sound that the other's own finds
    /// sound. (Some are parts of files, which no command can do anything with: those are read by
    /// the tests alone.) Of formats that this side did not have yet it is asked nothing.
    fn reads(&self, other: &Self, tree: &Tree) -> bool {
        let mut ok = true;
        let mut asked = 0;
        for path in tree.files().filter(|path| goldens::is_golden(path)) {
            let file = other.1.join(path);
            if !path.ends_with(".bin") || !file.exists() || !has_format(self.1, path) {
                continue;
            }
            if !other.finds_sound(&file) {
                continue;
            }
            asked += 1;
            if !self.finds_sound(&file) {
                println!("{} does not read {}", self.0.display(), file.display());
                ok = false;
            }
        }
        println!(
            "{} was given {asked} goldens of the other",
            self.0.display()
        );
        // A comparison of nothing proves nothing.
        ok && asked > 0
    }
}

/// Whether a tree has goldens of the same crate and format version as that at `path`.
fn has_format(root: &Path, path: &str) -> bool {
    Path::new(path)
        .parent()
        .is_some_and(|folder| root.join(folder).is_dir())
}
