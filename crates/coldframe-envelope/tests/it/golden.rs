//! Golden files of every version: written once, read for ever.

use coldframe_envelope::{Container, Limits, SectionFlags};
use coldframe_testkit::golden::{assert_golden, golden};
use coldframe_units::{Arch, PageSize};

use crate::sample::{DATA, FORMAT, NOTE, minimal, producer, sections};

// Spec: CONV-4, ENV-17
#[test]
fn todays_encoder_writes_the_goldens_of_version_1() {
    assert_golden("tests/golden/v1/minimal.bin", &minimal().0);
    assert_golden("tests/golden/v1/sections.bin", &sections().0);
}

#[test]
fn goldens_are_under_4_kib() {
    for name in ["minimal", "sections"] {
        assert!(golden(format!("tests/golden/v1/{name}.bin")).len() < 4096);
    }
}

// Spec: CONV-1, ENV-1
#[test]
fn golden_with_sections_has_its_known_value() {
    let file = golden("tests/golden/v1/sections.bin");
    let container = Container::decode(&file, FORMAT, Limits::SMALL_FILE).unwrap();
    let header = container.header();
    assert_eq!(header.arch, Some(Arch::Aarch64));
    assert_eq!(header.page_size, Some(PageSize::SIZE_16K));
    assert_eq!(header.flags, 0b100);
    assert_eq!(header.producer, producer());
    assert_eq!(header.producer.as_str(), "golden 0.1.0");
    assert_eq!(container.require(DATA, 0).unwrap().body(), b"hello");
    assert_eq!(container.require(DATA, 1).unwrap().body(), b"");
    let note = container.require(NOTE, 7).unwrap();
    assert_eq!(note.body(), b"passed over");
    assert_eq!(note.section().flags, SectionFlags::OPTIONAL);
    assert_eq!(note.section().version, 1);
}
