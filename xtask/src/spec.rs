//! The specs are the contract, so they are checked against the code: every layout table adds up
//! and equals the layout in its crate, every normative sentence has a test that cites it, every
//! test cites a sentence that exists, and every link leads somewhere.

mod values;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use coldframe_envelope::Layout;

use crate::findings::Findings;
use crate::layout;
use crate::markdown::{self, Table};
use crate::parity;
use crate::tree::{Tree, is_test_path};

const COLUMNS: [&str; 6] = ["offset", "size", "field", "type", "since", "rule"];

/// Checks all pages under `specs/`, and the README's links.
pub fn check(tree: &Tree) -> Result<Findings> {
    let mut findings = Findings::default();
    let mut described = BTreeSet::new();
    let mut ids = BTreeMap::new();
    for path in tree.files().filter(|path| is_page(path)) {
        let text = tree.read(path)?;
        check_links(tree, path, &text, &mut findings);
        if path == "README.md" {
            continue;
        }
        for table in markdown::tables(&text) {
            if let Some(name) = table.heading.strip_prefix("Layout: ") {
                check_layout(path, name, &table, &mut findings);
                if !described.insert(name.to_owned()) {
                    findings.fail(path, format!("layout `{name}` is described twice"));
                }
            }
        }
        for (line, id) in defined_ids(&text) {
            let place = format!("{path}:{line}");
            if let Some(first) = ids.insert(id.clone(), place.clone()) {
                findings.fail(place, format!("{id} is also at {first}"));
            }
        }
    }
    for layout in layout::all().filter(|layout| !described.contains(layout.name)) {
        let message = format!("no page has a table under `### Layout: {}`", layout.name);
        findings.fail("specs", message);
    }
    check_ids(tree, &ids, &mut findings)?;
    values::check(tree, &mut findings)?;
    parity::check(tree, &mut findings)?;
    Ok(findings)
}

fn is_page(path: &str) -> bool {
    path == "README.md" || path.starts_with("specs/") && path.ends_with(".md")
}

fn check_layout(path: &str, name: &str, table: &Table, findings: &mut Findings) {
    let mut place = path.to_owned();
    if table.header != COLUMNS {
        findings.fail(
            place,
            format!("`{name}`: columns are {}", COLUMNS.join(" | ")),
        );
        return;
    }
    let Some(layout) = layout::all().find(|layout| layout.name == name) else {
        findings.fail(place, format!("no crate has a layout `{name}`"));
        return;
    };
    let (mut end, mut index) = (0, 0);
    for (line, cells) in &table.rows {
        place = format!("{path}:{line}");
        let [Some(offset), Some(size)] = [number(cells, 0), number(cells, 1)] else {
            findings.fail(place, "offset and size are numbers of bytes");
            return;
        };
        let field = cells.get(2).map_or("", |cell| cell.trim_matches('`'));
        if offset != end {
            let message = format!("`{field}` is at {offset}, but the one before ends at {end}");
            findings.fail(&place, message);
        }
        end = offset + size;
        // Bytes that the compiler puts in are no field of the code.
        if field != "padding" {
            compare(&place, layout, index, (field, offset, size), findings);
            index += 1;
        }
    }
    if index != layout.fields.len() || end != layout.size {
        let (rows, fields, bytes) = (index, layout.fields.len(), layout.size);
        let message =
            format!("`{name}`: {rows} fields in {end} bytes, the code has {fields} in {bytes}");
        findings.fail(place, message);
    }
}

fn compare(
    place: &str,
    layout: &Layout,
    index: usize,
    (name, offset, size): (&str, usize, usize),
    findings: &mut Findings,
) {
    let Some(field) = layout.fields.get(index) else {
        return;
    };
    if (field.name, field.offset, field.size) != (name, offset, size) {
        let code = format!("`{}` at {}, {} bytes", field.name, field.offset, field.size);
        let message = format!("`{name}` at {offset}, {size} bytes; the code has {code}");
        findings.fail(place, message);
    }
}

fn number(cells: &[String], column: usize) -> Option<usize> {
    let cell = cells.get(column)?;
    match cell.strip_prefix("0x") {
        Some(hex) => usize::from_str_radix(hex, 16).ok(),
        None => cell.parse().ok(),
    }
}

fn check_links(tree: &Tree, path: &str, text: &str, findings: &mut Findings) {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    for (line, target) in markdown::links(text) {
        let file = target.split('#').next().unwrap_or("");
        let elsewhere = file.is_empty() || file.contains("://") || file.starts_with("mailto:");
        if !elsewhere && !tree.path(folder).join(file).exists() {
            findings.fail(
                format!("{path}:{line}"),
                format!("the link to {target} leads nowhere"),
            );
        }
    }
}

/// `**MEM-12**` at the start of a normative sentence.
fn defined_ids(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        let bold = line.split("**").skip(1).step_by(2);
        found.extend(
            bold.filter(|id| is_id(id))
                .map(|id| (number, id.to_owned())),
        );
    }
    found
}

/// The ids after `Spec:` in a comment: `// Spec: MEM-12, MEM-13`.
fn cited_ids(line: &str) -> impl Iterator<Item = &str> {
    let comment = line.split_once("//").map_or("", |(_, comment)| comment);
    let list = comment.split_once("Spec:").map_or("", |(_, list)| list);
    list.split([',', ' ', '.', ';'])
        .filter(|word| !word.is_empty())
        .take_while(|word| is_id(word))
}

fn is_id(word: &str) -> bool {
    word.split_once('-').is_some_and(|(page, number)| {
        page.len() >= 2
            && page.bytes().all(|b| b.is_ascii_uppercase())
            && !number.is_empty()
            && number.bytes().all(|b| b.is_ascii_digit())
    })
}

fn check_ids(
    tree: &Tree,
    defined: &BTreeMap<String, String>,
    findings: &mut Findings,
) -> Result<()> {
    let mut proved = BTreeSet::new();
    for path in tree.rust_files().filter(|path| path.starts_with("crates/")) {
        for (line, number) in tree.read(path)?.lines().zip(1..) {
            for id in cited_ids(line) {
                if !defined.contains_key(id) {
                    findings.fail(format!("{path}:{number}"), format!("no spec has {id}"));
                }
                if is_test_path(path) {
                    proved.insert(id.to_owned());
                }
            }
        }
    }
    for (id, place) in defined.iter().filter(|(id, _)| !proved.contains(*id)) {
        findings.fail(
            place,
            format!("no test cites {id}: add `// Spec: {id}` to the one"),
        );
    }
    Ok(())
}
