//! What no release may change, and how other versions are met.

use coldframe_envelope::{DecodeErrorKind as Error, Version};

use crate::forge::Forge;
use crate::sample::{diff, full};

// Spec: MEM-1, MEM-4, MEM-5, MEM-6
#[test]
fn first_bytes_are_frozen() {
    let (file, _) = full();
    let prefix = [
        0x89, b'C', b'F', b'R', b'\r', b'\n', 0x1a, b'\n', // magic
        b'M', b'E', b'M', b'F', 1, 0, 0, 0, // format, major, minor
        1, 12, 0, 0, 0, 0, 0, 0, // arch, page size, reserved, flags
        0x58, 0x42, 0x21, 0, 0, 0, 0, 0, // file_len
        0x18, 0x41, 0x21, 0, 0, 0, 0, 0, // table_offset
        5, 0, 0, 0, 0, 0, 0, 0, // section_count, codec release
        0, 0, 0, 0, 0, 0, 0, 0, // codec
        0, 0, 0, 0, 0, 0, 0, 0, // reserved
    ];
    assert_eq!(file.header[..64], prefix);
    assert_eq!(diff().0.header[..24], {
        let mut diff = prefix;
        diff[20] = 1;
        diff[..24].to_vec()
    });
}

// Spec: MEM-7, MEM-8, MEM-9, MEM-16
#[test]
fn first_bytes_of_each_table_are_frozen() {
    let (file, _) = diff();
    let mut forge = Forge::new(&file);
    let region = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 2, 0, 0, 0, 0, 0];
    assert_eq!(forge.body(b"REGN")[..16], region);
    assert_eq!(*forge.body(b"PRNT"), [0x5a; 32]);
    let data = [1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
    let zero = [2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0];
    let extents = forge.body(b"EXTN");
    assert_eq!(extents[..16], data);
    assert_eq!(extents[16..24], [0, 0x10, 0, 0, 0, 0, 0, 0]);
    assert_eq!(extents[24..40], zero);
    assert_eq!(extents[40..48], [0; 8]);
    let blocks = forge.body(b"BLKS");
    assert_eq!(blocks[..8], [0; 8]);
    assert_eq!(blocks[40..48], [1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(blocks[48..56], [1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(blocks[88..96], [0; 8]);
}

// Spec: MEM-1
#[test]
fn another_major_is_refused_with_both_versions() {
    let version = |major, minor| Version { major, minor };
    let (min, max) = (version(1, 0), version(1, 1));
    for found in [version(0, 9), version(2, 0)] {
        let mut forge = Forge::new(&full().0);
        forge.header.version = found;
        let error = forge.open(|_| Ok(())).unwrap_err();
        assert_eq!(error.kind, Error::Unsupported { found, min, max });
        assert!(error.is_unsupported_version());
    }
}

// Spec: MEM-1
#[test]
fn a_later_minor_is_read() {
    for minor in [1, 0xffff] {
        let mut forge = Forge::new(&diff().0);
        forge.header.version.minor = minor;
        assert_eq!(forge.verify(), Ok(()));
    }
}
