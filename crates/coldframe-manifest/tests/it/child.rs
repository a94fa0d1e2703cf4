//! Notes of children in other directories, against `specs/catalog.md`.

use coldframe_envelope::{
    ContainerBuilder, DecodeErrorKind as Kind, EncodeError, Format, SectionFlags, SectionKind,
    Version,
};
use coldframe_manifest::{CHILD_FORMAT, CHILD_PATH_BYTES_MAX, ChildNote, PATH, PRNT};
use coldframe_testkit::alloc::assert_alloc_bounded;
use coldframe_testkit::golden::{assert_golden, golden};
use coldframe_testkit::hostile::{check_bit_flips, check_truncations};
use coldframe_units::SnapshotId;

use crate::sample::producer;

const GOLDEN: &str = "tests/golden/v1/child.bin";

fn note(dir: &[u8]) -> ChildNote {
    ChildNote {
        producer: producer(),
        parent: SnapshotId::from_bytes([0xa1; 16]),
        dir: dir.to_vec(),
    }
}

/// A file of these sections, each with its version and flags.
fn file(sections: &[(SectionKind, u16, SectionFlags, &[u8])]) -> Vec<u8> {
    let mut builder = ContainerBuilder::new(CHILD_FORMAT, producer());
    for (kind, version, flags, body) in sections {
        builder.section(*kind, 0, *version, *flags, body.to_vec());
    }
    builder.finish().unwrap().0
}

#[track_caller]
fn check_refused(file: &[u8], expected: &Kind) {
    let error = ChildNote::decode(file).unwrap_err();
    assert_eq!(error.kind, *expected);
}

// Spec: CONV-4, CAT-7
#[test]
fn the_golden_is_written_and_read() {
    // Not UTF-8, as a path may be.
    let note = note(b"/srv/guests/\xff");
    assert_golden(GOLDEN, &note.encode().unwrap().0);
    let (read, root) = ChildNote::decode(&golden(GOLDEN)).unwrap();
    assert_eq!(read, note);
    assert_eq!(
        *root.as_bytes(),
        *blake3::hash(&golden(GOLDEN)[..160]).as_bytes()
    );
}

// Spec: CONV-6, CONV-12
#[test]
fn no_truncation_and_no_flipped_bit_is_taken() {
    let golden = golden(GOLDEN);
    let mut refused = |file: &[u8]| {
        let bound = 8 * file.len() + 1024;
        let decoded = assert_alloc_bounded(bound, || ChildNote::decode(file).map(drop));
        assert!(decoded.is_err());
    };
    check_truncations(&golden, &mut refused);
    check_bit_flips(&golden, &mut refused);
}

// Spec: CAT-7
#[test]
fn only_absolute_paths_are_written_and_read() {
    let must = SectionFlags::MUST_UNDERSTAND;
    let long = [b"/", &[b'x'; CHILD_PATH_BYTES_MAX][..]].concat();
    for bad in [&b""[..], b"relative", b"/with\0zero"] {
        let invalid = EncodeError::Invalid { field: "path" };
        assert_eq!(note(bad).encode().unwrap_err(), invalid);
        let file = file(&[(PRNT, 1, must, &[1; 16]), (PATH, 1, must, bad)]);
        check_refused(&file, &Kind::Invalid { field: "path" });
    }
    assert!(matches!(
        note(&long).encode(),
        Err(EncodeError::LimitExceeded { .. })
    ));
    let file = file(&[(PRNT, 1, must, &[1; 16]), (PATH, 1, must, &long)]);
    let error = ChildNote::decode(&file).unwrap_err();
    assert!(matches!(error.kind, Kind::LimitExceeded { .. }));
    assert!(note(&long[..CHILD_PATH_BYTES_MAX]).encode().is_ok());
}

// Spec: CAT-7, CONV-10
#[test]
fn an_id_of_another_length_and_other_sections_are_refused() {
    let (must, optional) = (SectionFlags::MUST_UNDERSTAND, SectionFlags::OPTIONAL);
    let path = (PATH, 1, must, &b"/p"[..]);
    let field = "section length";
    check_refused(
        &file(&[(PRNT, 1, must, &[1; 15]), path]),
        &Kind::Invalid { field },
    );
    let field = "section version or flags";
    check_refused(
        &file(&[(PRNT, 1, optional, &[1; 16]), path]),
        &Kind::Invalid { field },
    );
    let (kind, instance, found, max) = (PRNT, 0, 2, 1);
    let newer = Kind::UnsupportedSection {
        kind,
        instance,
        found,
        max,
    };
    check_refused(&file(&[(PRNT, 2, must, &[1; 16]), path]), &newer);
    let kind = PATH;
    let missing = Kind::MissingSection { kind, instance };
    check_refused(&file(&[(PRNT, 1, must, &[1; 16])]), &missing);
}

// Spec: CONV-8, CONV-9
#[test]
fn a_newer_minor_is_read_and_a_newer_major_is_not() {
    let (must, optional) = (SectionFlags::MUST_UNDERSTAND, SectionFlags::OPTIONAL);
    let newer = |major, minor, flags| {
        let mut builder = ContainerBuilder::new(Format::new(*b"CHLD", major, minor), producer());
        builder.must_understand(PRNT, 0, 1, vec![0xa1; 16]);
        builder.must_understand(PATH, 0, 1, b"/p".to_vec());
        builder.section(SectionKind::new(*b"LATE"), 0, 9, flags, vec![1]);
        builder.finish().unwrap().0
    };
    assert_eq!(
        ChildNote::decode(&newer(1, 7, optional)).unwrap().0,
        note(b"/p")
    );
    let kind = SectionKind::new(*b"LATE");
    let instance = 0;
    check_refused(&newer(1, 7, must), &Kind::UnknownSection { kind, instance });
    let version = |major, minor| Version { major, minor };
    let (found, min, max) = (version(2, 0), version(1, 0), version(1, 0));
    check_refused(
        &newer(2, 0, optional),
        &Kind::Unsupported { found, min, max },
    );
}
