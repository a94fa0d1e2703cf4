//! Golden files of every version: written once, read for ever.

use coldframe_manifest::Manifest;
use coldframe_testkit::golden::{assert_golden, golden};

use crate::sample::{bytes, diff, full, named};

// Spec: CONV-4, MANI-15
#[test]
fn todays_encoder_writes_the_goldens_of_version_1() {
    assert_golden("tests/golden/v1/full.bin", &bytes(&full()));
    assert_golden("tests/golden/v1/diff.bin", &bytes(&diff()));
    assert_golden("tests/golden/v1/named.bin", &bytes(&named()));
}

// Spec: MANI-1, MANI-10
#[test]
fn goldens_have_their_known_values() {
    for (name, manifest) in [("full", full()), ("diff", diff()), ("named", named())] {
        let file = golden(format!("tests/golden/v1/{name}.bin"));
        assert!(file.len() < 4096);
        let (read, root) = Manifest::decode(&file).unwrap();
        assert_eq!(read, manifest);
        assert_eq!(*root.as_bytes(), *blake3::hash(&file[..160]).as_bytes());
    }
}

// Spec: MANI-1
#[test]
fn what_needs_nothing_of_1_1_is_written_as_1_0() {
    assert_eq!(golden("tests/golden/v1/diff.bin")[12..16], [1, 0, 0, 0]);
    assert_eq!(golden("tests/golden/v1/named.bin")[12..16], [1, 0, 1, 0]);
}

// Spec: MANI-1, CONV-1
#[test]
fn bytes_of_the_identity_are_frozen() {
    let file = golden("tests/golden/v1/diff.bin");
    assert_eq!(file[8..16], [b'M', b'A', b'N', b'I', 1, 0, 0, 0]);
    assert_eq!(file[16..18], [1, 12]);
    assert_eq!(file[160..176], [0xa2; 16]);
    assert_eq!(file[176..184], [2, 0, 0, 0, 0xff, 0xc9, 0x9a, 0x3b]);
    assert_eq!(file[184..192], [0, 0xb9, 0x55, 0x69, 0, 0, 0, 0]);
    assert_eq!(file[192..208], [0xa1; 16]);
    assert_eq!(file[208..240], [0xc1; 32]);
}
