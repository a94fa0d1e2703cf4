//! Blocks that are made of parts: each rule broken in turn, and what the builder refuses.

use coldframe_chunkfile::{
    BuildError, Entry, INDEX_LIMITS, Index, IndexBuilder, IndexOrigin, PartSource,
};
use coldframe_envelope::{
    DecodeError, DecodeErrorKind as Error, SectionFlags, SectionKind, Version,
};
use coldframe_units::RootHash;

use crate::forge::{Forge, field};
use crate::sample::{BLOCK, numbered, parts_index, producer, size};

const ROW: usize = 48;

fn open(forge: Forge) -> Result<(), DecodeError> {
    let file = forge.seal();
    Index::open(&file, INDEX_LIMITS)?.verify_rows(&file)
}

fn with(row: usize, at: usize, bytes: &[u8]) -> Result<(), DecodeError> {
    open(Forge::new(&parts_index()).put(b"PART", row * ROW + at, bytes))
}

fn chunk(number: u8, len: u32) -> PartSource {
    let id = numbered(number);
    PartSource::Chunk { id, len }
}

// Spec: CIDX-16
#[test]
fn parts_that_break_a_rule_are_refused_by_name() {
    // A page in two parts, one in none, a part of nothing.
    assert_eq!(field(with(1, 8, &[3])), "pages");
    assert_eq!(field(with(1, 8, &[0])), "pages");
    assert_eq!(field(with(2, 8, &[0xf8])), "pages");
    assert_eq!(field(with(0, 10, &[4])), "part kind");
    assert_eq!(with(0, 11, &[1]).unwrap_err().kind, Error::ReservedNotZero);
    for len in [0, 65_537_u32, u32::MAX] {
        assert_eq!(field(with(0, 12, &len.to_le_bytes())), "len");
    }
    assert_eq!(field(with(1, 12, &[1])), "len");
    assert_eq!(field(with(1, 16, &[1])), "len");
    assert_eq!(field(with(4, 16, &[1])), "len");
    // The block that is cut has three pages, and the parent has no more than a whole block.
    assert_eq!(field(with(6, 8, &[7])), "pages");
    assert_eq!(with(6, 12, &65_536_u32.to_le_bytes()), Ok(()));
    // Blocks rise.
    assert_eq!(field(with(3, 0, &[0])), "pages");
    assert_eq!(field(with(6, 0, &[1])), "block");
    assert_eq!(
        field(open(Forge::new(&parts_index()).body(b"PART", &[]))),
        "length of the parts"
    );
}

// Spec: CIDX-18
#[test]
fn a_reader_that_does_not_know_of_parts_must_not_pass_them_over() {
    let forge = Forge::new(&parts_index());
    let section = |forge: Forge, flags| forge.row(b"PART", |row| row.flags = flags);
    let error = open(section(forge, SectionFlags::OPTIONAL));
    assert_eq!(field(error), "section flags");
    let forge = Forge::new(&parts_index());
    assert_eq!(forge.header.version, Version { major: 1, minor: 1 });
    let unknown = forge.row(b"PART", |row| row.kind = SectionKind::new(*b"LATR"));
    let error = open(unknown).unwrap_err();
    assert!(
        matches!(error.kind, Error::UnknownSection { .. }),
        "{error:?}"
    );
}

// Spec: CIDX-16
#[test]
fn a_block_is_of_parts_or_has_a_row_and_one_that_cannot_be_inherited_has_either() {
    let row = |block: u8| open(Forge::new(&parts_index()).put(b"ROWS", 0, &[block]));
    // The page table is held against the rows first.
    let moved = |block: u8| {
        let forge = Forge::new(&parts_index()).put(b"ROWS", 0, &[block]);
        open(forge.put(b"PAGE", 0, &[block]))
    };
    assert_eq!(field(row(2)), "block");
    assert_eq!(field(moved(2)), "block, which is made of parts");
    let mut lost = Forge::new(&parts_index());
    let rows = lost.find(b"PART").1.clone();
    let lost = lost.body(b"PART", &rows[..6 * ROW]);
    assert_eq!(field(open(lost)), "block, one at the end is missing");
}

// Spec: CIDX-16
#[test]
fn an_index_without_an_origin_has_no_part_of_one() {
    let mut builder = IndexBuilder::new(size(BLOCK), IndexOrigin::None, producer()).unwrap();
    let (block, field) = (0, "len");
    let below = [(u16::MAX, PartSource::Origin { len: 1 })];
    let refused = builder.push_parts(0, &below);
    assert_eq!(refused, Err(BuildError::Parts { block, field }));
    let some = builder.push_parts(0, &[(1, chunk(1, 1))]);
    let field = "pages";
    assert_eq!(some, Err(BuildError::Parts { block, field }));
    builder
        .push_parts(0, &[(1, chunk(1, 1)), (0xfffe, PartSource::Zero)])
        .unwrap();
    let again = builder.push_parts(0, &[(u16::MAX, PartSource::Zero)]);
    assert!(matches!(again, Err(BuildError::OutOfOrder { .. })));
    let file = builder.finish().unwrap().into_file();
    let index = Index::open(&file, INDEX_LIMITS).unwrap();
    assert_eq!(index.read(&file, 0), Ok(Entry::Parts));
    assert_eq!(index.page_count(), 0);
}

// Spec: CIDX-13, CIDX-16
#[test]
fn parts_stand_between_rows_of_any_number_of_pages() {
    let blocks = 4000;
    let (root, parent) = (RootHash::from_bytes([1; 32]), size(BLOCK));
    for origin in [
        IndexOrigin::None,
        IndexOrigin::Parent { root, size: parent },
    ] {
        let mut builder = IndexBuilder::new(size(blocks * BLOCK), origin, producer()).unwrap();
        for block in 0..blocks {
            if block % 3 == 0 || block > 3900 {
                builder
                    .push_parts(block, &[(u16::MAX, chunk(2, 9))])
                    .unwrap();
            } else if block % 7 == 0 {
                builder.push_zeros(block, 1).unwrap();
            } else {
                builder.push_chunk(block, numbered(3)).unwrap();
            }
        }
        let file = builder.finish().unwrap().into_file();
        let index = Index::open(&file, INDEX_LIMITS).unwrap();
        assert!(index.page_count() > 1);
        assert_eq!(crate::reencode_index::rebuild(&index, &file).unwrap(), file);
        for block in [0, 1, 7, 2999, 3000, 3001, 3901, blocks - 1] {
            let expected = match block {
                _ if block % 3 == 0 || block > 3900 => Entry::Parts,
                _ if block % 7 == 0 => Entry::Zero,
                _ => Entry::Chunk(numbered(3)),
            };
            assert_eq!(index.read(&file, block), Ok(expected), "block {block}");
        }
    }
}
