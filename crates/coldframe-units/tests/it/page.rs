use coldframe_units::{ByteLen, PageIndex, PageRun, PageSize, PageSizeError, RamOffset};
use proptest::prelude::*;

// Parity: D12, F10
#[test]
fn odd_page_sizes_cannot_exist() {
    assert_eq!(
        PageSize::new(0),
        Err(PageSizeError::NotPowerOfTwo { bytes: 0 })
    );
    assert_eq!(
        PageSize::new(3000),
        Err(PageSizeError::NotPowerOfTwo { bytes: 3000 })
    );
    assert_eq!(
        PageSize::new(2048),
        Err(PageSizeError::OutOfRange { log2: 11 })
    );
    assert_eq!(
        PageSize::new(1 << 63),
        Err(PageSizeError::OutOfRange { log2: 63 })
    );
    assert_eq!(
        PageSize::from_log2(255),
        Err(PageSizeError::OutOfRange { log2: 255 })
    );
    assert_eq!(PageSize::new(16384), Ok(PageSize::SIZE_16K));
}

#[test]
fn page_sizes_read_as_people_write_them() {
    assert_eq!(PageSize::SIZE_4K.to_string(), "4KiB");
    assert_eq!(PageSize::SIZE_2M.to_string(), "2MiB");
    assert_eq!(PageSize::SIZE_1G.to_string(), "1GiB");
}

#[test]
fn runs_are_never_empty_and_never_overflow() {
    assert!(PageRun::new(PageIndex::new(5), 0).is_none());
    assert!(PageRun::new(PageIndex::new(u64::MAX), 2).is_none());
    let run = PageRun::new(PageIndex::new(1 << 60), 4).unwrap();
    assert!(run.byte_range(PageSize::SIZE_4K).is_none());
}

proptest! {
    #[test]
    fn every_byte_lies_in_the_page_that_says_so(offset in 0u64..1 << 50, log2 in 12u8..=30) {
        let size = PageSize::from_log2(log2).unwrap();
        let page = size.page_of(RamOffset::new(offset));
        let start = size.offset_of(page).unwrap().get();
        prop_assert!(start <= offset && offset < start + size.bytes());
        prop_assert_eq!(size.pages_for(ByteLen::new(offset + 1)), page.get() + 1);
    }
}
