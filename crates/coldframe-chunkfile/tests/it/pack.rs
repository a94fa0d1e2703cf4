//! What a pack's table may say, and what its builder refuses.

use coldframe_chunkfile::{
    BuildError, CHUNK_BYTES_MAX, CHUNK_COUNT_MAX, Compression, PACK_LIMITS, Pack, PackBuilder,
};
use coldframe_envelope::{DecodeError, DecodeErrorKind as Error, Limits, SectionFlags};
use coldframe_testkit::alloc::assert_alloc_bounded;
use coldframe_units::{ChunkId, FileOffset};

use crate::forge::{Forge, field};
use crate::sample::{golden_pack, id, numbered, pack_of, producer};

fn open(forge: Forge) -> Result<Pack, DecodeError> {
    Pack::open(&forge.seal(), PACK_LIMITS)
}

fn forge() -> Forge {
    Forge::new(&golden_pack())
}

// Spec: PACK-3
#[test]
fn the_table_is_read_without_the_chunks() {
    let file = golden_pack();
    let slice = |(at, len): (FileOffset, coldframe_units::ByteLen)| {
        let start = usize::try_from(at.get()).unwrap();
        &file[start..start + usize::try_from(len.get()).unwrap()]
    };
    let header = &file[..160];
    let table = slice(Pack::table_range(header, PACK_LIMITS).unwrap());
    let (at, len) = Pack::tail_range(header, table, PACK_LIMITS).unwrap();
    assert_eq!(at.get(), 187);
    let pack = Pack::from_parts(header, slice((at, len)), at, PACK_LIMITS).unwrap();
    assert_eq!(pack, Pack::open(&file, PACK_LIMITS).unwrap());
    assert_eq!(pack.find(id(b"frozen")).unwrap().stored_len, 6);
    assert_eq!(pack.find(numbered(9)), None);
}

// Spec: PACK-10
// Parity: D28
#[test]
fn tables_over_the_limit_are_refused_before_they_are_read() {
    let file = golden_pack();
    let (at, len) = Pack::table_range(&file, PACK_LIMITS).unwrap();
    let start = usize::try_from(at.get()).unwrap();
    let table = &file[start..start + usize::try_from(len.get()).unwrap()];
    let small = Limits {
        section_bytes_max: 100,
        ..PACK_LIMITS
    };
    let error = Pack::tail_range(&file, table, small).unwrap_err();
    assert!(matches!(
        error.kind,
        Error::LimitExceeded { limit: 100, .. }
    ));
    let mut huge = forge();
    huge.header.arch = None;
    let short = Limits {
        file_bytes_max: 100,
        ..PACK_LIMITS
    };
    let error = Pack::open(&huge.seal(), short).unwrap_err();
    assert!(matches!(
        error.kind,
        Error::LimitExceeded {
            what: "file_len",
            ..
        }
    ));
}

// Spec: PACK-1
#[test]
fn a_pack_is_of_no_architecture() {
    let mut forge = forge();
    forge.header.arch = Some(coldframe_units::Arch::X86_64);
    assert_eq!(field(open(forge)), "arch");
}

// Spec: PACK-2
#[test]
fn sections_stand_in_their_order_and_places() {
    let mut swapped = forge();
    swapped.sections.swap(0, 1);
    assert_eq!(field(open(swapped)), "order of the sections");
    let missing = open(forge().without(b"CHNK")).unwrap_err();
    assert!(matches!(missing.kind, Error::MissingSection { .. }));
    let first = forge().add(0, b"xtra", SectionFlags::OPTIONAL, b"");
    assert_eq!(field(open(first)), "order of the sections");
    let flags = forge().row(b"CHNK", |row| row.flags = SectionFlags::OPTIONAL);
    assert_eq!(field(open(flags)), "section flags");
    let version = forge().row(b"CHNK", |row| row.version = 0);
    assert_eq!(field(open(version)), "section version");
    let mut gap = forge();
    gap.gap = vec![0; 8];
    assert_eq!(field(open(gap)), "section offset");
    let mut file = golden_pack();
    file[187] = 1;
    let error = Pack::open(&file, PACK_LIMITS).unwrap_err();
    assert_eq!(error, DecodeError::new(Error::ReservedNotZero, 187));
}

const ROW: usize = 56;

// Spec: PACK-4, PACK-5, PACK-6, PACK-7
// Parity: F72
#[test]
fn rows_that_break_a_rule_are_refused_by_name() {
    let chunk = |at: usize, bytes: &[u8]| open(forge().put(b"CHNK", at, bytes));
    assert_eq!(field(chunk(0, &[0xff; 32])), "order of the chunks");
    assert_eq!(field(chunk(32, &[0xa1])), "chunk offset");
    assert_eq!(field(chunk(48, &[9])), "compression");
    assert_eq!(chunk(49, &[1]).unwrap_err().kind, Error::ReservedNotZero);
    // Each row in turn: nothing stored, nothing in it, more than a chunk may have.
    for row in [0, ROW, 2 * ROW] {
        assert_eq!(field(chunk(row + 40, &[0; 4])), "chunk length");
        assert_eq!(field(chunk(row + 44, &[0; 4])), "chunk length");
        assert_eq!(field(chunk(row + 44, &[0, 0, 0x30, 0])), "chunk length");
    }
    let mut twice = forge();
    let rows = twice.find(b"CHNK").1.clone();
    let twice = twice.body(b"CHNK", &[&rows[..ROW], &rows[..]].concat());
    assert_eq!(field(open(twice)), "order of the chunks");
    let fewer = forge().body(b"CHNK", &[]);
    assert_eq!(field(open(fewer)), "length of the body section");
    let odd = forge().body(b"CHNK", &[0; 57]);
    assert_eq!(field(open(odd)), "section length");
}

// Spec: PACK-5
// Parity: D74
#[test]
fn chunks_that_overlap_or_leave_the_pack_are_refused() {
    for offset in [0_u64, 159, 161, 187, u64::MAX] {
        let forge = forge().put(b"CHNK", 32, &offset.to_le_bytes());
        assert_eq!(field(open(forge)), "chunk offset");
    }
    let longer = forge().body(b"BODY", &[0; 28]);
    assert_eq!(field(open(longer)), "length of the body section");
}

// Spec: PACK-10
// Parity: D28
#[test]
#[cfg_attr(miri, ignore = "too slow under Miri")]
fn a_count_over_the_limit_is_refused_before_rows_are_kept() {
    let count = usize::try_from(CHUNK_COUNT_MAX).unwrap() + 1;
    let file = forge().body(b"CHNK", &vec![0; count * ROW]).seal();
    let opened = assert_alloc_bounded(4096, || Pack::open(&file, PACK_LIMITS));
    let found = u64::from(CHUNK_COUNT_MAX) + 1;
    let limit = u64::from(CHUNK_COUNT_MAX);
    let what = "chunk count";
    assert_eq!(
        opened.unwrap_err().kind,
        Error::LimitExceeded { what, limit, found }
    );
}

// Spec: PACK-11
#[test]
fn the_builder_refuses_what_a_reader_would() {
    use Compression::{Lz4, None, Zstd};
    let mut builder = PackBuilder::new(producer());
    let (one, two) = (numbered(1), numbered(2));
    builder.push(one, None, 5, 5).unwrap();
    assert!(builder.contains(one) && !builder.contains(two));
    assert_eq!(
        builder.push(one, None, 5, 5),
        Err(BuildError::DuplicateChunk { id: one })
    );
    let max = CHUNK_BYTES_MAX;
    for (compression, raw_len, stored_len) in [
        (None, 0, 0),
        (None, 5, 4),
        (None, max + 1, max + 1),
        (Lz4, 5, 5),
        (Zstd, 5, 6),
        (Lz4, 5, 0),
    ] {
        let refused = BuildError::ChunkLen {
            id: two,
            raw_len,
            stored_len,
        };
        assert_eq!(
            builder.push(two, compression, raw_len, stored_len),
            Err(refused)
        );
    }
    assert_eq!(
        (builder.len(), builder.is_empty(), builder.end().get()),
        (1, false, 165)
    );
}

// Spec: PACK-11
#[test]
#[cfg_attr(miri, ignore = "too slow under Miri")]
fn the_builder_refuses_one_chunk_too_many() {
    let mut builder = PackBuilder::new(producer());
    let numbered = |number: u32| {
        let mut id = [0; 32];
        id[..4].copy_from_slice(&number.to_le_bytes());
        ChunkId::from_bytes(id)
    };
    for number in 0..CHUNK_COUNT_MAX {
        builder
            .push(numbered(number), Compression::None, 1, 1)
            .unwrap();
    }
    let refused = builder.push(numbered(CHUNK_COUNT_MAX), Compression::None, 1, 1);
    assert!(matches!(refused, Err(BuildError::LimitExceeded { .. })));
    let full = builder.finish().unwrap();
    assert!((full.tail.len() as u64) < PACK_LIMITS.section_bytes_max);
}

// Spec: PACK-8
#[test]
fn the_order_of_pushing_is_the_order_in_the_file() {
    let chunk = |number| (numbered(number), Compression::None, 1, vec![number]);
    let file = pack_of(&[chunk(3), chunk(1), chunk(2)]);
    let pack = Pack::open(&file, PACK_LIMITS).unwrap();
    let ids: Vec<_> = pack.chunks().iter().map(|chunk| chunk.id).collect();
    assert_eq!(ids, [numbered(1), numbered(2), numbered(3)]);
    let order: Vec<_> = pack.in_file_order().iter().map(|chunk| chunk.id).collect();
    assert_eq!(order, [numbered(3), numbered(1), numbered(2)]);
}
