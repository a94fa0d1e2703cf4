//! Every golden cut at every length and with every bit flipped; every body too, its hash right.

use coldframe_envelope::{Container, Limits};
use coldframe_manifest::{DISK, FILE, FORMAT, HOST, IDNT, LABL, Manifest, RAML};
use coldframe_testkit::alloc::assert_alloc_bounded;
use coldframe_testkit::golden::golden;
use coldframe_testkit::hostile::{check_bit_flips, check_truncations};

use crate::reencode;
use crate::sample::{bytes, diff, with_body};

fn is_refused(file: &[u8]) {
    let bound = 8 * file.len() + 1024;
    let decoded = assert_alloc_bounded(bound, || Manifest::decode(file).map(|_| ()));
    assert!(decoded.is_err());
}

// Spec: CONV-6, CONV-12
#[test]
fn every_truncation_is_refused() {
    for name in ["full", "diff"] {
        let file = golden(format!("tests/golden/v1/{name}.bin"));
        check_truncations(&file, &mut is_refused);
    }
}

// Spec: CONV-6, CONV-12
#[test]
fn every_flipped_bit_is_found() {
    for name in ["full", "diff"] {
        let file = golden(format!("tests/golden/v1/{name}.bin"));
        check_bit_flips(&file, &mut is_refused);
    }
}

// Spec: CONV-4, CONV-6
#[test]
fn damaged_bodies_behind_right_hashes_are_refused_or_whole() {
    let file = bytes(&diff());
    let container = Container::decode(&file, FORMAT, Limits::SMALL_FILE).unwrap();
    for kind in [IDNT, RAML, FILE, HOST, DISK, LABL] {
        let instance = u32::from(kind == FILE);
        let body = container.require(kind, instance).unwrap().body();
        let mut check = |damaged: &[u8]| {
            let file = with_body(kind, damaged);
            let bound = 8 * file.len() + 1024;
            let decoded = assert_alloc_bounded(bound, || Manifest::decode(&file));
            if let Ok((manifest, _)) = decoded {
                let again = bytes(&manifest);
                assert_eq!(again, file, "accepted, but not written like this");
            }
            reencode::check(&file);
        };
        check_truncations(body, &mut check);
        check_bit_flips(body, &mut check);
    }
}
