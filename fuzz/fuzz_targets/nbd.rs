//! Any bytes as what a client sends: no panic, and nothing is carried out that lies outside of
//! the export or of what was agreed upon.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/coldframe-nbd/tests/it/codec_check.rs"]
mod codec_check;

fuzz_target!(|bytes: &[u8]| codec_check::check(bytes));
