//! What an index may say: each rule broken in turn, behind hashes that hold.

use coldframe_chunkfile::{IMAGE_BYTES_MAX, INDEX_LIMITS, Index};
use coldframe_envelope::{DecodeError, DecodeErrorKind as Error, SectionFlags};

use crate::forge::{Forge, field};
use crate::sample::{BLOCK, based_index, delta_index, empty_index, full_index};

fn open(forge: Forge) -> Result<(), DecodeError> {
    let file = forge.seal();
    Index::open(&file, INDEX_LIMITS)?.verify_rows(&file)
}

fn full() -> Forge {
    Forge::new(&full_index())
}

fn delta() -> Forge {
    Forge::new(&delta_index())
}

fn based() -> Forge {
    Forge::new(&based_index())
}

const ROW: usize = 48;

// Spec: CIDX-1
#[test]
fn an_index_is_of_no_architecture() {
    let mut forge = full();
    forge.header.page_size = Some(coldframe_units::PageSize::SIZE_4K);
    assert_eq!(field(open(forge)), "page_size_log2");
}

// Spec: CIDX-2
#[test]
fn sections_stand_in_their_order() {
    for (from, to) in [(0, 1), (1, 2), (2, 3)] {
        let mut forge = delta();
        forge.sections.swap(from, to);
        assert_eq!(field(open(forge)), "order of the sections");
    }
    for name in [b"ROWS", b"IMAG", b"PAGE"] {
        assert!(open(delta().without(name)).is_err());
    }
    let both = delta().add(3, b"BASE", SectionFlags::MUST_UNDERSTAND, &[0; 40]);
    assert_eq!(field(open(both)), "origin");
}

// Spec: CIDX-4
// Parity: D28, D28b, F28
#[test]
fn sizes_near_the_end_of_numbers_are_refused() {
    for size in [IMAGE_BYTES_MAX + 1, 1 << 63, u64::MAX - 1, u64::MAX] {
        let forge = full().put(b"IMAG", 0, &size.to_le_bytes());
        let error = open(forge).unwrap_err();
        assert!(
            matches!(error.kind, Error::LimitExceeded { .. }),
            "{size:#x}"
        );
        let forge = delta().put(b"PRNT", 32, &size.to_le_bytes());
        assert_eq!(field(open(forge)), "size of the origin");
    }
}

// Spec: CIDX-5
// Parity: D24b, F29
#[test]
fn rows_that_break_a_rule_are_refused_by_name() {
    let row = |at: usize, bytes: &[u8]| open(full().put(b"ROWS", at, bytes));
    assert_eq!(field(row(12, &[2])), "row kind");
    assert_eq!(field(row(8, &[2])), "count");
    assert_eq!(field(row(8, &[0])), "count");
    assert_eq!(field(row(2 * ROW + 8, &[0])), "count");
    assert_eq!(field(row(2 * ROW + 16, &[1])), "count");
    assert_eq!(row(13, &[1]).unwrap_err().kind, Error::ReservedNotZero);
    let odd = full().body(b"ROWS", &[0; 49]);
    assert_eq!(field(open(odd)), "length of the page table");
}

// Spec: CIDX-6
#[test]
fn rows_rise_inside_the_image() {
    let block =
        |row: usize, block: u64| open(delta().put(b"ROWS", row * ROW, &block.to_le_bytes()));
    assert_eq!(field(block(0, 8)), "block");
    assert_eq!(field(block(1, 7)), "block");
    assert_eq!(field(block(2, (1 << 20) + 2)), "block");
    assert_eq!(field(block(2, 1 << 24)), "block");
    assert_eq!(field(block(2, u64::MAX)), "block");
    // Zeros right behind zeros would be one row.
    let zeros = delta()
        .put(b"ROWS", 2 * ROW, &((1_u64 << 20) + 3).to_le_bytes())
        .put(b"ROWS", 2 * ROW + 12, &[1])
        .put(b"ROWS", 2 * ROW + 16, &[0; 32]);
    assert_eq!(field(open(zeros)), "block");
}

// Spec: CIDX-7
#[test]
fn the_page_table_agrees_with_the_rows() {
    let first = |block: u64| open(delta().put(b"PAGE", 0, &block.to_le_bytes()));
    assert_eq!(field(first(6)), "block");
    assert_eq!(field(first(1 << 24)), "first_block");
    assert_eq!(field(first(u64::MAX)), "first_block");
    let mut more = delta();
    let page = more.find(b"PAGE").1.clone();
    let more = more.body(b"PAGE", &[&page[..], &page[..]].concat());
    assert_eq!(field(open(more)), "length of the page table");
    assert_eq!(
        field(open(delta().body(b"PAGE", &[]))),
        "length of the page table"
    );
    let mut file = delta_index();
    file[160] ^= 1;
    let index = Index::open(&file, INDEX_LIMITS).unwrap();
    assert_eq!(index.verify_rows(&file).unwrap_err().kind, Error::BodyHash);
}

// Spec: CIDX-8
// Parity: D68
#[test]
fn a_block_that_nobody_has_is_refused() {
    let none = full().body(b"ROWS", &[]).body(b"PAGE", &[]);
    assert_eq!(field(open(none)), "first_block, one before it is missing");
    // Block 1 left out: the row of blocks 2 and 3 follows that of block 0.
    let mut hole = full();
    let mut rows = hole.find(b"ROWS").1.clone();
    rows.drain(ROW..2 * ROW);
    let hole = hole.body(b"ROWS", &rows);
    assert_eq!(field(open(hole)), "block, one before it is missing");
    let mut end = full();
    let mut rows = end.find(b"ROWS").1.clone();
    rows.truncate(3 * ROW);
    let end = end.body(b"ROWS", &rows);
    assert_eq!(field(open(end)), "block, one at the end is missing");
    let grown = full().put(b"IMAG", 0, &(6 * BLOCK).to_le_bytes());
    assert_eq!(field(open(grown)), "block, one at the end is missing");
    let lost = Forge::new(&empty_index()).put(b"IMAG", 0, &[1]);
    assert_eq!(field(open(lost)), "first_block, one before it is missing");
}

// Spec: CIDX-9
#[test]
fn a_block_that_the_origin_has_at_another_length_is_named() {
    // The base image ends at another place than the rows were made for.
    let shorter = based().put(b"BASE", 32, &5_u64.to_le_bytes());
    assert_eq!(
        field(open(shorter)),
        "first_block, one before it is missing"
    );
    let same = based().put(b"BASE", 32, &(3 * BLOCK).to_le_bytes());
    assert_eq!(open(same), Ok(()));
    let parent_grew = delta().put(b"PRNT", 32, &((1_u64 << 40) + 1).to_le_bytes());
    assert_eq!(open(parent_grew), Ok(()));
    let cut = delta().put(b"IMAG", 0, &((1_u64 << 40) - 1).to_le_bytes());
    assert_eq!(open(cut), Ok(()));
    let parent_shrank = delta().put(b"PRNT", 32, &((1_u64 << 40) - BLOCK - 1).to_le_bytes());
    assert_eq!(
        field(open(parent_shrank)),
        "block, one before it is missing"
    );
}

// Spec: CIDX-10
#[test]
fn a_base_image_longer_than_the_image_is_refused() {
    let longer = based().put(b"BASE", 32, &(3 * BLOCK + 1).to_le_bytes());
    assert_eq!(field(open(longer)), "size of the base image");
    let odd = based().body(b"BASE", &[0; 80]);
    assert_eq!(field(open(odd)), "section length");
}
