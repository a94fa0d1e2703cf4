//! The inventory of unsafe code, by file. A change of it shows in review as a changed line of
//! `xtask/unsafe.snapshot`, and needs a second reader.

use std::fmt::Write as _;

use anyhow::{Context, Result};

use crate::findings::Findings;
use crate::layout;
use crate::source::Source;
use crate::tree::Tree;

const SNAPSHOT: &str = "xtask/unsafe.snapshot";
const KINDS: [&str; 5] = ["block", "fn", "impl", "trait", "attribute"];

/// One line for each file that has unsafe code, and the sum.
pub fn render(tree: &Tree) -> Result<String> {
    let mut text = String::new();
    let mut sum = [0; KINDS.len()];
    for path in tree.rust_files() {
        let source = Source::parse(&tree.read(path)?).with_context(|| path.to_owned())?;
        let counts = count(&source);
        if counts != [0; KINDS.len()] {
            line(&mut text, path, counts);
        }
        for (total, here) in sum.iter_mut().zip(counts) {
            *total += here;
        }
    }
    line(&mut text, "all", sum);
    Ok(text)
}

/// Compares with the snapshot.
pub fn check(tree: &Tree) -> Result<Findings> {
    layout::compare(tree, SNAPSHOT, &render(tree)?, "cargo xtask unsafe --bless")
}

/// Writes the snapshot.
pub fn bless(tree: &Tree) -> Result<bool> {
    std::fs::write(tree.path(SNAPSHOT), render(tree)?)?;
    Ok(true)
}

fn count(source: &Source) -> [usize; KINDS.len()] {
    let mut counts = [0; KINDS.len()];
    for pair in source.tokens().windows(2) {
        let [word, next] = pair else { continue };
        if word.text != "unsafe" {
            continue;
        }
        let kind = match next.text.as_str() {
            "{" => 0,
            "impl" => 2,
            "trait" => 3,
            "(" => 4,
            _ => 1,
        };
        counts[kind] += 1;
    }
    counts
}

fn line(text: &mut String, path: &str, counts: [usize; KINDS.len()]) {
    let _ = write!(text, "{path}:");
    for (kind, count) in KINDS.iter().zip(counts).filter(|(_, count)| *count > 0) {
        let _ = write!(text, " {count} {kind}{}", if count == 1 { "" } else { "s" });
    }
    text.push('\n');
}
