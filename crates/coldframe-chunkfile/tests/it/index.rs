//! Building indexes and reading them page by page.

use coldframe_chunkfile::{
    BaseId, BuildError, Entry, IMAGE_BYTES_MAX, INDEX_LIMITS, Index, IndexBuilder, IndexOrigin,
};
use coldframe_envelope::DecodeErrorKind as Error;
use coldframe_testkit::alloc::assert_alloc_bounded;
use coldframe_units::{ByteLen, ChunkId, FileOffset, RootHash};

use crate::sample::{BLOCK, delta_index, full_index, numbered, producer, size};

fn builder(bytes: u64, origin: IndexOrigin) -> IndexBuilder {
    IndexBuilder::new(size(bytes), origin, producer()).unwrap()
}

fn parent(bytes: u64) -> IndexOrigin {
    let root = RootHash::from_bytes([1; 32]);
    let size = size(bytes);
    IndexOrigin::Parent { root, size }
}

fn chunk(number: u64) -> ChunkId {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&number.to_le_bytes());
    ChunkId::from_bytes(id)
}

// Spec: CIDX-3, CIDX-7
// Parity: F70
#[test]
#[cfg_attr(miri, ignore = "too slow under Miri")]
fn one_block_is_found_by_one_page_of_many() {
    let blocks = 5000;
    let mut builder = builder(blocks * BLOCK, IndexOrigin::None);
    let mut rows = Vec::new();
    for block in 0..blocks {
        builder.push_chunk(block, chunk(block)).unwrap();
        let (at, bytes) = builder.take_rows();
        assert_eq!(at.get(), 160 + rows.len() as u64);
        rows.extend_from_slice(&bytes);
    }
    let end = builder.finish().unwrap();
    let file = [&end.header[..], &rows, &end.rest].concat();
    assert_eq!(end.file_len.get(), file.len() as u64);
    let slice = |(at, len): (FileOffset, ByteLen)| {
        let start = usize::try_from(at.get()).unwrap();
        &file[start..start + usize::try_from(len.get()).unwrap()]
    };
    let header = &file[..160];
    let table = slice(Index::table_range(header, INDEX_LIMITS).unwrap());
    let (at, len) = Index::tail_range(header, table, INDEX_LIMITS).unwrap();
    let tail = slice((at, len));
    // All but the rows is read to open: less than 600 bytes of 240,000.
    assert!(tail.len() < 600);
    let opened = assert_alloc_bounded(2048, || {
        Index::from_parts(header, tail, at, INDEX_LIMITS).unwrap()
    });
    assert_eq!((opened.root(), opened.page_count()), (end.root, 5));
    for block in [0, 1023, 1024, 4095, 4096, 4999] {
        let page = opened.page_of(block).unwrap();
        let rows = opened
            .decode_page(&page, slice((page.offset, page.len)))
            .unwrap();
        assert_eq!(rows.find(block), Entry::Chunk(chunk(block)));
    }
    assert_eq!(opened.page_of(5000), None);
    opened.verify_rows(&file).unwrap();
}

// Spec: CIDX-11
// Parity: F70
#[test]
fn damage_in_one_page_leaves_the_others_readable() {
    let mut builder = builder(3000 * BLOCK, IndexOrigin::None);
    for block in 0..3000 {
        builder.push_chunk(block, chunk(block)).unwrap();
    }
    let mut file = builder.finish().unwrap().into_file();
    file[160 + 1500 * 48] ^= 1;
    let index = Index::open(&file, INDEX_LIMITS).unwrap();
    assert_eq!(index.read(&file, 1023), Ok(Entry::Chunk(chunk(1023))));
    assert_eq!(index.read(&file, 2048), Ok(Entry::Chunk(chunk(2048))));
    let error = index.read(&file, 1024).unwrap_err();
    assert_eq!(
        (error.kind, error.offset),
        (Error::BodyHash, 160 + 1024 * 48)
    );
}

// Spec: CIDX-4, CIDX-12
#[test]
fn the_last_block_may_be_short() {
    let file = full_index();
    let index = Index::open(&file, INDEX_LIMITS).unwrap();
    let len = |block| index.block_len(block).map(ByteLen::get);
    assert_eq!(
        (len(0), len(3), len(4), len(5)),
        (Some(BLOCK), Some(BLOCK), Some(100), None)
    );
    assert_eq!((index.block_count(), len(u64::MAX)), (5, None));
    assert!(index.read(&file, 5).is_err());
    assert_eq!(index.page_of(5), None);
}

#[test]
fn a_sparse_delta_is_as_long_as_what_changed() {
    let mut builder = builder(1 << 40, parent(1 << 40));
    for number in 0..100 {
        builder.push_chunk(number * 160_000, chunk(number)).unwrap();
    }
    let file = builder.finish().unwrap().into_file();
    assert!(file.len() < 8 << 10, "{} bytes", file.len());
    assert_eq!(file.len(), delta_index().len() + 97 * 48);
}

// Spec: CIDX-6
// Parity: D37, F71
#[test]
fn neighbouring_zeros_are_one_row_up_to_the_largest() {
    let blocks = 3 * u64::from(u32::MAX);
    let mut builder = builder(blocks * BLOCK, IndexOrigin::None);
    builder.push_zeros(0, 5).unwrap();
    builder.push_zeros(5, blocks - 6).unwrap();
    builder.push_zeros(blocks - 1, 1).unwrap();
    let file = builder.finish().unwrap().into_file();
    let index = Index::open(&file, INDEX_LIMITS).unwrap();
    index.verify_rows(&file).unwrap();
    let page = index.page(0).unwrap();
    assert_eq!(page.len.get(), 3 * 48);
    assert_eq!(index.read(&file, blocks - 1), Ok(Entry::Zero));
}

// Parity: F71, M9
#[test]
#[cfg_attr(miri, ignore = "too slow under Miri")]
fn an_empty_image_of_any_size_is_a_few_rows() {
    for bytes in [0, 1, BLOCK, BLOCK + 1, 1 << 50, IMAGE_BYTES_MAX] {
        let mut builder = builder(bytes, IndexOrigin::None);
        let blocks = bytes.div_ceil(BLOCK);
        if blocks > 0 {
            builder.push_zeros(0, blocks).unwrap();
        }
        assert_eq!(builder.next_block(), blocks);
        let file = builder.finish().unwrap().into_file();
        let index = Index::open(&file, INDEX_LIMITS).unwrap();
        index.verify_rows(&file).unwrap();
        assert_eq!(index.block_count(), blocks);
    }
}

// Spec: CIDX-15
#[test]
fn the_builder_refuses_what_a_reader_would() {
    let id = numbered(1);
    let mut full = builder(4 * BLOCK, IndexOrigin::None);
    assert_eq!(
        full.push_chunk(1, id),
        Err(BuildError::Missing { block: 0 })
    );
    assert_eq!(full.push_zeros(0, 0), Err(BuildError::Empty { block: 0 }));
    full.push_zeros(0, 2).unwrap();
    let behind = BuildError::OutOfOrder { block: 1, next: 2 };
    assert_eq!(full.push_chunk(1, id), Err(behind));
    assert_eq!(
        full.push_zeros(2, 3),
        Err(BuildError::PastEnd { end: 5, blocks: 4 })
    );
    let (end, blocks) = (u64::MAX, 4);
    let past = Err(BuildError::PastEnd { end, blocks });
    assert_eq!(full.push_zeros(2, u64::MAX), past);
    assert_eq!(full.finish(), Err(BuildError::Missing { block: 2 }));
    let too_large = IndexBuilder::new(size(u64::MAX), IndexOrigin::None, producer());
    assert!(matches!(too_large, Err(BuildError::LimitExceeded { .. })));
    let too_large = IndexBuilder::new(size(1), parent(u64::MAX), producer());
    assert!(matches!(too_large, Err(BuildError::LimitExceeded { .. })));
    let id = BaseId::from_bytes([0; 32]);
    let origin = IndexOrigin::Base { id, size: size(11) };
    let refused = IndexBuilder::new(size(10), origin, producer()).unwrap_err();
    assert_eq!(refused, BuildError::BaseTooLong { base: 11, size: 10 });
}

// Spec: CIDX-9
#[test]
fn a_grown_image_names_what_its_parent_lacks() {
    let mut grown = builder(4 * BLOCK, parent(BLOCK + 1));
    assert_eq!(
        grown.push_chunk(2, numbered(1)),
        Err(BuildError::Missing { block: 1 })
    );
    grown.push_chunk(1, numbered(1)).unwrap();
    grown.push_zeros(2, 2).unwrap();
    let file = grown.finish().unwrap().into_file();
    let index = Index::open(&file, INDEX_LIMITS).unwrap();
    assert_eq!(index.read(&file, 0), Ok(Entry::Inherit));
    let shrunk = builder(BLOCK + 1, parent(4 * BLOCK));
    assert_eq!(shrunk.finish(), Err(BuildError::Missing { block: 1 }));
    let aligned = builder(2 * BLOCK, parent(4 * BLOCK))
        .finish()
        .unwrap()
        .into_file();
    let index = Index::open(&aligned, INDEX_LIMITS).unwrap();
    assert_eq!(index.read(&aligned, 1), Ok(Entry::Inherit));
}
