//! A crate uses only crates of a strictly lower rank, so the stack has no cycles and any crate can
//! be taken with just what lies below it. Pure crates cannot do I/O because they cannot name it.

use anyhow::{Context, Result};

use crate::findings::Findings;
use crate::manifests::{self, Crate, Rank};
use crate::picture;
use crate::source::Source;
use crate::tree::Tree;

/// Checks ranks, purity, shared dependencies, and the picture in the README.
pub fn check(tree: &Tree) -> Result<Findings> {
    let mut findings = Findings::default();
    let crates = manifests::crates(tree)?;
    for one in &crates {
        check_ranks(one, &crates, &mut findings);
        if one.pure {
            check_purity(tree, one, &mut findings)?;
        }
        check_manifest(tree, &format!("crates/{}", one.name), &mut findings)?;
    }
    check_manifest(tree, "xtask", &mut findings)?;
    picture::check(tree, &crates, &mut findings)?;
    Ok(findings)
}

fn check_ranks(one: &Crate, crates: &[Crate], findings: &mut Findings) {
    for used in &one.uses {
        let Some(lower) = crates.iter().find(|other| other.name == *used) else {
            findings.fail(
                &one.name,
                format!("uses {used}, which is not under crates/"),
            );
            continue;
        };
        if lower.rank == Rank::Dev {
            findings.fail(&one.name, format!("uses {used} outside its tests"));
        } else if lower.rank >= one.rank {
            let (above, below) = (one.rank, lower.rank);
            let message = format!("uses {used}: {above:?} over {below:?} is not downwards");
            findings.fail(&one.name, message);
        }
        if one.pure && !lower.pure {
            findings.fail(&one.name, format!("is pure but uses {used}, which is not"));
        }
    }
}

fn check_purity(tree: &Tree, one: &Crate, findings: &mut Findings) -> Result<()> {
    let path = format!("crates/{}/src/lib.rs", one.name);
    let source = Source::parse(&tree.read(&path)?).with_context(|| path.clone())?;
    let plain = source.find("# ! [ no_std ]").next();
    let under_test = source
        .find("# ! [ cfg_attr ( not ( loom ) , no_std ) ]")
        .next();
    if plain.or(under_test).is_none() {
        findings.fail(&path, "a pure crate begins with `#![no_std]`");
    }
    if source
        .find("# ! [ forbid ( unsafe_code ) ]")
        .next()
        .is_none()
    {
        findings.fail(&path, "a pure crate says `#![forbid(unsafe_code)]`");
    }
    Ok(())
}

/// Versions are stated once, in the root manifest.
fn check_manifest(tree: &Tree, folder: &str, findings: &mut Findings) -> Result<()> {
    let path = format!("{folder}/Cargo.toml");
    let manifest: toml::Table = tree.read(&path)?.parse().with_context(|| path.clone())?;
    let mut tables: Vec<&toml::Table> = vec![&manifest];
    if let Some(targets) = manifest.get("target").and_then(toml::Value::as_table) {
        tables.extend(targets.values().filter_map(toml::Value::as_table));
    }
    for table in tables {
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let Some(deps) = table.get(kind).and_then(toml::Value::as_table) else {
                continue;
            };
            for (name, value) in deps {
                let shared = value.get("workspace").and_then(toml::Value::as_bool);
                // A crate that names itself, for a feature of its tests, has nothing to share.
                // Nor has a test or example one of ours that depends on the crate: its version
                // would have to be published first, so packaging drops what has a path alone.
                let by_path = value.get("path").and_then(toml::Value::as_str);
                let is_itself = by_path == Some(".");
                let is_dropped = kind == "dev-dependencies"
                    && by_path == Some(format!("../{name}").as_str())
                    && value.get("version").is_none();
                if shared != Some(true) && !is_itself && !is_dropped {
                    let message = format!("{name}: say `{{ workspace = true }}`");
                    findings.fail(&path, message);
                }
            }
        }
    }
    Ok(())
}
