//! Every position is tried, and the guilty one is named.

use std::panic::catch_unwind;

use coldframe_testkit::hostile::{check_bit_flips, check_truncations};
use coldframe_testkit::require::lists;

#[test]
fn truncations_are_all_proper_prefixes() {
    let mut seen = Vec::new();
    check_truncations(b"abc", &mut |cut| seen.push(cut.to_vec()));
    assert_eq!(seen, [b"".to_vec(), b"a".to_vec(), b"ab".to_vec()]);
}

#[test]
fn bit_flips_differ_in_one_bit_each() {
    let mut seen = Vec::new();
    check_bit_flips(&[0, 0], &mut |damaged| seen.push([damaged[0], damaged[1]]));
    assert_eq!(seen.len(), 16);
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 16);
    assert!(
        seen.iter()
            .all(|pair| pair[0].count_ones() + pair[1].count_ones() == 1)
    );
}

#[test]
fn a_panic_names_the_position() {
    let caught = catch_unwind(|| {
        check_bit_flips(&[0, 0, 0], &mut |damaged| assert!(damaged[2] != 8, "boom"));
    });
    let message = *caught.unwrap_err().downcast::<String>().unwrap();
    assert_eq!(message, "bit 3 of byte 0x2 flipped: boom");
}

#[test]
fn required_things_are_matched_whole() {
    assert!(lists("kvm, nbd", "nbd"));
    assert!(!lists("kvm", "kv"));
    assert!(!lists("", "kvm"));
}
