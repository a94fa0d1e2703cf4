//! Any bytes as an envelope: no panic, and what decodes survives being encoded again.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/coldframe-envelope/tests/it/reencode.rs"]
mod reencode;

fuzz_target!(|file: &[u8]| reencode::check(file));
