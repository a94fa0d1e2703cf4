//! Every input that fuzzing ever found is replayed.

use std::fs;
use std::path::Path;

#[test]
fn fuzz_regressions_of_block_records_stay_fixed() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/regressions/block_record");
    let mut count = 0;
    for entry in fs::read_dir(dir).unwrap() {
        crate::record::check(&fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count > 0, "no inputs");
}
