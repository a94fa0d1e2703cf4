//! What the fuzzer found once, and the seeds it starts from.

use super::drive::check;

// Spec: JRNL-5, JRNL-13
#[test]
fn finds_of_the_fuzzer_stay_fixed() {
    let folder = "../../fuzz/regressions/journal";
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        check(&std::fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count > 0, "{folder} is empty");
}

// Spec: JRNL-5, JRNL-13
#[test]
fn goldens_with_bytes_changed_read_to_an_end() {
    let golden = coldframe_testkit::golden::golden("tests/golden/v1/journal.bin");
    for at in 0..golden.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut data = [&[0], &golden[..]].concat();
            data[at + 1] = value;
            check(&data);
            check(&data[..=at]);
        }
    }
}

#[test]
fn scripts_of_operations_agree_with_the_model() {
    let mut rng = coldframe_testkit::rng::Rng::new(5);
    for _ in 0..300 {
        let mut script = vec![200];
        script.extend(rng.bytes(40));
        check(&script);
    }
}
