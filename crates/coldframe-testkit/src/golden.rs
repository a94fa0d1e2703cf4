//! Golden files: bytes that a released build wrote, and that every later one must read.
//!
//! They are append-only: a missing one is written when `COLDFRAME_BLESS=1`, an existing one never.
//! Relative paths are relative to the manifest of the crate under test, where cargo runs tests.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::Path;

/// The variable that allows missing golden files to be written.
pub const BLESS: &str = "COLDFRAME_BLESS";

/// The bytes of a golden file.
///
/// # Panics
/// If it cannot be read.
#[must_use]
#[track_caller]
pub fn golden(path: impl AsRef<Path>) -> Vec<u8> {
    let path = path.as_ref();
    fs::read(path).unwrap_or_else(|error| panic!("golden file {}: {error}", path.display()))
}

/// Compares `actual` with a golden file.
///
/// # Panics
/// If they differ (with the first place), or the file is missing and may not be written.
#[track_caller]
pub fn assert_golden(path: impl AsRef<Path>, actual: &[u8]) {
    let path = path.as_ref();
    match fs::read(path) {
        Ok(expected) => assert_same(path, &expected, actual),
        Err(error) if error.kind() == ErrorKind::NotFound => bless(path, actual),
        Err(error) => panic!("golden file {}: {error}", path.display()),
    }
}

#[track_caller]
fn assert_same(path: &Path, expected: &[u8], actual: &[u8]) {
    let name = path.display();
    if let Some(at) = expected
        .iter()
        .zip(actual)
        .position(|(old, new)| old != new)
    {
        panic!(
            "{name} differs at {at:#x}: {:#04x} there, {:#04x} now",
            expected[at], actual[at]
        );
    }
    let (old, new) = (expected.len(), actual.len());
    assert!(old == new, "{name} has {old} bytes, there are {new} now");
}

#[track_caller]
fn bless(path: &Path, actual: &[u8]) {
    let name = path.display();
    let allowed = std::env::var(BLESS).is_ok_and(|value| value == "1");
    assert!(
        allowed,
        "golden file {name} is missing; {BLESS}=1 writes it"
    );
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .and_then(|mut file| file.write_all(actual))
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    println!("BLESSED: {name}");
}
