//! Golden files are append-only: what a commit once added stays as it was, byte for byte, because
//! somebody may hold a snapshot like it.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::findings::Findings;
use crate::tree::Tree;

/// Compares each golden of the history with the one in the tree.
pub fn check(tree: &Tree, findings: &mut Findings) -> Result<()> {
    if tree.git(&["rev-parse", "--is-shallow-repository"])?.trim() == "true" {
        findings.warn(
            ".git",
            "a shallow clone: goldens are not compared with their first commit",
        );
        return Ok(());
    }
    for (path, first) in first_blobs(tree)? {
        if !tree.has(&path) {
            if has_moved(tree, &path, &first)? {
                continue;
            }
            findings.fail(
                &path,
                "a golden file is gone: goldens are append-only, put it back",
            );
            continue;
        }
        if tree.git(&["hash-object", "--no-filters", &path])?.trim() != first {
            findings.fail(
                &path,
                "a golden file was changed: put it back, and add a new one",
            );
        }
    }
    Ok(())
}

/// Whether a golden went with its format to another crate: the same name there, the same bytes.
fn has_moved(tree: &Tree, path: &str, blob: &str) -> Result<bool> {
    let name = |path: &str| path.split_once("/tests/golden/").map(|(_, n)| n.to_owned());
    let wanted = name(path);
    for other in tree.files().filter(|other| is_golden(other)) {
        if name(other) == wanted
            && tree.git(&["hash-object", "--no-filters", other])?.trim() == blob
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a path is a golden file.
pub fn is_golden(path: &str) -> bool {
    path.starts_with("crates/") && path.contains("/tests/golden/")
}

fn first_blobs(tree: &Tree) -> Result<BTreeMap<String, String>> {
    // One line per file and commit, oldest first: `:mode mode blob blob status<tab>path`.
    let log = tree.git(&[
        "log",
        "--reverse",
        "--diff-filter=A",
        "--no-renames",
        "--raw",
        "--no-abbrev",
        "--format=",
        "HEAD",
        "--",
        "crates",
    ])?;
    let mut blobs = BTreeMap::new();
    for line in log.lines() {
        let Some((head, path)) = line.split_once('\t') else {
            continue;
        };
        if let (true, Some(blob)) = (is_golden(path), head.split(' ').nth(3)) {
            blobs
                .entry(path.to_owned())
                .or_insert_with(|| blob.to_owned());
        }
    }
    Ok(blobs)
}
