//! What would be refused.
#![allow(clippy::unwrap_used)]

use super::metadata::{describe, names_crate};
use super::order::{closure, order};
use super::package::{missing, workspace};
use super::{check_all, choose, goldens};
use crate::findings::Findings;
use crate::manifests::{Crate, Docs, Rank};
use crate::tree::Tree;

fn sound(name: &str, rank: u64, named: &[&str]) -> Crate {
    Crate {
        name: name.to_owned(),
        rank: Rank::Of(rank),
        pure: false,
        uses: Vec::new(),
        externals: Vec::new(),
        optional: Vec::new(),
        keywords: vec!["thing".to_owned()],
        categories: vec!["virtualization".to_owned()],
        documentation: Some(format!("https://docs.rs/{name}")),
        repository: None,
        features: Vec::new(),
        has_default: false,
        rust_version: Some("1.95".to_owned()),
        check_targets: Vec::new(),
        has_loom_tests: false,
        version: "0.1.0".to_owned(),
        published: true,
        description: Some("does a thing".to_owned()),
        license: Some("MIT".to_owned()),
        named: named.iter().map(|&name| name.to_owned()).collect(),
        unversioned: Vec::new(),
        docs: Docs::default(),
    }
}

fn names<'a>(crates: &[&'a Crate]) -> Vec<&'a str> {
    crates.iter().map(|one| one.name.as_str()).collect()
}

#[test]
fn crates_go_by_rank_but_after_what_their_tests_name() {
    let mut never = sound("test-kit", 0, &[]);
    never.published = false;
    let crates = [
        sound("top", 3, &["low", "mid"]),
        never,
        sound("mid", 2, &["low"]),
        sound("adapter", 1, &["top"]),
        sound("low", 0, &[]),
    ];
    assert_eq!(
        names(&order(&crates).unwrap()),
        ["low", "mid", "top", "adapter"]
    );
    assert_eq!(names(&choose(&crates, "mid").unwrap()), ["mid"]);
    assert!(choose(&crates, "test-kit").is_err());
    let chosen = choose(&crates, "mid").unwrap();
    assert_eq!(names(&closure(&crates, &chosen)), ["mid", "low"]);
}

#[test]
fn crates_that_name_each_other_cannot_be_published() {
    let crates = [sound("a", 0, &["b"]), sound("b", 1, &["a"])];
    let error = order(&crates).err().unwrap().to_string();
    assert!(error.contains("a, b"), "{error}");
}

#[test]
fn a_manifest_that_the_registry_or_its_docs_would_not_like_is_named() {
    #[track_caller]
    fn check(change: impl FnOnce(&mut Crate), expected: &str) {
        let mut one = sound("a", 0, &[]);
        change(&mut one);
        let lacks = describe(&one);
        assert_eq!(lacks.len(), 1, "{lacks:?}");
        assert!(lacks[0].contains(expected), "{lacks:?}");
    }
    assert_eq!(describe(&sound("a", 0, &[])), [""; 0]);
    check(|one| one.description = None, "description");
    check(|one| one.license = None, "license");
    check(|one| one.rust_version = None, "rust-version");
    check(
        |one| one.unversioned = vec!["b".to_owned()],
        "uses b by its path",
    );
    check(|one| one.features = vec!["std".to_owned()], "all-features");
    let mac = || vec!["aarch64-apple-darwin".to_owned()];
    check(|one| one.check_targets = mac(), "aarch64-apple-darwin");
    let mut told = sound("a", 0, &[]);
    told.check_targets = mac();
    told.docs.targets = mac();
    assert_eq!(describe(&told), [""; 0]);
}

#[test]
fn another_c_library_needs_no_documentation_of_its_own() {
    let mut one = sound("a", 0, &[]);
    one.check_targets = vec!["x86_64-unknown-linux-musl".to_owned()];
    assert_eq!(describe(&one), [""; 0]);
    one.check_targets
        .push("aarch64-unknown-linux-musl".to_owned());
    assert_eq!(describe(&one).len(), 1);
    one.docs.targets = vec!["aarch64-unknown-linux-gnu".to_owned()];
    assert_eq!(describe(&one), [""; 0]);
}

#[test]
fn only_the_section_to_be_released_counts() {
    let text = "# Changes\n## Unreleased\n- `b`: new\n## 0.1.0\n- `a`: new\n";
    assert!(names_crate(text, "b", &[]));
    assert!(!names_crate(text, "a", &[]));
    assert!(names_crate(text, "a", &["0.1.0".to_owned()]));
    assert!(!names_crate("## Unreleased\n- `ab`: new\n", "a", &[]));
}

#[test]
fn a_package_without_its_licences_is_found() {
    let whole = "Cargo.toml\nCargo.lock\nLICENSE-APACHE\nLICENSE-MIT\nsrc/lib.rs\n";
    assert_eq!(missing(whole), [""; 0]);
    assert_eq!(
        missing("Cargo.toml\nCargo.lock\nLICENSE-MIT\nsrc2"),
        ["LICENSE-APACHE", "src/"]
    );
}

#[test]
fn packages_stand_for_each_other_in_place_of_the_registry() {
    let text = workspace(&[&sound("low", 0, &[]), &sound("top", 1, &["low"])]);
    let table: toml::Table = text.parse().unwrap();
    let patches = table["patch"]["crates-io"].as_table().unwrap();
    let paths: Vec<_> = patches
        .values()
        .map(|it| it["path"].as_str().unwrap())
        .collect();
    assert_eq!(paths, ["low-0.1.0", "top-0.1.0"]);
}

#[test]
fn every_published_crate_has_what_a_release_needs() {
    let findings = check_all(&Tree::open().unwrap()).unwrap();
    assert!(findings.is_clean(), "\n{findings}");
}

#[test]
fn a_crate_that_is_new_to_the_tree_is_not_ready() {
    let tree = Tree::open().unwrap();
    let stranger = sound("coldframe-stranger", 0, &[]);
    let mut findings = Findings::default();
    super::metadata::check(&tree, &[&stranger], &mut findings).unwrap();
    let text = findings.to_string();
    for what in [
        "LICENSE-MIT",
        "LICENSE-APACHE",
        "says nothing of coldframe-stranger",
    ] {
        assert!(text.contains(what), "{text}");
    }
    let mut findings = Findings::default();
    goldens(
        &tree,
        &[&stranger, &sound("coldframe-memfile", 2, &[])],
        &mut findings,
    );
    assert!(findings.is_clean(), "{findings}");
}
