//! Any bytes as a ring, and as operations on one with power cuts: no panic, nothing that was
//! durable is lost, nothing is invented.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/coldframe-ring/tests/it/drive.rs"]
mod drive;

fuzz_target!(|input: &[u8]| drive::check(input));
