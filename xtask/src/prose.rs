//! Phrases that a reader of this field stumbles over, each with what is said instead. They are the
//! last table of `specs/glossary.md`, which the test below holds against this list.
//!
//! Checked are pages, doc comments and the texts of errors: what users read.

use crate::findings::Findings;
use crate::tree::is_test_path;

/// A phrase of whole words, and what is said instead.
const PHRASES: &[(&str, &str)] = &[
    ("stands for", "points to, identifies, means"),
    ("stand for", "point to, identify, mean"),
    ("stood for", "pointed to, identified, meant"),
    ("whoever", "the caller, the thread, the process, the reader"),
    ("by now", "now, since, meanwhile"),
    (", for one if", "for example"),
    (", for one when", "for example"),
    (", for one where", "for example"),
    (", for one,", "for example"),
    ("compare and swap", "compare-and-swap"),
];

/// Checks one file.
pub fn check(path: &str, text: &str, findings: &mut Findings) {
    let is_page = path.ends_with(".md") && path != "specs/glossary.md";
    let is_code = path.ends_with(".rs") && !is_test_path(path) && !path.ends_with("prose.rs");
    if !is_page && !is_code {
        return;
    }
    let mut in_error = false;
    for (line, number) in text.lines().zip(1..) {
        let code = line.trim_start();
        in_error |= code.starts_with("#[error(");
        let is_doc = code.starts_with("///") || code.starts_with("//!");
        if is_page || is_doc || in_error {
            for (phrase, instead) in found(line) {
                let place = format!("{path}:{number}");
                findings.fail(place, format!("\"{phrase}\" is not used: {instead}"));
            }
        }
        in_error &= !code.ends_with(")]");
    }
}

/// The phrases in a line.
fn found(line: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    let line = line.to_ascii_lowercase();
    let is_letter = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    PHRASES.iter().copied().filter(move |(phrase, _)| {
        line.match_indices(phrase).any(|(at, _)| {
            let (before, after) = (&line[..at], &line[at + phrase.len()..]);
            // A phrase that begins with a comma follows a word.
            let begins = phrase.starts_with(',') || !is_letter(before.chars().next_back());
            begins && !is_letter(after.chars().next())
        })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::tree::Tree;

    #[test]
    fn phrases_are_found_as_words_in_what_users_read() {
        let text = "/// Whoever reads.\nlet whoever = 1; // whoever\n#[error(\n\
                    \"stands for {x}\"\n)]\nlet s = \"by now\";\n\
                    /// bystands forward\n//! it is taken, for one if\n";
        let mut findings = Findings::default();
        check("crates/a/src/lib.rs", text, &mut findings);
        let shown = findings.to_string();
        let lines: Vec<&str> = shown
            .lines()
            .filter_map(|line| line.split(':').nth(2))
            .collect();
        assert_eq!(lines, ["1", "4", "8"], "{shown}");
    }

    #[test]
    fn the_glossary_lists_what_is_refused() {
        let page = Tree::open().unwrap().read("specs/glossary.md").unwrap();
        let table = page.split("## Phrases that are not used").nth(1).unwrap();
        for (phrase, _) in PHRASES {
            let word = phrase.trim_start_matches(", ").trim_end_matches([',', ' ']);
            let word = if word.starts_with("for one") {
                "for one"
            } else {
                word
            };
            assert!(table.contains(word), "{word} is not on the page");
        }
    }
}
