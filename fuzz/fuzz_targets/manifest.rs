//! Any bytes as a manifest, and as the body of each of its sections: no panic, and what decodes
//! survives being encoded again.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/coldframe-manifest/tests/it/reencode.rs"]
mod reencode;

fuzz_target!(|bytes: &[u8]| reencode::check(bytes));
