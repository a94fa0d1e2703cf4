//! Lines for machines: what a test has to say beyond that it passed.
//!
//! They go to stdout, and to the end of the file that [`REPORT`] names, for `cargo xtask crash`.

use std::fs::OpenOptions;
use std::io::Write as _;

/// The variable with the path of a file that takes the lines as well.
pub const REPORT: &str = "COLDFRAME_REPORT";

/// Says a line: fields with tabs between them.
///
/// # Panics
/// If the file cannot be written.
pub fn line(text: &str) {
    println!("{text}");
    if let Some(path) = std::env::var_os(REPORT) {
        let file = OpenOptions::new().append(true).create(true).open(&path);
        // One write: lines of tests that run beside each other do not mix.
        let written = file.and_then(|mut file| file.write_all(format!("{text}\n").as_bytes()));
        written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}
