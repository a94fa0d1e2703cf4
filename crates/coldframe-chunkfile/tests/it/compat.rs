//! What no release may change, and how other versions are met.

use coldframe_chunkfile::{INDEX_LIMITS, Index, Ledger, PACK_LIMITS, Pack, Tag};
use coldframe_envelope::{DecodeError, DecodeErrorKind as Error, SectionFlags, Version};

use crate::forge::Forge;
use crate::sample::{all, delta_index, golden_pack, ledger_file, tag, tag_log};

fn open(name: &str, file: &[u8]) -> Result<(), DecodeError> {
    match name {
        name if name.starts_with("pack") => Pack::open(file, PACK_LIMITS).map(drop),
        name if name.starts_with("tag") => Tag::decode(file).map(drop),
        name if name.starts_with("ledger") => Ledger::decode(file).map(drop),
        _ => Index::open(file, INDEX_LIMITS).map(drop),
    }
}

// Spec: PACK-1, CIDX-1, STORE-1
// Parity: D74, F28
#[test]
fn first_bytes_are_frozen() {
    let names = [
        (golden_pack(), b"PACK"),
        (delta_index(), b"CIDX"),
        (tag(), b"CTAG"),
        (tag_log(), b"CTAG"),
        (ledger_file(), b"LEDG"),
    ];
    for (file, name) in names {
        assert_eq!(
            file[..8],
            [0x89, b'C', b'F', b'R', b'\r', b'\n', 0x1a, b'\n']
        );
        assert_eq!(&file[8..12], name);
        let minor = u8::from(file == tag_log());
        assert_eq!(file[12..24], [1, 0, minor, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(file[44..64], [0; 20]);
    }
}

// Spec: PACK-1, CIDX-1, STORE-1
// Parity: F28
#[test]
fn another_major_is_refused_with_both_versions() {
    let version = |major, minor| Version { major, minor };
    for (name, file) in all() {
        let newest = u16::from(name.starts_with("tag"));
        let (min, max) = (version(1, 0), version(1, newest));
        for found in [version(0, 9), version(2, 0)] {
            let mut forge = Forge::new(&file);
            forge.header.version = found;
            let error = open(name, &forge.seal()).unwrap_err();
            assert_eq!(error.kind, Error::Unsupported { found, min, max });
        }
    }
}

#[test]
fn a_later_minor_is_read() {
    for (name, file) in all() {
        let mut forge = Forge::new(&file);
        forge.header.version.minor = 7;
        assert_eq!(open(name, &forge.seal()), Ok(()));
    }
}

// Spec: PACK-9, CIDX-14
#[test]
fn optional_sections_are_passed_over_and_others_refused() {
    for (name, file) in all() {
        let end = Forge::new(&file).sections.len();
        let optional = Forge::new(&file).add(end, b"xtra", SectionFlags::OPTIONAL, b"note");
        assert_eq!(open(name, &optional.seal()), Ok(()), "{name}");
        let needed = Forge::new(&file).add(end, b"NEED", SectionFlags::MUST_UNDERSTAND, b"x");
        let error = open(name, &needed.seal()).unwrap_err();
        assert!(matches!(error.kind, Error::UnknownSection { .. }), "{name}");
        assert!(error.is_unsupported_version());
    }
}

// Spec: PACK-9, CIDX-14
#[test]
fn a_damaged_optional_section_is_found() {
    for (name, file) in [("pack", golden_pack()), ("index_delta", delta_index())] {
        let end = Forge::new(&file).sections.len();
        let forge = Forge::new(&file).add(end, b"xtra", SectionFlags::OPTIONAL, b"note");
        let mut file = forge.seal();
        let at = file.windows(4).position(|bytes| bytes == b"note").unwrap();
        file[at] ^= 1;
        assert_eq!(open(name, &file).unwrap_err().kind, Error::BodyHash);
    }
}

#[test]
fn a_later_section_version_is_refused_by_name() {
    let sections = [
        ("pack", b"CHNK"),
        ("index_delta", b"IMAG"),
        ("tag", b"TAGR"),
        ("tag_disk", b"DISK"),
        ("tag_log", b"WLOG"),
    ];
    for (name, section) in sections {
        let files = all();
        let (_, file) = files.iter().find(|(n, _)| *n == name).unwrap();
        let later = Forge::new(file).row(section, |row| row.version = 2).seal();
        let error = open(name, &later).unwrap_err();
        assert!(
            matches!(error.kind, Error::UnsupportedSection { found: 2, .. }),
            "{name}"
        );
    }
}
