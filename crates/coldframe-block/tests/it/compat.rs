//! What no release may change, and how other versions are met.

use coldframe_block::Record;
use coldframe_envelope::DecodeErrorKind as Error;

use crate::sample::{all, encode};

// Spec: BLK-40
#[test]
fn first_bytes_are_frozen() {
    let kinds = [
        ("base", [1, 1]),
        ("write", [2, 1]),
        ("zero", [3, 1]),
        ("resize", [4, 1]),
        ("base_identified", [1, 2]),
    ];
    for ((name, record), (known, kind)) in all().iter().zip(kinds) {
        assert_eq!(*name, known);
        assert_eq!(encode(record)[..2], kind);
        assert_eq!(encode(record)[2..8], [0; 6]);
    }
}

// Spec: BLK-40
#[test]
fn another_version_is_unsupported_and_an_unknown_kind_is_corrupt() {
    for (name, record) in all() {
        let newest = if name.starts_with("base") { 2 } else { 1 };
        for version in [0, newest + 1, 255] {
            let mut bytes = encode(&record);
            bytes[1] = version;
            let error = Record::decode(&bytes).unwrap_err();
            assert!(matches!(error.kind, Error::Unsupported { found, .. }
                if found.major == u16::from(version)));
            assert!(error.is_unsupported_version());
        }
        for kind in [0, 5, 255] {
            let mut bytes = encode(&record);
            bytes[..2].copy_from_slice(&[kind, 1]);
            assert!(Record::decode(&bytes).unwrap_err().is_corrupt());
        }
    }
}

// Spec: BLK-40
#[test]
fn compat_every_golden_of_every_version_is_read() {
    for version in ["v1"] {
        let dir = format!("tests/golden/{version}");
        let names = std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let mut count = 0;
        for path in names.filter(|path| path.extension().is_some_and(|end| end == "bin")) {
            let mut bytes = std::fs::read(&path).unwrap();
            if path.file_stem().unwrap() == "write" {
                bytes.resize(4096 + 24, 0);
            }
            Record::decode(&bytes).unwrap();
            count += 1;
        }
        assert_eq!(count, 5);
    }
}
