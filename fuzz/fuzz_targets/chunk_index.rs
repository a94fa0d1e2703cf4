//! Any bytes as a chunk index, and as changes to such: no panic, and what decodes is written again
//! the same.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/coldframe-chunkfile/tests/it/reencode_index.rs"]
mod reencode_index;
#[path = "../../crates/coldframe-chunkfile/tests/it/reseal.rs"]
mod reseal;

fuzz_target!(|bytes: &[u8]| reencode_index::check(bytes));
