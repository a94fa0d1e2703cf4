//! Two sides that are shell scripts: what one finds sound decides what the other is asked.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{Side, has_format};
use crate::tree::Tree;

/// A program that finds sound what its name ends with one of these.
fn program(dir: &Path, name: &str, sound: &str) -> PathBuf {
    let path = dir.join(name);
    let text = format!("#!/bin/sh\ncase \"$2\" in {sound}) exit 0;; esac\nexit 1\n");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    path
}

#[test]
fn a_side_must_read_what_the_other_finds_sound_and_is_asked_nothing_else() {
    let tree = Tree::open().unwrap();
    let dir = tree.path("target/xtask/compat-test");
    std::fs::create_dir_all(&dir).unwrap();
    let all = program(&dir, "all", "*");
    let states = program(&dir, "states", "*statefile*");
    let nothing = program(&dir, "nothing", "no-such-name");
    let root = tree.root();
    let reads = |one: &Path, other: &Path| Side(one, root).reads(&Side(other, root), &tree);
    assert!(reads(&all, &all));
    assert!(reads(&all, &states));
    assert!(reads(&states, &states));
    assert!(!reads(&states, &all));
    // Nothing was asked.
    assert!(!reads(&all, &nothing));
}

#[test]
fn a_format_that_a_tree_does_not_have_is_not_asked_of_it() {
    let tree = Tree::open().unwrap();
    let has = |path: &str| has_format(tree.root(), path);
    assert!(has("crates/coldframe-statefile/tests/golden/v1/new.bin"));
    assert!(!has("crates/coldframe-statefile/tests/golden/v9/new.bin"));
    assert!(!has("crates/coldframe-stranger/tests/golden/v1/new.bin"));
}
