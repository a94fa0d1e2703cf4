//! Any bytes as a journal, or as operations on one: no panic, and what was written is read.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/coldframe-journal/tests/it/drive.rs"]
mod drive;

fuzz_target!(|data: &[u8]| drive::check(data));
