//! Any bytes as a chunk pack, and as changes to such: no panic, and what decodes is written again
//! the same.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/coldframe-chunkfile/tests/it/reencode_pack.rs"]
mod reencode_pack;
#[path = "../../crates/coldframe-chunkfile/tests/it/reseal.rs"]
mod reseal;

fuzz_target!(|bytes: &[u8]| reencode_pack::check(bytes));
