//! What the builder refuses, and where it says that pages go.

use coldframe_memfile::{BuildError, Kind, MemFileBuilder};
use coldframe_units::{
    Arch, ByteLen, FileOffset, GuestAddr, GuestRegion, PageIndex, PageSize, RamLayout,
};

use crate::support::{builder, layout, producer, run};

const SIZE: PageSize = PageSize::SIZE_4K;

fn new(page_size: PageSize, ram: &RamLayout) -> Result<MemFileBuilder, BuildError> {
    MemFileBuilder::full(Arch::X86_64, page_size, ram, producer())
}

// Spec: MEM-24
#[test]
fn page_size_and_regions_are_held_to_the_format() {
    let huge = PageSize::SIZE_1G;
    let ram = layout(huge, &[1]);
    let max = PageSize::SIZE_2M;
    let page_size = huge;
    let refused = BuildError::PageSize { page_size, max };
    assert_eq!(new(huge, &ram).unwrap_err(), refused);
    let odd = GuestRegion::new(GuestAddr::new(0), ByteLen::new(0x1800)).unwrap();
    let odd = RamLayout::new(vec![odd]).unwrap();
    let refused = new(SIZE, &odd).unwrap_err();
    assert!(matches!(refused, BuildError::Layout { .. }));
    let vast = RamLayout::contiguous(ByteLen::new(65 << 40)).unwrap();
    let refused = new(SIZE, &vast).unwrap_err();
    assert!(matches!(refused, BuildError::LimitExceeded { .. }));
}

// Spec: MEM-24
#[test]
fn a_full_file_that_would_be_too_long_is_refused_at_once() {
    let ram = RamLayout::contiguous(ByteLen::new(64 << 40)).unwrap();
    let refused = new(SIZE, &ram).unwrap_err();
    assert!(matches!(refused, BuildError::LimitExceeded { .. }));
    builder(Kind::Diff, SIZE, &ram);
}

// Spec: MEM-24
#[test]
fn a_refused_run_leaves_the_builder_as_it_was() {
    let ram = layout(SIZE, &[32]);
    let mut full = builder(Kind::Full, SIZE, &ram);
    let mut diff = builder(Kind::Diff, SIZE, &ram);
    for builder in [&mut full, &mut diff] {
        builder.push_data(run(0, 4)).unwrap();
        let (start, next) = (PageIndex::new(3), PageIndex::new(4));
        let refused = Err(BuildError::OutOfOrder { start, next });
        assert_eq!(builder.push_zero(run(3, 4)), refused);
        let (end, pages) = (PageIndex::new(33), 32);
        let refused = Err(BuildError::PastEnd { end, pages });
        assert_eq!(builder.push_data(run(4, 29)), refused);
        assert_eq!(builder.extents().len(), 1);
    }
    let page = PageIndex::new(4);
    let missing = BuildError::Missing { page };
    assert_eq!(full.push_zero(run(5, 1)), Err(missing));
    assert_eq!(full.finish([[0; 32]]), Err(missing));
    diff.push_zero(run(5, 1)).unwrap();
}

// Spec: MEM-24
#[test]
fn hashes_are_counted() {
    let ram = layout(SIZE, &[32]);
    let mut builder = builder(Kind::Diff, SIZE, &ram);
    builder.push_data(run(10, 10)).unwrap();
    for count in [0, 1, 3, 9] {
        let (expected, found) = (2, count.min(3));
        let finished = builder.clone().finish((0..count).map(|_| [0; 32]));
        assert_eq!(finished, Err(BuildError::HashCount { expected, found }));
    }
    let plans: Vec<_> = builder.blocks_to_hash().collect();
    let (expected, found) = (ByteLen::new(6 * 4096), ByteLen::new(5));
    assert_eq!(plans[0].data_len(), expected);
    assert_eq!(
        plans[0].hash(b"short"),
        Err(BuildError::DataLen { expected, found })
    );
    let found = ByteLen::new(7 * 4096);
    assert_eq!(
        plans[0].hash(&[0; 7 * 4096]),
        Err(BuildError::DataLen { expected, found })
    );
    assert!(builder.finish([[0; 32]; 2]).is_ok());
}

// Spec: MEM-5, MEM-6
// Parity: F10
#[test]
fn full_pages_lie_where_ram_has_them_and_diff_pages_are_packed() {
    let places = |kind, size: PageSize| {
        let mut builder = builder(kind, size, &layout(size, &[8]));
        builder.push_zero(run(0, 2)).unwrap();
        let first = builder.push_data(run(2, 1)).unwrap();
        builder.push_zero(run(3, 2)).unwrap();
        let second = builder.push_data(run(5, 2)).unwrap();
        let third = builder.push_data(run(7, 1)).unwrap();
        assert_eq!(builder.extents().len(), 4, "neighbours are merged");
        [builder.data_offset(), first, second, third].map(FileOffset::get)
    };
    for size in [SIZE, PageSize::SIZE_16K, PageSize::SIZE_2M] {
        let page = size.bytes();
        let data = 2 << 20;
        let full = [data, data + 2 * page, data + 5 * page, data + 7 * page];
        assert_eq!(places(Kind::Full, size), full);
        let diff = [page, page, 2 * page, 4 * page];
        assert_eq!(places(Kind::Diff, size), diff);
    }
}
