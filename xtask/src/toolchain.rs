//! The Rust version: pinned exactly in `rust-toolchain.toml`, and stated in each manifest as the
//! least one that builds it.

use anyhow::{Context, Result};

use crate::findings::Findings;
use crate::manifests;
use crate::tree::Tree;

/// Checks that each crate states a version, and none a later one than the pinned.
pub fn check(tree: &Tree) -> Result<Findings> {
    let mut findings = Findings::default();
    let file: toml::Table = tree.read("rust-toolchain.toml")?.parse()?;
    let channel = file
        .get("toolchain")
        .and_then(|table| table.get("channel"))
        .and_then(toml::Value::as_str)
        .context("rust-toolchain.toml names no channel")?;
    let pinned = version(channel).context("rust-toolchain.toml: the channel is no version")?;
    for one in manifests::crates(tree)? {
        match one.rust_version.as_deref().map(version) {
            None => findings.fail(&one.name, "states no `rust-version`"),
            Some(Some(least)) if least <= pinned => {}
            Some(_) => findings.fail(&one.name, format!("its rust-version is above {channel}")),
        }
    }
    Ok(findings)
}

fn version(text: &str) -> Option<[u64; 3]> {
    let mut parts = text.split('.').map(|part| part.parse().ok());
    Some([
        parts.next()??,
        parts.next()??,
        parts.next().unwrap_or(Some(0))?,
    ])
}
