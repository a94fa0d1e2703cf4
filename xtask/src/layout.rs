//! Every offset and limit of every format in one text, compared with a committed snapshot: a byte
//! on disk cannot move without a diff that a second reader sees.

use std::fmt::Write as _;

use anyhow::Result;
use coldframe_envelope::{Layout, Limits};

use crate::findings::Findings;
use crate::tree::Tree;

const SNAPSHOT: &str = "specs/layout.snapshot";

/// The layouts of each format crate: those that this binary was built with.
const FORMATS: &[(&str, &[Layout])] = &[
    ("coldframe-envelope", coldframe_envelope::LAYOUTS),
    ("coldframe-manifest", coldframe_manifest::LAYOUTS),
    ("coldframe-memfile", coldframe_memfile::LAYOUTS),
    ("coldframe-statefile", coldframe_statefile::LAYOUTS),
    ("coldframe-walframe", coldframe_walframe::ring::LAYOUTS),
    (
        "coldframe-walframe",
        coldframe_walframe::journal::JOURNAL_LAYOUTS,
    ),
    (
        "coldframe-journal",
        coldframe_journal::kinds::CoreEntries::LAYOUTS,
    ),
    ("coldframe-ring", coldframe_ring::LAYOUTS),
    ("coldframe-chunkfile", coldframe_chunkfile::LAYOUTS),
    ("coldframe-block", coldframe_block::LAYOUTS),
];

/// The crates that have a format.
pub fn formats() -> impl Iterator<Item = &'static str> {
    FORMATS.iter().map(|(name, _)| *name)
}

/// The limits of each kind of file, as its reader is given them.
pub const FILE_LIMITS: &[(&str, Limits)] = &[
    ("small file", Limits::SMALL_FILE),
    ("memory file", Limits::MEMORY_FILE),
    ("manifest", coldframe_manifest::LIMITS),
    ("chunk index", coldframe_chunkfile::INDEX_LIMITS),
];

/// The limits inside files.
fn limits() -> Vec<(&'static str, u64)> {
    use coldframe_manifest as manifest;
    use coldframe_memfile as memfile;
    use coldframe_statefile::limits as state;
    vec![
        ("producer bytes", wide(coldframe_envelope::PRODUCER_LEN_MAX)),
        ("manifest regions", manifest::REGION_COUNT_MAX),
        ("manifest disks", manifest::DISK_COUNT_MAX),
        (
            "manifest disk name bytes",
            wide(manifest::DISK_NAME_BYTES_MAX),
        ),
        ("manifest labels", manifest::LABEL_COUNT_MAX),
        ("manifest label key bytes", manifest::LABEL_KEY_BYTES_MAX),
        (
            "manifest label value bytes",
            manifest::LABEL_VALUE_BYTES_MAX,
        ),
        ("memory page bytes", memfile::PAGE_SIZE_MAX.bytes()),
        ("state vcpus", state::VCPU_COUNT_MAX),
        ("state devices", state::DEVICE_COUNT_MAX),
        ("state items", state::ITEM_COUNT_MAX),
        ("state rows", state::ROW_COUNT_MAX),
        ("state text bytes", state::TEXT_BYTES_MAX),
        ("state device kind bytes", state::DEVICE_KIND_BYTES_MAX),
        ("state table body bytes", state::TABLE_BODY_BYTES_MAX),
        ("state body bytes", state::BODY_BYTES_MAX),
    ]
}

fn wide(value: usize) -> u64 {
    u64::try_from(value).expect("only 64-bit targets are supported")
}

/// All layouts of all formats.
pub fn all() -> impl Iterator<Item = &'static Layout> {
    FORMATS.iter().flat_map(|(_, layouts)| layouts.iter())
}

/// The text that is compared.
pub fn render() -> String {
    let mut text = String::new();
    for (name, layouts) in FORMATS {
        for layout in *layouts {
            let _ = writeln!(text, "{name}: {} ({} bytes)", layout.name, layout.size);
            for field in layout.fields {
                let _ = writeln!(
                    text,
                    "{:>6} {:>4}  {}",
                    field.offset, field.size, field.name
                );
            }
            text.push('\n');
        }
    }
    text.push_str("limits of files: sections, bytes of a section, bytes of a file\n");
    for (name, limits) in FILE_LIMITS {
        let (sections, section) = (limits.sections_max, limits.section_bytes_max);
        let file = limits.file_bytes_max;
        let _ = writeln!(text, "{name:<28} {sections:>6} {section:>14} {file:>16}");
    }
    text.push_str("\nlimits inside files\n");
    for (name, limit) in limits() {
        let _ = writeln!(text, "{name:<28} {limit:>14}");
    }
    text
}

/// Compares with the snapshot.
pub fn check(tree: &Tree) -> Result<Findings> {
    compare(tree, SNAPSHOT, &render(), "cargo xtask layout --bless")
}

/// Writes the snapshot.
pub fn bless(tree: &Tree) -> Result<bool> {
    std::fs::write(tree.path(SNAPSHOT), render())?;
    Ok(true)
}

/// Compares a text with a committed snapshot of it, line by line.
pub fn compare(tree: &Tree, snapshot: &str, now: &str, bless: &str) -> Result<Findings> {
    let mut findings = Findings::default();
    if !tree.has(snapshot) {
        findings.fail(snapshot, format!("is missing: `{bless}`"));
        return Ok(findings);
    }
    let before = tree.read(snapshot)?;
    let gone = before
        .lines()
        .filter(|line| !now.lines().any(|l| l == *line));
    let new = now
        .lines()
        .filter(|line| !before.lines().any(|l| l == *line));
    for line in gone {
        findings.fail(snapshot, format!("no longer true: {}", line.trim()));
    }
    for line in new {
        findings.fail(snapshot, format!("not in it: {}", line.trim()));
    }
    if findings.is_clean() && before != now {
        findings.fail(snapshot, "the same lines in another order");
    }
    if !findings.is_clean() {
        findings.fail(snapshot, format!("if this is meant: `{bless}`"));
    }
    Ok(findings)
}
