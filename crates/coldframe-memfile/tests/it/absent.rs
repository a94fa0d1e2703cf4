//! Parts of RAM that are not plugged in: what is taken, what is refused, by both sides.

use coldframe_envelope::{SectionFlags, Version};
use coldframe_memfile::{AbsentPart, BuildError, Kind};
use coldframe_units::{ByteLen, PageSize, RamOffset};

use crate::forge::Forge;
use crate::sample::{ABSENT, absent, full, full_absent};
use crate::support::{builder, layout, open};

const SIZE: PageSize = PageSize::SIZE_4K;

fn bytes(start: u64, len: u64) -> AbsentPart {
    AbsentPart {
        start: RamOffset::new(start),
        len: ByteLen::new(len),
    }
}

/// Parts that are in no file of 20 pages.
fn bad_parts() -> Vec<Vec<AbsentPart>> {
    vec![
        vec![absent(3, 0)],
        vec![bytes(4096, 100)],
        vec![bytes(100, 4096)],
        vec![absent(4, 2), absent(3, 1)],
        vec![absent(4, 2), absent(5, 1)],
        vec![absent(20, 1)],
        vec![absent(19, 2)],
        vec![bytes(u64::MAX - 4095, 4096)],
        vec![bytes(4096, u64::MAX - 4095)],
    ]
}

// Spec: MEM-27, MEM-24
#[test]
fn the_builder_refuses_parts_that_are_out_of_place() {
    for parts in bad_parts() {
        let new = builder(Kind::Diff, SIZE, &layout(SIZE, &[16, 4]));
        let refused = new.with_absent(parts.clone()).unwrap_err();
        let is_absent = matches!(refused, BuildError::Absent { .. });
        assert!(is_absent, "{parts:?}: {refused:?}");
    }
}

// Spec: MEM-27
#[test]
fn parts_that_touch_are_one() {
    let touching = [absent(4, 1), absent(5, 5), absent(17, 1)];
    let new = builder(Kind::Diff, SIZE, &layout(SIZE, &[16, 4]));
    let file = new.with_absent(touching).unwrap().finish([]).unwrap();
    assert_eq!(open(&file).absent(), ABSENT);
}

// Spec: MEM-27, MEM-21
#[test]
fn a_file_without_absent_parts_is_of_version_1_0() {
    let new = builder(Kind::Diff, SIZE, &layout(SIZE, &[16, 4]));
    let file = new.with_absent([]).unwrap().finish([]).unwrap();
    let view = open(&file);
    assert_eq!(view.header().version, Version { major: 1, minor: 0 });
    assert_eq!(view.absent(), []);
}

fn check_refused(edit: impl FnOnce(&mut Forge)) {
    let mut forge = Forge::new(&full_absent().0);
    edit(&mut forge);
    let field = forge.open(|_| Ok(())).unwrap_err().to_string();
    let fields = [
        "absent parts",
        "must be understood",
        "section length",
        "order",
    ];
    assert!(fields.iter().any(|one| field.contains(one)), "{field}");
}

// Spec: MEM-27
#[test]
fn a_reader_refuses_parts_that_are_out_of_place() {
    for parts in bad_parts() {
        let rows = parts.iter().flat_map(|part| {
            let (start, len) = (part.start.get(), part.len.get());
            [start.to_le_bytes(), len.to_le_bytes()].concat()
        });
        let rows: Vec<u8> = rows.collect();
        check_refused(|forge| *forge.body(b"ABSN") = rows);
    }
    let touching = [4_u64, 1, 5, 5].map(|pages| (pages * 4096).to_le_bytes());
    check_refused(|forge| *forge.body(b"ABSN") = touching.concat());
    check_refused(|forge| forge.body(b"ABSN").clear());
    check_refused(|forge| forge.body(b"ABSN").truncate(20));
    check_refused(|forge| forge.find(b"ABSN").0.flags = SectionFlags::MUST_UNDERSTAND);
    check_refused(|forge| {
        let absent = forge.sections.pop().unwrap();
        forge.sections.insert(2, absent);
    });
}

// Spec: MEM-27, MEM-23
#[test]
fn another_version_of_the_section_is_passed_over() {
    let mut forge = Forge::new(&full_absent().0);
    forge.find(b"ABSN").0.version = 2;
    let parts = forge.open(|view| {
        assert_eq!(view.unknown_sections().count(), 1);
        Ok(view.absent().to_vec())
    });
    assert_eq!(parts, Ok(vec![]));
    assert_eq!(open(&full().0).absent(), []);
}
