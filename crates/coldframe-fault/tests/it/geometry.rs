//! Regions and blocks.

use coldframe_fault::{BlockIndex, FaultError, Geometry, Region};
use coldframe_units::{ByteLen, PageIndex, PageSize, RamOffset};

const PAGE: PageSize = PageSize::SIZE_4K;

fn region(host: u64, ram: u64, len: u64) -> Region {
    Region {
        host,
        ram: RamOffset::new(ram),
        len: ByteLen::new(len),
    }
}

fn two() -> Geometry {
    // The second begins in the middle of a block.
    Geometry::new(
        vec![
            region(0x10_0000, 0, 0x1_8000),
            region(0x5000, 0x1_8000, 0x9000),
        ],
        PAGE,
    )
    .unwrap()
}

#[test]
fn pages_are_found_by_address_and_back() {
    let geometry = two();
    assert_eq!(geometry.ram(), ByteLen::new(0x2_1000));
    assert_eq!(geometry.blocks(), 3);
    assert_eq!(geometry.block_len(BlockIndex::new(2)), ByteLen::new(0x1000));
    assert_eq!(geometry.block_len(BlockIndex::new(3)), ByteLen::ZERO);
    for page in 0..33 {
        let host = geometry.host_of(PageIndex::new(page)).unwrap();
        assert_eq!(geometry.page_at(host + 0xfff), Some(PageIndex::new(page)));
    }
    assert_eq!(geometry.host_of(PageIndex::new(24)), Some(0x5000));
    assert_eq!(geometry.host_of(PageIndex::new(33)), None);
    assert_eq!(geometry.page_at(0x4fff), None);
    assert_eq!(geometry.page_at(0x11_8000), None);
}

#[test]
fn a_range_of_addresses_is_cut_to_the_regions() {
    let geometry = two();
    let pages = |start, end| {
        let mut all = Vec::new();
        geometry.pages_in(start, end, |run| all.push((run.start().get(), run.count())));
        all
    };
    assert_eq!(pages(0, u64::MAX), [(0, 24), (24, 9)]);
    assert_eq!(pages(0x10_2000, 0x10_4000), [(2, 2)]);
    assert_eq!(pages(0x10_2fff, 0x10_3001), [(2, 2)]);
    assert_eq!(pages(0xe000, 0x10_0000), []);
    assert_eq!(pages(0x6000, 0x6000), []);
    assert_eq!(pages(0x7000, 0x6000), []);
}

#[test]
fn a_page_of_2_mib_is_a_block() {
    let huge = PageSize::SIZE_2M;
    let regions = vec![region(0x4000_0000, 0, 4 << 20)];
    let geometry = Geometry::new(regions, huge).unwrap();
    assert_eq!(
        (geometry.blocks(), geometry.hash_blocks_per_block()),
        (2, 32)
    );
    assert_eq!(two().hash_blocks_per_block(), 1);
}

#[test]
fn regions_that_make_no_sense_are_refused() {
    for regions in [
        vec![region(0x1000, 0, 0x800)],
        vec![region(0x1001, 0, 0x1000)],
        vec![region(0x1000, 0, 0)],
        vec![region(0x1000, 0x1000, 0x1000)],
        vec![region(0x1000, 0, 0x1000), region(0x9000, 0x2000, 0x1000)],
        vec![region(0x1000, 0, 0x2000), region(0x2000, 0x2000, 0x1000)],
        vec![region(u64::MAX - 0xfff, 0, 0x1000)],
    ] {
        let error = Geometry::new(regions, PAGE).unwrap_err();
        assert!(matches!(error, FaultError::Geometry { .. }), "{error:?}");
    }
    let none = Geometry::new(Vec::new(), PAGE).unwrap_err();
    assert!(matches!(none, FaultError::NoRegions));
}
