//! Every input that fuzzing ever found is replayed.

use std::fs;
use std::path::Path;

fn replay(target: &str, check: fn(&[u8])) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/regressions");
    let mut count = 0;
    for entry in fs::read_dir(dir.join(target)).unwrap() {
        check(&fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count > 0, "no inputs for {target}");
}

#[test]
fn fuzz_regressions_of_packs_stay_fixed() {
    replay("chunk_pack", crate::reencode_pack::check);
}

// Parity: D73
#[test]
fn fuzz_regressions_of_indexes_stay_fixed() {
    replay("chunk_index", crate::reencode_index::check);
}
