//! How other versions are met.

use coldframe_envelope::{
    Codec, ContainerBuilder, DecodeErrorKind as Kind, Format, SectionKind, Version,
};
use coldframe_statefile::{HOST, META};
use coldframe_units::Arch;

use crate::sample::{changed, decode, producer};

fn empty(format: Format) -> Vec<u8> {
    let builder = ContainerBuilder::new(format, producer()).with_arch(Arch::X86_64);
    builder.finish().unwrap().0
}

// Spec: STATE-1, CONV-8
#[test]
fn newer_major_is_refused_with_both_versions() {
    let file = empty(Format::new(*b"STAT", 2, 0));
    let version = |major, minor| Version { major, minor };
    let (found, min, max) = (version(2, 0), version(1, 0), version(1, 0));
    let error = decode(&file).unwrap_err();
    assert_eq!(error.kind, Kind::Unsupported { found, min, max });
}

// Spec: STATE-1, CONV-8, CONV-11
#[test]
fn newer_minor_is_read_and_another_codec_is_not() {
    let bitcode = |minor| Codec::new(*b"bitcode\0", 0, minor);
    let newer = Format::new(*b"STAT", 1, 9);
    assert!(decode(&empty(newer.with_codec(bitcode(6)))).is_ok());
    for codec in [bitcode(7), Codec::PLAIN] {
        let error = decode(&empty(newer.with_codec(codec))).unwrap_err();
        assert!(error.is_unsupported_version(), "{error}");
    }
}

// Spec: STATE-1
// Parity: F3
#[test]
fn header_without_an_architecture_is_refused() {
    let format = coldframe_statefile::FORMAT;
    let (file, _) = ContainerBuilder::new(format, producer()).finish().unwrap();
    let field = "arch";
    assert_eq!(decode(&file).unwrap_err().kind, Kind::Invalid { field });
}

// Spec: CONV-10
#[test]
fn newer_version_of_a_section_is_refused_by_name() {
    let file = changed(|row, _| {
        row.version += u16::from(row.kind == HOST);
        true
    });
    let error = decode(&file).unwrap_err();
    let (kind, instance, found, max) = (HOST, 0, 2, 1);
    let expected = Kind::UnsupportedSection {
        kind,
        instance,
        found,
        max,
    };
    assert_eq!(error.kind, expected);
    let older = changed(|row, _| {
        row.version -= u16::from(row.kind == HOST);
        true
    });
    let field = "section version";
    assert_eq!(decode(&older).unwrap_err().kind, Kind::Invalid { field });
}

// Spec: CONV-9, CONV-10
#[test]
fn newer_optional_section_costs_only_itself() {
    let file = changed(|row, _| {
        row.version += u16::from(row.kind == META);
        true
    });
    let state = decode(&file).unwrap();
    assert!(state.host().is_ok());
    assert!(state.metadata().unwrap_err().is_unsupported_version());
}

// Spec: CONV-9
#[test]
fn unknown_section_of_a_later_minor_is_listed_or_refused() {
    let later = SectionKind::new(*b"LATE");
    let with = |must| {
        let builder = ContainerBuilder::new(coldframe_statefile::FORMAT, producer());
        let mut builder = builder.with_arch(Arch::X86_64);
        match must {
            true => builder.must_understand(later, 0, 1, Vec::new()),
            false => builder.optional(later, 0, 1, Vec::new()),
        }
        builder.finish().unwrap().0
    };
    let file = with(false);
    let listed: Vec<bool> = decode(&file).unwrap().sections().map(|s| s.known).collect();
    assert_eq!(listed, [false]);
    let error = decode(&with(true)).unwrap_err();
    assert!(error.to_string().contains("LATE.0"), "{error}");
}
