//! Golden files are append-only: what a commit once added stays as it was, byte for byte, because
//! somebody may hold a snapshot like it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use coldframe_envelope::{Header, SectionKind};
use coldframe_walframe::journal::{PART_CODEC, PartHeader};

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

/// The codecs and releases that wrote goldens: of envelopes, and of journals.
pub fn codecs(tree: &Tree) -> Result<BTreeSet<(String, String)>> {
    let mut found = BTreeSet::new();
    for path in tree.files().filter(|path| is_golden(path)) {
        if !path.ends_with(".bin") {
            continue;
        }
        let bytes = std::fs::read(tree.path(path))?;
        let codec = match Header::peek(&bytes) {
            Ok(header) => Some(header.codec),
            Err(_) => PartHeader::decode(&bytes).ok().map(|_| PART_CODEC),
        };
        if let Some(codec) = codec.filter(|codec| !codec.name().is_empty()) {
            found.insert((codec.name().to_owned(), codec.release().to_string()));
        }
    }
    Ok(found)
}

/// The formats of goldens that are envelopes.
pub fn formats(tree: &Tree) -> Result<BTreeSet<SectionKind>> {
    let mut found = BTreeSet::new();
    for path in tree.files().filter(|path| is_golden(path)) {
        if path.ends_with(".bin") {
            let bytes = std::fs::read(tree.path(path))?;
            found.extend(Header::peek(&bytes).map(|header| header.format));
        }
    }
    Ok(found)
}
