//! Huge pages, where the host has set some aside.

use std::sync::Arc;

use coldframe_testkit::require::skipped;
use coldframe_uffd::{
    Features, Filled, HostRange, HugePages, Ioctls, Mapping, Modes, Sharing, UffdError, Wake,
};
use coldframe_units::{ByteLen, PageSize};

use crate::support::{next_fault, uffd, word};

const HUGE: u64 = PageSize::SIZE_2M.bytes();

fn huge(pages: u64) -> Option<Mapping> {
    match Mapping::anonymous_huge(ByteLen::new(pages * HUGE), HugePages::Size2M) {
        Ok(memory) => Some(memory),
        Err(error) => {
            assert!(matches!(error, UffdError::Map { .. }), "{error:?}");
            skipped("hugetlbfs", &format!("{error}: the pool has too few"));
            None
        }
    }
}

#[test]
fn a_huge_page_is_filled_whole() {
    let (Some(uffd), Some(memory)) = (uffd(Features::MISSING_HUGETLBFS), huge(2)) else {
        return;
    };
    assert_eq!(memory.page(), PageSize::SIZE_2M);
    let calls = uffd.register(&memory, Modes::MISSING).unwrap();
    assert!(calls.contains(Ioctls::COPY) && !calls.contains(Ioctls::ZEROPAGE));
    let memory = Arc::new(memory);
    let reader = {
        let memory = Arc::clone(&memory);
        std::thread::spawn(move || memory.load(usize::try_from(HUGE).unwrap() + 0x3000))
    };
    let fault = next_fault(&uffd);
    let page = fault.addr.align_down(memory.page());
    assert_eq!(page.get(), memory.addr().get() + HUGE);
    let content = vec![0x44; usize::try_from(HUGE).unwrap()];
    let small = uffd.copy(page, &content[..0x1_0000], Wake::Yes);
    assert_eq!(small.unwrap_err().errno(), Some(nix::libc::EINVAL));
    assert_eq!(uffd.copy(page, &content, Wake::Yes).unwrap(), Filled::All);
    assert_eq!(reader.join().unwrap(), word(0x44));
    let range = HostRange::new(page, ByteLen::new(HUGE)).unwrap();
    assert!(uffd.zeropage(range, Wake::Yes).is_err());
}

#[test]
fn a_huge_page_is_given_up_whole() {
    let Some(memory) = huge(1) else {
        return;
    };
    memory.store(0, 7);
    let part = memory.discard(ByteLen::ZERO, ByteLen::new(0x1_0000), Sharing::Private);
    assert!(matches!(
        part.unwrap_err(),
        UffdError::OutsideMapping { .. }
    ));
    memory
        .discard(ByteLen::ZERO, ByteLen::new(HUGE), Sharing::Private)
        .unwrap();
    assert_eq!(memory.load(0), 0);
}
