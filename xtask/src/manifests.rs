//! What the manifests say: the one source of ranks, purity and targets.
//! `[package.metadata.coldframe]` holds `rank`, `pure`, and where needed `check-targets`.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow};
use cargo_metadata::{Dependency, DependencyKind, MetadataCommand, Package};

use crate::tree::Tree;

/// Where a crate stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// In the stack: it may use what is strictly lower.
    Of(u64),
    /// Only for tests.
    Dev,
}

/// One crate under `crates/`.
pub struct Crate {
    /// Its name, which is also its folder's.
    pub name: String,
    /// Where it stands.
    pub rank: Rank,
    /// Whether it does no I/O.
    pub pure: bool,
    /// Our crates that it uses outside tests.
    pub uses: Vec<String>,
    /// Crates of others that it always uses outside tests.
    pub externals: Vec<String>,
    /// Crates of others that it uses with a feature alone.
    pub optional: Vec<String>,
    /// Its features but `default`.
    pub features: Vec<String>,
    /// Whether `default` turns anything on.
    pub has_default: bool,
    /// The least Rust version it states.
    pub rust_version: Option<String>,
    /// Other targets it is checked for.
    pub check_targets: Vec<String>,
    /// Whether it has tests under loom.
    pub has_loom_tests: bool,
    /// Its version.
    pub version: String,
    /// Whether it goes to the registry.
    pub published: bool,
    /// What it says of itself there.
    pub description: Option<String>,
    /// Words to find it by.
    pub keywords: Vec<String>,
    /// What the registry files it under.
    pub categories: Vec<String>,
    /// Where its documentation is.
    pub documentation: Option<String>,
    /// Where its source is.
    pub repository: Option<String>,
    /// Its licence.
    pub license: Option<String>,
    /// Our crates that its package names, in tests too: they have a version beside the path.
    pub named: Vec<String>,
    /// Our crates that it uses outside tests, without one.
    pub unversioned: Vec<String>,
    /// What docs.rs is told.
    pub docs: Docs,
}

/// What docs.rs is told: `[package.metadata.docs.rs]`.
#[derive(Default)]
pub struct Docs {
    /// The target that is shown first.
    pub default_target: Option<String>,
    /// All targets.
    pub targets: Vec<String>,
    /// Whether all features are shown.
    pub all_features: bool,
}

impl Crate {
    /// The tag that marks its release.
    pub fn tag(&self) -> String {
        format!("{}-v{}", self.name, self.version)
    }
}

/// Targets that a crate is checked for when its manifest names none and it is pure.
pub const PURE_CHECK_TARGETS: [&str; 2] = ["aarch64-unknown-linux-gnu", "aarch64-apple-darwin"];

/// The crates under `crates/`, by name.
pub fn crates(tree: &Tree) -> Result<Vec<Crate>> {
    let metadata = MetadataCommand::new()
        .current_dir(tree.root())
        .no_deps()
        .exec()
        .context("asking cargo for the manifests")?;
    let mut crates = metadata
        .packages
        .iter()
        .filter(|package| package.name.as_str() != "xtask")
        .map(|package| read(tree, package))
        .collect::<Result<Vec<_>>>()?;
    crates.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(crates)
}

fn read(tree: &Tree, package: &Package) -> Result<Crate> {
    let name = package.name.to_string();
    let own = &package.metadata["coldframe"];
    let missing = |field: &str| anyhow!("{name}: [package.metadata.coldframe] lacks `{field}`");
    let rank = match (own["rank"].as_u64(), own["rank"].as_str()) {
        (Some(rank), _) => Rank::Of(rank),
        (None, Some("dev")) => Rank::Dev,
        _ => return Err(missing("rank")),
    };
    let pure = own["pure"].as_bool().ok_or_else(|| missing("pure"))?;
    let check_targets = match own["check-targets"].as_array() {
        Some(targets) => targets
            .iter()
            .map(|target| target.as_str().map(str::to_owned))
            .collect::<Option<_>>()
            .ok_or_else(|| anyhow!("{name}: `check-targets` is not a list of texts"))?,
        None if pure => PURE_CHECK_TARGETS.map(str::to_owned).to_vec(),
        None => Vec::new(),
    };
    let mut uses: Vec<String> = package
        .dependencies
        .iter()
        .filter(|dep| dep.kind != DependencyKind::Development && dep.path.is_some())
        .map(|dep| dep.name.clone())
        .collect();
    uses.sort();
    uses.dedup();
    let theirs = |optional| externals(package, optional);
    // `*` is what cargo makes of a dependency without a version.
    let has_version = |dep: &&Dependency| dep.req.to_string() != "*";
    let ours = || package.dependencies.iter().filter(|dep| dep.path.is_some());
    let mut named: Vec<String> = ours()
        .filter(has_version)
        .map(|dep| dep.name.clone())
        .collect();
    named.sort();
    named.dedup();
    let unversioned = ours()
        .filter(|dep| dep.kind != DependencyKind::Development && !has_version(dep))
        .map(|dep| dep.name.clone())
        .collect();
    let features: BTreeMap<_, _> = package.features.clone().into_iter().collect();
    Ok(Crate {
        rank,
        pure,
        uses,
        externals: theirs(false),
        optional: theirs(true),
        keywords: package.keywords.clone(),
        categories: package.categories.clone(),
        documentation: package.documentation.clone(),
        repository: package.repository.clone(),
        has_default: features.get("default").is_some_and(|on| !on.is_empty()),
        features: features.into_keys().filter(|f| f != "default").collect(),
        rust_version: package.rust_version.as_ref().map(ToString::to_string),
        check_targets,
        version: package.version.to_string(),
        published: package.publish.as_ref().is_none_or(|to| !to.is_empty()),
        description: package.description.clone(),
        license: package.license.clone(),
        named,
        unversioned,
        docs: docs(package),
        has_loom_tests: tree.has(&format!("crates/{name}/tests/loom.rs")),
        name,
    })
}

/// Crates of others that it uses outside tests: with a feature alone, or always.
fn externals(package: &Package, optional: bool) -> Vec<String> {
    let mut theirs: Vec<&Dependency> = package
        .dependencies
        .iter()
        .filter(|dep| dep.kind != DependencyKind::Development && dep.path.is_none())
        .collect();
    // One that is there for two targets counts as always there if it is for one.
    theirs.sort_by(|a, b| (&a.name, a.optional).cmp(&(&b.name, b.optional)));
    theirs.dedup_by(|a, b| a.name == b.name);
    let chosen = theirs.iter().filter(|dep| dep.optional == optional);
    chosen.map(|dep| dep.name.clone()).collect()
}

/// Whether `` `NAME` =VERSION `` is the one version of that package in the lock file, and the
/// workspace asks for exactly it.
pub fn is_locked(tree: &Tree, package: &str) -> Result<bool> {
    let Some((name, version)) = package.split_once(' ') else {
        return Ok(false);
    };
    let (name, version) = (name.trim_matches('`'), version.trim());
    let workspace: toml::Table = tree.read("Cargo.toml")?.parse()?;
    let asked = &workspace["workspace"]["dependencies"][name];
    let asked = asked.as_str().or_else(|| asked.get("version")?.as_str());
    let lock: toml::Table = tree.read("Cargo.lock")?.parse()?;
    let packages = lock["package"]
        .as_array()
        .context("Cargo.lock has no packages")?;
    let mut locked = packages
        .iter()
        .filter(|it| it["name"].as_str() == Some(name))
        .filter_map(|it| it["version"].as_str());
    let only = (locked.next(), locked.next());
    let exact = version.trim_start_matches('=');
    let is_written = only == (Some(exact), None);
    Ok(is_written && asked == Some(version))
}

fn docs(package: &Package) -> Docs {
    let table = &package.metadata["docs"]["rs"];
    let targets = table["targets"].as_array();
    let targets = targets.into_iter().flatten().filter_map(|it| it.as_str());
    Docs {
        default_target: table["default-target"].as_str().map(str::to_owned),
        targets: targets.map(str::to_owned).collect(),
        all_features: table["all-features"].as_bool().unwrap_or(false),
    }
}
