//! `specs/parity.md` claims that features others have are here too: each row names the tests that
//! prove it, as `crate::module::test_name`, and each of them must exist.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};

use crate::findings::Findings;
use crate::markdown;
use crate::source::Source;
use crate::tree::{Tree, crate_of};

const PAGE: &str = "specs/parity.md";

/// Checks the page, once it is there.
pub fn check(tree: &Tree, findings: &mut Findings) -> Result<()> {
    if !tree.has(PAGE) {
        return Ok(());
    }
    let tests = all_tests(tree)?;
    for table in markdown::tables(&tree.read(PAGE)?) {
        for (line, cells) in &table.rows {
            let place = format!("{PAGE}:{line}");
            let mut named = 0;
            for path in cells.iter().flat_map(|cell| markdown::code_spans(cell)) {
                let Some((folder, name)) = test_path(path) else {
                    continue;
                };
                named += 1;
                if !tests.get(folder).is_some_and(|names| names.contains(name)) {
                    findings.fail(&place, format!("there is no test `{path}`"));
                }
            }
            if cells.first().is_some_and(|cell| is_row_id(cell)) && named == 0 {
                findings.fail(place, "names no test that proves it");
            }
        }
    }
    Ok(())
}

fn is_row_id(cell: &str) -> bool {
    cell.strip_prefix(['F', 'D'])
        .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// `coldframe-mem::diff::one_page` is the test `one_page` somewhere in that crate's folder.
fn test_path(path: &str) -> Option<(&str, &str)> {
    let (folder, rest) = path.split_once("::")?;
    (folder == "xtask" || folder.starts_with("coldframe"))
        .then(|| (folder, rest.rsplit("::").next().unwrap_or(rest)))
}

fn all_tests(tree: &Tree) -> Result<BTreeMap<&str, BTreeSet<String>>> {
    let mut tests: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for path in tree.rust_files() {
        let folder = match crate_of(path) {
            Some(folder) => folder,
            None if path.starts_with("xtask/") => "xtask",
            None => continue,
        };
        let source = Source::parse(&tree.read(path)?).with_context(|| path.to_owned())?;
        tests.entry(folder).or_default().extend(source.test_names());
    }
    Ok(tests)
}
