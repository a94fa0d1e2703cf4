//! What no release may change, and how other versions are met.

use coldframe_envelope::{
    Codec, Container, ContainerBuilder, DecodeErrorKind as Kind, Format, Header, Limits,
    SectionKind, Version,
};

use crate::sample::{DATA, FORMAT, NOTE, producer, sections};

// Spec: ENV-2, ENV-1, CONV-1
#[test]
fn first_bytes_are_frozen() {
    let (file, _) = sections();
    let prefix = [
        0x89, b'C', b'F', b'R', b'\r', b'\n', 0x1a, b'\n', // magic
        b'T', b'E', b'S', b'T', 1, 0, 2, 0, // format, major, minor
        2, 14, 0, 0, 4, 0, 0, 0, // arch, page size, reserved, flags
        0x78, 0x01, 0, 0, 0, 0, 0, 0, // file_len
        0xb8, 0, 0, 0, 0, 0, 0, 0, // table_offset
        3, 0, 0, 0, 0, 0, 0, 0, // section_count, codec release
        0, 0, 0, 0, 0, 0, 0, 0, // codec
        0, 0, 0, 0, 0, 0, 0, 0, // reserved
    ];
    assert_eq!(file[..64], prefix);
    assert_eq!(&file[96..109], b"golden 0.1.0\0");
    assert_eq!(&file[160..168], b"hello\0\0\0");
    assert_eq!(&file[184..192], [b'D', b'A', b'T', b'A', 0, 0, 0, 0]);
}

fn decode_as(format: Format, file: &[u8]) -> Result<(), Kind> {
    let decoded = Container::decode(file, format, Limits::SMALL_FILE);
    decoded.map(|_| ()).map_err(|error| error.kind)
}

// Spec: CONV-8, CONV-13
// Parity: F4
#[test]
fn another_major_is_refused_with_both_versions() {
    for (major, minor) in [(0, 9), (2, 0), (0xffff, 0xffff)] {
        let newer = Format::new(*b"TEST", major, minor);
        let (file, _) = ContainerBuilder::new(newer, producer()).finish().unwrap();
        let error = Header::decode(&file, FORMAT).unwrap_err();
        let version = |major, minor| Version { major, minor };
        let (found, min, max) = (version(major, minor), version(1, 0), version(1, 2));
        assert_eq!(error.kind, Kind::Unsupported { found, min, max });
        assert!(error.is_unsupported_version() && !error.is_corrupt());
        let text = format!("format version {major}.{minor} is not supported");
        assert!(error.to_string().starts_with(&text), "{error}");
    }
}

// Spec: CONV-8
// Parity: F4
#[test]
fn every_minor_of_the_same_major_is_read() {
    for minor in [0, 1, 2, 3, 0xffff] {
        let other = Format::new(*b"TEST", 1, minor);
        let (file, _) = ContainerBuilder::new(other, producer()).finish().unwrap();
        assert_eq!(decode_as(FORMAT, &file), Ok(()));
    }
}

// Spec: CONV-9
#[test]
fn unknown_section_is_refused_by_name_only_if_it_must_be_understood() {
    let (file, _) = sections();
    let container = Container::decode(&file, FORMAT, Limits::SMALL_FILE).unwrap();
    assert_eq!(container.refuse_unknown(&[DATA]), Ok(()));
    let error = container.refuse_unknown(&[NOTE]).unwrap_err();
    let (kind, instance) = (DATA, 0);
    assert_eq!(error.kind, Kind::UnknownSection { kind, instance });
    assert!(error.is_unsupported_version());
    assert!(error.to_string().contains("DATA.0"));
    assert_eq!(container.table().sections().len(), 3);
}

// Spec: CONV-11, ENV-8
#[test]
fn another_codec_or_release_is_refused_with_both() {
    let ours = Format::new(*b"TEST", 1, 0).with_codec(Codec::new(*b"bitcode\0", 0, 6));
    for theirs in [
        Codec::PLAIN,
        Codec::new(*b"bitcode\0", 0, 7),
        Codec::new(*b"postcard", 0, 6),
    ] {
        let format = Format::new(*b"TEST", 1, 0).with_codec(theirs);
        let (file, _) = ContainerBuilder::new(format, producer()).finish().unwrap();
        let error = Header::decode(&file, ours).unwrap_err();
        let (found, expected) = (theirs, ours.codec());
        assert_eq!(error.kind, Kind::UnsupportedCodec { found, expected });
        assert!(error.is_unsupported_version());
        assert!(error.to_string().contains("this reader has bitcode 0.6"));
        assert_eq!(decode_as(format, &file), Ok(()));
    }
}

// Spec: ENV-3, CONV-13, CONV-3
// Parity: F3
#[test]
fn file_of_another_format_is_foreign_and_named() {
    let (file, _) = sections();
    let error = Header::decode(&file, Format::new(*b"MANI", 1, 0)).unwrap_err();
    let (found, expected) = (SectionKind::new(*b"TEST"), SectionKind::new(*b"MANI"));
    assert_eq!(error.kind, Kind::WrongFormat { found, expected });
    assert!(error.is_foreign() && !error.is_corrupt());
}

// Spec: CONV-9
#[test]
fn any_file_can_be_peeked_whatever_its_format_and_version() {
    let newer = Format::new(*b"WHAT", 9, 9).with_codec(Codec::new(*b"future\0\0", 3, 1));
    let mut builder = ContainerBuilder::new(newer, producer());
    builder.must_understand(NOTE, 0, 9, vec![1; 100]);
    let (file, root) = builder.finish().unwrap();
    let container = Container::peek(&file, Limits::SMALL_FILE).unwrap();
    assert_eq!(container.root(), root);
    assert_eq!(container.table().sections()[0].len, 100);
}
