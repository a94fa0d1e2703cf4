//! Rows of the table, one rule each.

use coldframe_envelope::{
    Container, ContainerBuilder, DecodeErrorKind as Kind, EncodeError, Limits, SectionFlags,
};
use coldframe_testkit::alloc::assert_alloc_bounded;

use crate::sample::{DATA, FORMAT, minimal, producer, resealed, row, sections};

fn kind_of(file: &[u8]) -> Kind {
    let decoded = Container::decode(file, FORMAT, Limits::SMALL_FILE);
    decoded.unwrap_err().kind
}

const RANGE: Kind = Kind::Invalid {
    field: "section range",
};

// Spec: ENV-6
// Parity: F2
#[test]
fn length_of_the_file_is_exact() {
    let (mut file, _) = sections();
    file.push(0);
    let (expected, found) = (376, 377);
    assert_eq!(kind_of(&file), Kind::TrailingBytes { expected, found });
    file.truncate(375);
    let (need, have) = (376, 375);
    assert_eq!(kind_of(&file), Kind::Truncated { need, have });
}

// Spec: ENV-7
#[test]
fn table_lies_behind_the_header_and_inside_the_file() {
    for offset in [0, 159, 377, u64::MAX] {
        let file = resealed(&sections().0, &[(32, &offset.to_le_bytes())]);
        let field = "table_offset";
        assert_eq!(kind_of(&file), Kind::Invalid { field });
    }
}

// Spec: ENV-9
#[test]
fn damaged_table_is_found_by_its_hash() {
    let (mut file, _) = sections();
    let at = row(&file, 1);
    file[at + 8] ^= 2;
    assert_eq!(kind_of(&file), Kind::BodyHash);
}

// Spec: ENV-12
#[test]
fn rows_neither_overlap_nor_leave_the_file() {
    let (file, _) = sections();
    let (first, last) = (row(&file, 0), row(&file, 2));
    for offset in [0, 159, 162, 370, 376, u64::MAX] {
        let file = resealed(&file, &[(last + 16, &u64::to_le_bytes(offset))]);
        assert_eq!(kind_of(&file), RANGE, "{offset}");
    }
    for len in [25, 1000, u64::MAX] {
        let file = resealed(&file, &[(last + 24, &len.to_le_bytes())]);
        assert_eq!(kind_of(&file), RANGE, "{len}");
    }
    let swapped = [&file[last..last + 64], &file[first..first + 64]].concat();
    let file = resealed(&file, &[(first, &swapped[..64]), (last, &swapped[64..])]);
    assert_eq!(kind_of(&file), RANGE);
}

// Spec: ENV-13
#[test]
fn no_kind_and_instance_stands_twice() {
    let (file, _) = sections();
    let (kind, instance) = (DATA, 0);
    let changed = resealed(&file, &[(row(&file, 1) + 4, &[0])]);
    assert_eq!(kind_of(&changed), Kind::DuplicateSection { kind, instance });
    let mut builder = ContainerBuilder::new(FORMAT, producer());
    builder.optional(DATA, 0, 1, Vec::new());
    builder.optional(DATA, 0, 1, Vec::new());
    let twice = EncodeError::DuplicateSection { kind, instance };
    assert_eq!(builder.finish().unwrap_err(), twice);
}

// Spec: ENV-14, ENV-15
#[test]
fn undefined_section_flags_are_refused() {
    let (file, _) = sections();
    let field = "section flags";
    for flags in [2, 4, 5, 0x100, 0xffff_u16] {
        let file = resealed(&file, &[(row(&file, 0) + 10, &flags.to_le_bytes())]);
        assert_eq!(kind_of(&file), Kind::Invalid { field });
    }
    let hashed = (row(&file, 0) + 10, &[3, 0][..]);
    let stray = resealed(&file, &[hashed]);
    assert_eq!(kind_of(&stray), Kind::ReservedNotZero);
    let clean = resealed(&file, &[hashed, (row(&file, 0) + 32, &[0; 32])]);
    assert_eq!(kind_of(&clean), Kind::Invalid { field });
    let container = Container::peek(&clean, Limits::SMALL_FILE).unwrap();
    let flags = container.table().sections()[0].flags;
    assert_eq!(flags, SectionFlags::HASHED_BY_FORMAT);
}

// Spec: ENV-15
#[test]
fn damaged_body_is_found_by_its_hash() {
    let (mut file, _) = sections();
    file[161] ^= 1;
    let decoded = Container::decode(&file, FORMAT, Limits::SMALL_FILE);
    let error = decoded.unwrap_err();
    assert_eq!((error.kind, error.offset), (Kind::BodyHash, 160));
    assert!(error.is_corrupt());
}

// Spec: CONV-2
#[test]
fn padding_and_reserved_bytes_of_rows_are_zero() {
    let (file, _) = sections();
    let mut padded = file.clone();
    padded[166] = 1;
    let decoded = Container::decode(&padded, FORMAT, Limits::SMALL_FILE);
    let error = decoded.unwrap_err();
    assert_eq!((error.kind, error.offset), (Kind::ReservedNotZero, 166));
    let reserved = resealed(&file, &[(row(&file, 2) + 15, &[1])]);
    assert_eq!(kind_of(&reserved), Kind::ReservedNotZero);
}

// Spec: ENV-16, CONV-6
// Parity: F5
#[test]
fn huge_counts_are_refused_before_anything_is_allocated() {
    let (file, _) = minimal();
    let count = resealed(&file, &[(40, &u32::MAX.to_le_bytes())]);
    let len = resealed(&file, &[(24, &u64::MAX.to_le_bytes())]);
    for (file, what) in [(count, "section_count"), (len, "file_len")] {
        let kind = assert_alloc_bounded(0, || kind_of(&file));
        let Kind::LimitExceeded { what: found, .. } = kind else {
            panic!("{kind:?}");
        };
        assert_eq!(found, what);
    }
}

// Spec: ENV-17
#[test]
fn table_may_stand_before_the_sections() {
    let (file, _) = sections();
    let mut moved = file[..160].to_vec();
    moved.extend_from_slice(&file[184..376]);
    moved.extend_from_slice(&file[160..184]);
    let mut changes = vec![(32, 160_u64.to_le_bytes())];
    for index in 0..3 {
        let at = 160 + index * 64 + 16;
        let offset = u64::from_le_bytes(moved[at..at + 8].try_into().unwrap());
        changes.push((at, (offset + 192).to_le_bytes()));
    }
    let changes: Vec<(usize, &[u8])> = changes.iter().map(|(at, b)| (*at, &b[..])).collect();
    let moved = resealed(&moved, &changes);
    let container = Container::decode(&moved, FORMAT, Limits::SMALL_FILE);
    assert_eq!(
        container.unwrap().require(DATA, 0).unwrap().body(),
        b"hello"
    );
}
