//! The least versions that the manifests name: each crate must build with them, or the numbers are
//! not true. Done on a copy of the tree, for a lock file is written.
//!
//! Invariant: the tree itself is not touched; the copy has only what git lists.

use anyhow::{Context, Result};

use crate::exec;
use crate::manifests;
use crate::tree::Tree;
use crate::verdict::Verdict;

/// Where the copy is, and beside it what is built of it.
const COPY: &str = "target/minimal-versions/tree";
const BUILT: &str = "target/minimal-versions/target";

/// Resolves direct dependencies to their least versions, and checks the published crates.
pub fn check(tree: &Tree) -> Result<Verdict> {
    if !exec::works(&mut exec::nightly_cargo(tree, "--version")) {
        let reason = "nightly: `rustup toolchain install nightly`";
        return Ok(Verdict::missing("nightly", reason));
    }
    copy(tree)?;
    let folder = tree.path(COPY);
    let args = "generate-lockfile -Z direct-minimal-versions";
    let mut resolve = exec::nightly_cargo(tree, args);
    let resolved = exec::logged(tree, "minimal-versions", resolve.current_dir(&folder))?;
    if !resolved.ok {
        return Ok(Verdict::of_program(&resolved));
    }
    let mut check = exec::cargo(tree, "check --locked --all-features --target-dir");
    check.arg(tree.path(BUILT)).current_dir(&folder);
    for one in manifests::crates(tree)?.iter().filter(|one| one.published) {
        check.args(["--package", &one.name]);
    }
    let done = exec::logged(tree, "minimal-versions", &mut check)?;
    Ok(Verdict::of_program(&done))
}

/// Copies what has changed, so that what was built stays good, and takes away what is gone.
fn copy(tree: &Tree) -> Result<()> {
    let root = tree.path(COPY);
    let wanted = |path: &&str| {
        let at_top = ["Cargo.toml", "rust-toolchain.toml"].contains(path);
        at_top || path.starts_with("crates/") || path.starts_with("xtask/")
    };
    for path in tree.files().filter(wanted) {
        let (from, to) = (tree.path(path), root.join(path));
        let bytes = std::fs::read(&from).with_context(|| format!("reading {path}"))?;
        if std::fs::read(&to).is_ok_and(|there| there == bytes) {
            continue;
        }
        if let Some(folder) = to.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(&to, bytes).with_context(|| format!("writing {}", to.display()))?;
    }
    let folders = std::fs::read_dir(root.join("crates")).context("listing the copy")?;
    for folder in folders {
        let folder = folder?;
        let name = folder.file_name();
        let manifest = format!("crates/{}/Cargo.toml", name.to_string_lossy());
        if !tree.has(&manifest) {
            std::fs::remove_dir_all(folder.path())?;
        }
    }
    Ok(())
}
