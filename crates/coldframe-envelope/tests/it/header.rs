//! Fields of the header, one rule each.

use coldframe_envelope::{
    ContainerBuilder, DecodeError, DecodeErrorKind as Kind, EncodeError, Format, Header, Limits,
    Producer,
};

use crate::sample::{FORMAT, minimal, producer, resealed, sections};

#[track_caller]
fn check_refused(changes: &[(usize, &[u8])], kind: Kind) {
    let file = resealed(&sections().0, changes);
    assert_eq!(Header::decode(&file, FORMAT).unwrap_err().kind, kind);
}

// Spec: ENV-2, CONV-5, CONV-13
#[test]
fn a_prefix_is_truncated_and_anything_else_is_foreign() {
    let (file, _) = minimal();
    for len in 1..160 {
        let error = Header::peek(&file[..len]).unwrap_err();
        let have = u64::try_from(len).unwrap();
        assert_eq!(error.kind, Kind::Truncated { need: 160, have });
        assert!(error.is_corrupt());
    }
    for foreign in [&b""[..], b"\x7fELF", &[0; 4096], b"\x89PNG\r\n\x1a\n"] {
        let error = Header::peek(foreign).unwrap_err();
        assert_eq!(error, DecodeError::new(Kind::BadMagic, 0));
        assert!(error.is_foreign());
    }
}

// Spec: CONV-5
#[test]
fn version_is_judged_before_the_checksum() {
    let (mut file, _) = minimal();
    file[12] = 9;
    let error = Header::decode(&file, FORMAT).unwrap_err();
    assert!(error.is_unsupported_version());
}

// Spec: ENV-11
#[test]
fn checksum_covers_all_that_stands_before_it() {
    let (file, _) = sections();
    let hash = *blake3::hash(&file[..152]).as_bytes();
    assert_eq!(file[152..160], hash[..8]);
}

// Spec: CONV-12
#[test]
fn root_is_the_hash_of_the_header() {
    let (file, root) = sections();
    assert_eq!(*root.as_bytes(), *blake3::hash(&file[..160]).as_bytes());
    assert_eq!(Header::peek(&file).unwrap().root(), root);
}

// Spec: ENV-4
#[test]
fn unknown_arch_and_page_size_are_refused() {
    let invalid = |field| Kind::Invalid { field };
    check_refused(&[(16, &[3])], invalid("arch"));
    for log2 in [1, 11, 31, 64, 255] {
        check_refused(&[(17, &[log2])], invalid("page_size_log2"));
    }
}

// Spec: ENV-5
#[test]
fn undefined_flag_bit_is_refused() {
    check_refused(&[(20, &[0b110])], Kind::Invalid { field: "flags" });
}

// Spec: CONV-2
#[test]
fn reserved_bytes_must_be_zero() {
    for at in [18, 19, 56, 63, 144, 151] {
        check_refused(&[(at, &[1])], Kind::ReservedNotZero);
    }
}

// Spec: ENV-8, ENV-10
#[test]
fn texts_are_printable_and_zero_padded() {
    let invalid = |field| Kind::Invalid { field };
    check_refused(&[(48, b"bit\0code")], invalid("codec"));
    check_refused(&[(96, &[0; 48])], invalid("producer"));
    check_refused(&[(97, b"\n")], invalid("producer"));
    check_refused(&[(143, b"x")], invalid("producer"));
}

// Spec: ENV-10, CONV-7
#[test]
fn producer_text_is_held_to_its_rule_when_made() {
    assert!(Producer::new(&"n".repeat(44), "1.0").is_ok());
    for (name, version) in [("n", "\n"), ("n\u{e9}", "1"), (&"n".repeat(48), "")] {
        let refused = Producer::new(name, version).unwrap_err();
        assert!(matches!(refused, EncodeError::Producer { .. }));
    }
}

// Spec: CONV-7, ENV-16
#[test]
fn too_many_sections_are_refused_when_writing() {
    let mut builder = ContainerBuilder::new(Format::new(*b"TEST", 1, 0), producer());
    let limit = Limits::SMALL_FILE.sections_max;
    for instance in 0..=limit {
        builder.optional(crate::sample::NOTE, instance, 1, Vec::new());
    }
    let error = builder.finish().unwrap_err();
    let (limit, found) = (limit.into(), u64::from(limit) + 1);
    let what = "section_count";
    assert_eq!(error, EncodeError::LimitExceeded { what, limit, found });
}
