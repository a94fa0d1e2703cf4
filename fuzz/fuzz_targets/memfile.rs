//! Any bytes as the header and tables of a memory file, and as changes to such: no panic, and what
//! decodes is written again the same.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/coldframe-memfile/tests/it/reencode.rs"]
mod reencode;

fuzz_target!(|bytes: &[u8]| reencode::check(bytes));
