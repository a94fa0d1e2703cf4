//! What a registry and docs.rs want to know of a crate, and what its users want to read.

use anyhow::Result;

use crate::findings::Findings;
use crate::manifests::Crate;
use crate::readme;
use crate::tree::Tree;

const CHANGELOG: &str = "CHANGELOG.md";

/// The target that docs.rs builds for when it is told nothing.
const DOCS_DEFAULT: &str = "x86_64-unknown-linux-gnu";

/// Checks description, licence, docs.rs targets and features, licence texts, changelog entry.
pub fn check(tree: &Tree, chosen: &[&Crate], findings: &mut Findings) -> Result<()> {
    let changelog = tree.read(CHANGELOG)?;
    readme::check(tree, chosen, findings)?;
    // One for all, where the workspace has it.
    if chosen.iter().any(|one| one.repository.is_none()) {
        findings.warn(
            "Cargo.toml",
            "states no `repository` for the crates to inherit",
        );
    }
    for one in chosen {
        for what in describe(one) {
            findings.fail(format!("crates/{}/Cargo.toml", one.name), what);
        }
        for text in ["LICENSE-APACHE", "LICENSE-MIT"] {
            let path = format!("crates/{}/{text}", one.name);
            if !tree.has(&path) {
                let fix = "is missing, packages need it: link it to the one at the top";
                findings.fail(&path, fix);
            }
        }
        let sections = [
            format!("## {} {}", one.name, one.version),
            one.version.clone(),
        ];
        if !names_crate(&changelog, &one.name, &sections) {
            let what = format!("says nothing of {} in what is to be released", one.name);
            findings.fail(CHANGELOG, what);
        }
    }
    Ok(())
}

/// What a manifest lacks.
pub fn describe(one: &Crate) -> Vec<String> {
    let mut lacks = Vec::new();
    // What the registry takes: at most five words of at most twenty characters.
    let is_word = |word: &String| word.len() <= 20 && !word.contains(' ');
    if !matches!(one.keywords.len(), 1..=5) || !one.keywords.iter().all(is_word) {
        lacks.push("states not 1 to 5 `keywords` of at most 20 characters".to_owned());
    }
    if one.categories.is_empty() {
        lacks.push("states no `categories`".to_owned());
    }
    if one.documentation != Some(format!("https://docs.rs/{}", one.name)) {
        lacks.push(format!("`documentation` is https://docs.rs/{}", one.name));
    }
    if one.description.is_none() {
        lacks.push("states no `description`".to_owned());
    }
    if one.license.is_none() {
        lacks.push("states no `license`".to_owned());
    }
    if one.rust_version.is_none() {
        lacks.push("states no `rust-version`".to_owned());
    }
    for name in &one.unversioned {
        lacks.push(format!("uses {name} by its path alone: packages cannot"));
    }
    if !one.features.is_empty() && !one.docs.all_features {
        lacks.push("has features: docs.rs needs `all-features = true`".to_owned());
    }
    // A crate that is checked for other systems is for them: its documentation is built there.
    if !one.pure && one.docs.default_target.is_none() {
        let elsewhere = one.check_targets.iter().filter(|target| {
            let shown = one.docs.targets.iter().map(String::as_str);
            !shown
                .chain([DOCS_DEFAULT])
                .any(|shown| system(shown) == system(target))
        });
        for target in elsewhere {
            lacks.push(format!("is for {target}: docs.rs needs it among `targets`"));
        }
    }
    lacks
}

/// A target without its C library, which the documentation does not depend on.
fn system(target: &str) -> &str {
    let libraries = ["-gnu", "-musl"];
    let mut bare = libraries
        .iter()
        .filter_map(|library| target.strip_suffix(library));
    bare.next().unwrap_or(target)
}

/// Whether the changelog's section of what is to be released names the crate: the one headed
/// `## Unreleased`, or one of these.
pub fn names_crate(changelog: &str, name: &str, sections: &[String]) -> bool {
    let quoted = format!("`{name}`");
    let mut inside = false;
    for line in changelog.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            let heading = heading.trim();
            inside = heading == "Unreleased"
                || sections
                    .iter()
                    .any(|it| heading == it.trim_start_matches("## "));
        }
        if inside && line.contains(&quoted) {
            return true;
        }
    }
    false
}
