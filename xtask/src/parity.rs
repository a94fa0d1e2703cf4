//! What others have is here too: `xtask/parity.md` has a row for each feature, and each defect, of
//! other crates. The tests that prove a row are marked `// Parity: F12`; from the marks the page is
//! made with its tests. Every mark has its row, and every row a mark.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};

use crate::findings::Findings;
use crate::markdown;
use crate::source::Source;
use crate::tree::{Tree, crate_of};

const PAGE: &str = "xtask/parity.md";
const RENDERED: &str = "target/xtask/parity.md";
const MARK: &str = "// Parity: ";

/// Checks rows against marks.
pub fn check(tree: &Tree, findings: &mut Findings) -> Result<()> {
    let marks = marks(tree, findings)?;
    let mut rows = BTreeSet::new();
    for table in markdown::tables(&tree.read(PAGE)?) {
        for (line, cells) in &table.rows {
            let id = cells.first().map_or("", String::as_str);
            let place = format!("{PAGE}:{line}");
            if !rows.insert(id.to_owned()) {
                findings.fail(&place, format!("there are two rows {id}"));
            }
            if !marks.contains_key(id) {
                findings.fail(place, format!("no test is marked `{MARK}{id}`"));
            }
        }
    }
    for (id, tests) in marks.iter().filter(|(id, _)| !rows.contains(*id)) {
        findings.fail(
            PAGE,
            format!("has no row {id}, by which {} is marked", tests[0]),
        );
    }
    Ok(())
}

/// Writes the page with a column of tests.
pub fn write(tree: &Tree) -> Result<bool> {
    let mut findings = Findings::default();
    let marks = marks(tree, &mut findings)?;
    let mut text = String::new();
    for line in tree.read(PAGE)?.lines() {
        let id = line
            .strip_prefix("| ")
            .and_then(|rest| rest.split(" |").next());
        text.push_str(line);
        text.push_str(match id {
            None if line.starts_with("|-") => "---|",
            Some("row" | "defect" | "mode") => " tests |",
            _ => "",
        });
        if let Some(tests) = id.and_then(|id| marks.get(id)) {
            let tests: Vec<String> = tests.iter().map(|test| format!("`{test}`")).collect();
            text.push_str(&format!(" {} |", tests.join(" ")));
        }
        text.push('\n');
    }
    let path = tree.path(RENDERED);
    std::fs::create_dir_all(path.parent().context("a folder")?)?;
    std::fs::write(&path, text)?;
    print!("{findings}");
    println!("{}", path.display());
    Ok(findings.is_clean())
}

/// The tests that are marked with each row, as `crate::module::test_name`.
fn marks(tree: &Tree, findings: &mut Findings) -> Result<BTreeMap<String, Vec<String>>> {
    let mut marks: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in tree.rust_files() {
        let text = tree.read(path)?;
        if !text.contains(MARK) || path.ends_with("/parity.rs") {
            continue;
        }
        let tests = Source::parse(&text)
            .with_context(|| path.to_owned())?
            .test_names();
        let module = path.trim_end_matches(".rs").trim_end_matches("/mod");
        let module = module.rsplit('/').next().unwrap_or(module);
        let mut lines = text.lines().zip(1..);
        while let Some((line, number)) = lines.next() {
            let Some(ids) = line.trim_start().strip_prefix(MARK) else {
                continue;
            };
            let function = lines.clone().find_map(|(line, _)| {
                let name = line.trim_start().strip_prefix("fn ")?;
                name.split(['(', '<']).next()
            });
            let Some(name) = function.filter(|name| tests.iter().any(|test| test == name)) else {
                findings.fail(format!("{path}:{number}"), "marks no test");
                continue;
            };
            let test = format!("{}::{module}::{name}", crate_of(path).unwrap_or("xtask"));
            for id in ids.split(", ") {
                marks.entry(id.to_owned()).or_default().push(test.clone());
            }
        }
    }
    Ok(marks)
}
