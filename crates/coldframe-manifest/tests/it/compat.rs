//! How other versions are met.

use coldframe_envelope::{
    ContainerBuilder, DecodeErrorKind as Kind, Format, SectionFlags, SectionKind, Version,
};
use coldframe_manifest::{DISK, FILE, LABL, Manifest};
use coldframe_units::PageSize;

use crate::sample::{bytes, changed, check_refused, diff, producer};

// Spec: MANI-1, CONV-8
#[test]
fn newer_major_is_refused_with_both_versions() {
    let newer = ContainerBuilder::new(Format::new(*b"MANI", 2, 0), producer());
    let version = |major, minor| Version { major, minor };
    let (found, min, max) = (version(2, 0), version(1, 0), version(1, 1));
    let refused = Kind::Unsupported { found, min, max };
    check_refused(&newer.finish().unwrap().0, refused);
}

/// The sections of a sound file, written by `format`, with one more.
fn with_section(format: Format, kind: SectionKind, instance: u32, flags: SectionFlags) -> Vec<u8> {
    let file = bytes(&diff());
    let limits = coldframe_manifest::LIMITS;
    let container = coldframe_envelope::Container::peek(&file, limits).unwrap();
    let builder = ContainerBuilder::new(format, producer());
    let mut builder = builder
        .with_page_size(PageSize::SIZE_4K)
        .with_arch(container.header().arch.unwrap());
    for body in container.bodies() {
        let row = body.section();
        let bytes = body.body().to_vec();
        builder.section(row.kind, row.instance, row.version, row.flags, bytes);
    }
    builder.section(kind, instance, 9, flags, vec![1, 2, 3]);
    builder.finish().unwrap().0
}

// Spec: CONV-8, CONV-9, MANI-4
#[test]
fn newer_minor_is_read_without_what_it_added() {
    let newer = Format::new(*b"MANI", 1, 7);
    for (kind, instance) in [(SectionKind::new(*b"LATE"), 0), (FILE, 3)] {
        let file = with_section(newer, kind, instance, SectionFlags::OPTIONAL);
        assert_eq!(Manifest::decode(&file).unwrap().0, diff());
        let file = with_section(newer, kind, instance, SectionFlags::MUST_UNDERSTAND);
        check_refused(&file, Kind::UnknownSection { kind, instance });
    }
}

// Spec: CONV-10, MANI-3
#[test]
fn newer_version_of_a_section_is_refused_by_name() {
    for kind in [DISK, LABL] {
        let file = changed(|row, _| {
            row.version += u16::from(row.kind == kind);
            true
        });
        let (instance, found, max) = (0, 2, 1);
        let refused = Kind::UnsupportedSection {
            kind,
            instance,
            found,
            max,
        };
        check_refused(&file, refused);
    }
}
