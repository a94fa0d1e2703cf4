//! Any bytes as a record of a block device's log: no panic, and what decodes is written again the
//! same.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/coldframe-block/tests/it/record.rs"]
mod record;

fuzz_target!(|bytes: &[u8]| record::check(bytes));
