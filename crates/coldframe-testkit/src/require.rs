//! Tests that need something the host may lack: they say that they were skipped, and may not be
//! where `COLDFRAME_REQUIRE` (a list with commas, such as `kvm,nbd`) names what they need.

/// The variable that lists what must not be missing.
pub const REQUIRE: &str = "COLDFRAME_REQUIRE";

/// Prints `SKIPPED: {what}: {reason}`; the test returns after it.
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
    println!("SKIPPED: {what}: {reason}");
}

/// Whether a list with commas contains `what`.
#[must_use]
pub fn lists(list: &str, what: &str) -> bool {
    list.split(',').any(|item| item.trim() == what)
}
