//! Every golden cut at every length and with every bit flipped.

use coldframe_envelope::{Container, Limits};
use coldframe_testkit::alloc::assert_alloc_bounded;
use coldframe_testkit::golden::golden;
use coldframe_testkit::hostile::{check_bit_flips, check_truncations};

use crate::sample::FORMAT;

fn is_refused(file: &[u8]) {
    let decoded = assert_alloc_bounded(8 * file.len() + 1024, || {
        Container::decode(file, FORMAT, Limits::SMALL_FILE).map(|_| ())
    });
    assert!(decoded.is_err());
    crate::reencode::check(file);
}

// Spec: CONV-6, CONV-12
// Parity: F2
#[test]
fn every_truncation_is_refused() {
    for name in ["minimal", "sections"] {
        let file = golden(format!("tests/golden/v1/{name}.bin"));
        check_truncations(&file, &mut is_refused);
    }
}

// Spec: CONV-6, CONV-12
// Parity: F2
#[test]
fn every_flipped_bit_is_found() {
    for name in ["minimal", "sections"] {
        let file = golden(format!("tests/golden/v1/{name}.bin"));
        // A flipped bit of the minor version breaks the checksum as any other.
        check_bit_flips(&file, &mut is_refused);
    }
}

// Parity: D10, F2
#[test]
fn all_zero_file_is_refused() {
    is_refused(&[0; 4096]);
}
