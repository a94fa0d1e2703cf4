//! The readers under `specs/readers/` were written from the spec pages alone, and take their
//! layouts from the pages' own tables. They read every golden file to what the crates read it to:
//! else a page, a reader or a crate is wrong.

mod containers;
mod logs;
#[cfg(test)]
mod tests;

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::findings::Findings;
use crate::goldens::is_golden;
use crate::tree::Tree;
use crate::verdict::Verdict;

/// What `COLDFRAME_REQUIRE` calls the interpreter.
pub const PYTHON: &str = "python3";

/// Characters of a value that a message shows.
const SHOWN_CHARS: usize = 100;

/// A file to be read by both.
pub struct Sample {
    /// Its path.
    pub path: String,
    /// What kind of file, as `specs/readers/goldens.py` calls it.
    pub shape: String,
    /// What the crates read.
    pub expected: Value,
}

/// Whether there is an interpreter.
pub fn has_python() -> bool {
    let mut command = Command::new(PYTHON);
    let done = command.arg("--version").stdin(Stdio::null()).output();
    done.is_ok_and(|done| done.status.success())
}

/// Reads all goldens with both, if there is an interpreter.
pub fn run(tree: &Tree) -> Result<bool> {
    if !has_python() {
        let verdict = Verdict::missing(PYTHON, "the readers under specs/readers/: no interpreter");
        print!("{}", verdict.detail);
        return Ok(verdict.failed == 0);
    }
    let findings = check(tree)?;
    print!("{findings}");
    Ok(findings.is_clean())
}

/// Reads all goldens with both.
pub fn check(tree: &Tree) -> Result<Findings> {
    let mut findings = Findings::default();
    let mut samples = Vec::new();
    for path in tree.files().filter(|path| is_golden(path)) {
        if !path.ends_with(".bin") {
            continue;
        }
        let bytes = std::fs::read(tree.path(path)).with_context(|| path.to_owned())?;
        let Some(shape) = shape(path, &bytes) else {
            findings.fail(path, "no reader under specs/readers/ is for such a file");
            continue;
        };
        samples.push(Sample {
            path: path.to_owned(),
            expected: expected(&shape, &bytes).with_context(|| path.to_owned())?,
            shape,
        });
    }
    if samples.is_empty() {
        bail!("there are no goldens");
    }
    compare(tree, &samples, &mut findings)?;
    Ok(findings)
}

/// Gives the samples to the readers, and compares what they print.
pub fn compare(tree: &Tree, samples: &[Sample], findings: &mut Findings) -> Result<()> {
    let mut child = Command::new(PYTHON)
        .args(["-B", "specs/readers/goldens.py"])
        .current_dir(tree.root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting python3")?;
    let mut input = child.stdin.take().context("no standard input")?;
    let lines = samples
        .iter()
        .map(|one| format!("{} {}\n", one.shape, one.path));
    input.write_all(lines.collect::<String>().as_bytes())?;
    drop(input);
    let done = child.wait_with_output()?;
    let output = String::from_utf8(done.stdout).context("the readers' output is not text")?;
    if !done.status.success() || output.lines().count() != samples.len() {
        bail!("the readers ended with {}", done.status);
    }
    for (sample, line) in samples.iter().zip(output.lines()) {
        let found: Value = serde_json::from_str(line)?;
        let mut differences = Vec::new();
        differ("", &sample.expected, &found, &mut differences);
        for difference in differences.iter().take(5) {
            findings.fail(&sample.path, difference);
        }
    }
    Ok(())
}

/// Where two values differ: `.content.rows[2].kind: "zero", the reader has "data"`.
fn differ(place: &str, expected: &Value, found: &Value, out: &mut Vec<String>) {
    match (expected, found) {
        (Value::Object(a), Value::Object(b)) => {
            let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
            for key in keys {
                let of = |map: &serde_json::Map<_, _>| map.get(key).cloned().unwrap_or_default();
                differ(&format!("{place}.{key}"), &of(a), &of(b), out);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                differ(&format!("{place}[{index}]"), a, b, out);
            }
        }
        _ if expected == found => {}
        _ => out.push(format!(
            "{place}: {}, the reader has {}",
            short(expected),
            short(found)
        )),
    }
}

/// A value as a message shows it.
fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// What kind of file a golden is.
fn shape(path: &str, bytes: &[u8]) -> Option<String> {
    let name = path.rsplit('/').next()?.trim_end_matches(".bin");
    let shape = match crate::tree::crate_of(path)? {
        "coldframe-envelope" => "envelope",
        "coldframe-block" => "block",
        "coldframe-journal" if name == "journal_kinds" => "entries",
        "coldframe-journal" => "journal",
        "coldframe-walframe" if name == "journal" => "journal",
        "coldframe-walframe" if name == "ring" => "ring",
        "coldframe-ring" if name == "owner_note" => "owner-note",
        "coldframe-ring" if name == "user_note" => "user-note",
        _ => return containers::format_of(bytes),
    };
    Some(shape.to_owned())
}

/// What the crates read.
pub fn expected(shape: &str, bytes: &[u8]) -> Result<Value> {
    match shape {
        "block" => logs::block(bytes),
        "entries" => logs::entries(bytes),
        "journal" => logs::journal(bytes),
        "ring" => logs::ring(bytes),
        "owner-note" => logs::owner_note(bytes),
        "user-note" => logs::user_note(bytes),
        _ => containers::read(shape, bytes),
    }
}

/// Bytes in hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
