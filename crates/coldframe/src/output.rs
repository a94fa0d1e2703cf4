//! Plain tables for people, JSON for programs; both go to standard output.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use coldframe_envelope::Producer;
use coldframe_storage::discard_living;
use serde::{Serialize, Serializer};

use crate::exit::Failure;

/// Prints one line, whatever the names in it: control characters are escaped.
///
/// Nobody may be reading any more, or the disk behind standard output be full: then the process
/// ends, for there is nothing more to say.
pub fn say(line: fmt::Arguments<'_>) {
    text(format_args!("{}\n", printable(&line.to_string())));
}

/// Prints text as it is, likewise.
pub fn text(text: fmt::Arguments<'_>) {
    let mut stdout = io::stdout().lock();
    if let Err(error) = stdout.write_fmt(text).and_then(|()| stdout.flush()) {
        let code = unprinted(&error);
        // Nothing is dropped by this way to end.
        discard_living();
        std::process::exit(code.into());
    }
}

/// The exit code if standard output takes nothing more.
const EXIT_UNPRINTED: u8 = 3;

/// The exit code if the reader of standard output has gone away: what a shell tells of a process
/// that SIGPIPE ended, as it ends other commands (signal(7), 128 and the signal's number).
const EXIT_NO_READER: u8 = 128 + 13;

/// Says that standard output takes nothing more, unless its reader has gone away on purpose;
/// returns the exit code.
pub fn unprinted(error: &io::Error) -> u8 {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return EXIT_NO_READER;
    }
    // Standard error may be closed or full just as well.
    let _ = writeln!(
        io::stderr(),
        "coldframe: cannot write to standard output: {error}"
    );
    EXIT_UNPRINTED
}

/// Text that stays on its line and does nothing to a terminal: names of files and tags may have
/// line breaks and escape sequences in them.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let escaped = |c: char| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    Cow::Owned(text.chars().map(escaped).collect())
}

/// Text as one word of a shell: as it is, or in quotes if it has anything but plain characters.
pub fn quoted(text: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "@%+=:,./_-".contains(c);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => Cow::Borrowed(text),
        false => Cow::Owned(format!("\"{}\"", escaped(text))),
    }
}

/// What stands between double quotes in a shell.
fn escaped(text: &str) -> String {
    text.chars().fold(String::new(), |mut out, c| {
        if "\"\\$`".contains(c) {
            out.push('\\');
        }
        out.push(c);
        out
    })
}

/// Prints a value as one JSON document.
pub fn json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::environment("cannot write JSON", &error))?;
    // Line breaks in strings are escaped by JSON itself.
    self::text(format_args!("{text}\n"));
    Ok(())
}

/// A path as text in JSON: bytes that are no UTF-8 are shown as U+FFFD, as in what is printed for
/// people, and do not cost the rest of the document.
pub fn path<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

/// The same for one that may be missing.
#[allow(
    clippy::ref_option,
    reason = "serde hands over a reference to the field"
)]
pub fn path_option<S: Serializer>(
    path: &Option<PathBuf>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match path {
        Some(found) => serializer.collect_str(&found.display()),
        None => serializer.serialize_none(),
    }
}

/// One JSON document with a long list in it, printed as the list goes.
pub struct JsonList {
    is_empty: bool,
}

impl JsonList {
    /// Begins it: the file, then the list of this name.
    pub fn begin(file: &Path, list: &str) -> Self {
        let file = serde_json::Value::from(file.display().to_string());
        text(format_args!("{{\n  \"file\": {file},\n  \"{list}\": ["));
        Self { is_empty: true }
    }

    /// The next item, which is JSON already.
    pub fn item(&mut self, item: impl fmt::Display) {
        let comma = if self.is_empty { "" } else { "," };
        self.is_empty = false;
        text(format_args!("{comma}\n    {item}"));
    }

    /// Ends it with the fields of an object.
    pub fn end(self, fields: &impl Serialize) -> Result<(), Failure> {
        let fields = serde_json::to_string_pretty(fields)
            .map_err(|error| Failure::environment("cannot write JSON", &error))?;
        let close = if self.is_empty { "" } else { "\n  " };
        let fields = fields.trim_start_matches('{');
        text(format_args!("{close}],{fields}\n"));
        Ok(())
    }
}

/// Prints rows in columns; the first row is the heading. Columns whose cells are numbers in
/// every row are set flush right.
pub fn table(rows: &[Vec<String>]) {
    let escaped = |cell: &String| printable(cell).into_owned();
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().map(escaped).collect())
        .collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(String::len)
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let numeric: Vec<bool> = (0..columns)
        .map(|column| {
            rows.iter()
                .skip(1)
                .filter_map(|row| row.get(column))
                .all(|cell| {
                    cell.is_empty() || cell.starts_with(|c: char| c.is_ascii_digit() || c == '-')
                })
        })
        .collect();
    for row in &rows {
        let cells = row
            .iter()
            .zip(&widths)
            .zip(&numeric)
            .map(|((cell, width), numeric)| {
                if *numeric {
                    format!("{cell:>width$}")
                } else {
                    format!("{cell:<width$}")
                }
            });
        say(format_args!(
            "{}",
            cells.collect::<Vec<_>>().join("  ").trim_end()
        ));
    }
}

/// Who writes the files that verbs make.
pub fn producer() -> Producer {
    Producer::new("coldframe", env!("CARGO_PKG_VERSION")).expect("name and version are short ASCII")
}
