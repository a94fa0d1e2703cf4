//! Tests that need something the host may lack: they say that they were skipped, and may not be
//! where `COLDFRAME_REQUIRE` (a list with commas, such as `kvm,nbd`) names what they need.

use std::io::Write as _;

/// The variable that lists what must not be missing.
pub const REQUIRE: &str = "COLDFRAME_REQUIRE";

/// Writes `SKIPPED: {what}: {reason}` to standard error; the test returns after it. The line is
/// written past the capture of the test harness, which would show it for failed tests only.
///
/// # Panics
/// If `COLDFRAME_REQUIRE` lists `what`.
#[track_caller]
pub fn skipped(what: &str, reason: &str) {
    let required = std::env::var(REQUIRE).unwrap_or_default();
    assert!(
        !lists(&required, what),
        "{what} is required here ({REQUIRE}) but missing: {reason}"
    );
    let line = format!("SKIPPED: {what}: {reason}\n");
    // A closed standard error is no reason to fail a test.
    let _closed = std::io::stderr().write_all(line.as_bytes());
}

/// Whether a list with commas contains `what`.
#[must_use]
pub fn lists(list: &str, what: &str) -> bool {
    list.split(',').any(|item| item.trim() == what)
}
