//! The command-line tool, as users have it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

/// Builds the command-line tool in its own workspace.
pub fn coldframe() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build
        .current_dir(&root)
        .args(["build", "--quiet", "--release", "-p", "coldframe"]);
    let built = build.args(["--target-dir", "target"]).status()?;
    ensure!(built.success(), "the command-line tool does not build");
    Ok(root.join("target/release/coldframe"))
}

/// Whether a program is on the path; says which one is missing.
pub fn is_there(group: &str, name: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).any(|dir| dir.join(name).is_file());
    if !found {
        eprintln!("bench: {group} is left out: there is no {name}");
    }
    found
}
