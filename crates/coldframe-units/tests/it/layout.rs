use coldframe_units::{
    ByteLen, GuestAddr, GuestRegion, PageSize, RamLayout, RamLayoutError, RamOffset,
};
use proptest::prelude::*;

fn region(addr: u64, len: u64) -> GuestRegion {
    GuestRegion::new(GuestAddr::new(addr), ByteLen::new(len)).unwrap()
}

#[test]
fn impossible_layouts_are_refused() {
    assert_eq!(RamLayout::new(vec![]), Err(RamLayoutError::NoRegions));
    assert_eq!(
        RamLayout::contiguous(ByteLen::ZERO),
        Err(RamLayoutError::EmptyRegion {
            addr: GuestAddr::ZERO
        })
    );
    assert_eq!(
        RamLayout::new(vec![region(0, 0x2000), region(0x1000, 0x1000)]),
        Err(RamLayoutError::Overlap {
            previous: GuestAddr::ZERO,
            next: GuestAddr::new(0x1000)
        })
    );
    assert!(GuestRegion::new(GuestAddr::new(u64::MAX), ByteLen::new(2)).is_err());
}

#[test]
fn a_partial_page_is_named() {
    let layout = RamLayout::new(vec![region(0, 0x1000), region(0x10_0000, 0x1800)]).unwrap();
    assert_eq!(
        layout.check_pages(PageSize::SIZE_4K),
        Err(RamLayoutError::NotPageAligned {
            addr: GuestAddr::new(0x10_0000),
            len: ByteLen::new(0x1800),
            page_size: PageSize::SIZE_4K
        })
    );
}

proptest! {
    #[test]
    fn offsets_and_addresses_are_inverse(
        parts in prop::collection::vec((1u64..1 << 20, 0u64..1 << 20), 1..6),
        pick in any::<prop::sample::Index>(),
    ) {
        let mut addr = 0;
        let mut regions = Vec::new();
        for (len, gap) in parts {
            regions.push(region(addr + gap, len));
            addr += gap + len;
        }
        let layout = RamLayout::new(regions).unwrap();
        let total = usize::try_from(layout.total().get()).unwrap();
        let offset = RamOffset::new(pick.index(total) as u64);
        let guest = layout.guest_addr(offset).unwrap();
        prop_assert_eq!(layout.ram_offset(guest), Some(offset));
        prop_assert_eq!(layout.guest_addr(RamOffset::new(layout.total().get())), None);
    }
}
