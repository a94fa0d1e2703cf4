//! Every input that fuzzing ever found is replayed, and a few random ones.

use std::fs;
use std::path::Path;

use coldframe_testkit::rng::Rng;

use super::drive::check;

#[test]
fn fuzz_regressions_stay_fixed() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/regressions/ring_wal");
    let mut count = 0;
    for entry in fs::read_dir(&dir).unwrap() {
        check(&fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count > 0, "no inputs in {}", dir.display());
}

// Spec: RING-20, RING-40
#[test]
fn random_operations_and_power_cuts_lose_nothing() {
    for seed in 0..300 {
        check(&Rng::new(seed).bytes(128));
    }
}
