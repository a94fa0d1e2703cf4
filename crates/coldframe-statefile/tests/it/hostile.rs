//! Every golden cut at every length and with every bit flipped; every body too, its hash right.

use coldframe_statefile::{DEVC, HOST, MACH, META, VCPU};
use coldframe_testkit::alloc::assert_alloc_bounded;
use coldframe_testkit::golden::golden;
use coldframe_testkit::hostile::{check_bit_flips, check_truncations};

use crate::reencode;
use crate::sample::{decode, device, host, machine, metadata, vcpu, with_body};

fn is_refused(file: &[u8]) {
    let bound = 8 * file.len() + 1024;
    assert!(assert_alloc_bounded(bound, || decode(file).map(|_| ())).is_err());
}

// Spec: CONV-6, CONV-12
#[test]
fn every_truncation_is_refused() {
    for name in ["machine", "imported", "foreign"] {
        let file = golden(format!("tests/golden/v1/{name}.bin"));
        check_truncations(&file, &mut is_refused);
    }
}

// Spec: CONV-6, CONV-12
// Parity: F2
#[test]
fn every_flipped_bit_is_found_before_the_codec_runs() {
    for name in ["machine", "imported", "foreign"] {
        let file = golden(format!("tests/golden/v1/{name}.bin"));
        check_bit_flips(&file, &mut is_refused);
    }
}

// Spec: STATE-8, STATE-14
#[test]
fn damaged_bodies_behind_right_hashes_are_refused_or_whole() {
    for (kind, body) in [
        (HOST, bitcode::encode(&host())),
        (MACH, bitcode::encode(&machine())),
        (VCPU, bitcode::encode(&vcpu(0))),
        (DEVC, bitcode::encode(&device("serial", 0))),
        (META, bitcode::encode(&metadata())),
    ] {
        let mut check = |damaged: &[u8]| {
            let file = with_body(kind, damaged);
            // The rebuilt copies inside the check are counted as well.
            assert_alloc_bounded(160 * file.len(), || reencode::check(&file));
        };
        check_truncations(&body, &mut check);
        check_bit_flips(&body, &mut check);
    }
}
