//! Plain sets of pages.

use coldframe_dirty::{DirtyError, DirtyPages, PAGES_MAX};
use coldframe_units::{ByteLen, PageSize, RamOffset};

use crate::{page, pages, plain, run};

const RAM: u64 = 1000 * 4096 - 1;

#[test]
fn runs_in_any_order_that_overlap_make_one_set() {
    let set = pages(
        RAM,
        PageSize::SIZE_4K,
        &[run(500, 9), run(0, 3), run(2, 100), run(501, 1)],
    );
    assert_eq!(plain(set.runs()), [(0, 102), (500, 9)]);
    assert_eq!(set.count(), 111);
    assert!(set.contains(page(101)) && !set.contains(page(102)));
    assert!(!set.contains(page(u64::MAX)));
    let again = pages(RAM, PageSize::SIZE_4K, &[run(0, 102), run(500, 9)]);
    assert_eq!(set, again);
}

#[test]
fn marks_before_at_and_after_the_last_page_are_kept() {
    let mut set = pages(RAM, PageSize::SIZE_4K, &[]);
    assert!(set.is_empty());
    for (offset, len) in [
        (0x50_000, 1),
        (0x4f_fff, 2),
        (0x1_000, 0x1000),
        (RAM - 1, 1),
        (9, 0),
    ] {
        set.mark(RamOffset::new(offset), ByteLen::new(len)).unwrap();
    }
    set.mark_run(run(0x40, 0x60)).unwrap();
    assert_eq!(plain(set.runs()), [(1, 1), (0x40, 0x60), (999, 1)]);
}

#[test]
fn what_is_outside_the_ram_is_an_error_and_adds_nothing() {
    let mut set = pages(RAM, PageSize::SIZE_4K, &[]);
    let outside = DirtyError::PageOutsideRam {
        page: page(1000),
        pages: 1000,
    };
    assert_eq!(set.mark_run(run(999, 2)), Err(outside));
    set.mark(RamOffset::new(RAM), ByteLen::new(1)).unwrap_err();
    assert!(set.is_empty());
    let from_runs = DirtyPages::from_runs(ByteLen::new(RAM), PageSize::SIZE_4K, [run(999, 2)]);
    assert_eq!(from_runs, Err(outside));
}

// Parity: D16, F16
#[test]
fn coarse_pages_become_all_their_fine_pages() {
    let coarse = pages(RAM, PageSize::SIZE_2M, &[run(1, 1)]);
    let fine = coarse.rechunk(PageSize::SIZE_4K).unwrap();
    // The last 2 MiB page is partial.
    assert_eq!(plain(fine.runs()), [(512, 488)]);
    assert_eq!(fine.ram(), coarse.ram());
}

// Parity: D16, F16
#[test]
fn fine_pages_become_the_coarse_pages_that_hold_one() {
    let fine = pages(
        RAM,
        PageSize::SIZE_4K,
        &[run(3, 2), run(10, 1), run(999, 1)],
    );
    let coarse = fine.rechunk(PageSize::SIZE_16K).unwrap();
    assert_eq!(plain(coarse.runs()), [(0, 3), (249, 1)]);
    assert_eq!(coarse.rechunk(PageSize::SIZE_16K).unwrap(), coarse);
}

#[test]
fn a_rechunk_to_too_many_pages_is_refused() {
    let ram = ByteLen::new(u64::MAX);
    let all = DirtyPages::from_runs(ram, PageSize::SIZE_1G, [run(PAGES_MAX - 1, 1)]).unwrap();
    let refused = all.rechunk(PageSize::SIZE_4K).unwrap_err();
    assert!(matches!(refused, DirtyError::TooManyPages { .. }));
}

#[test]
fn union_of_sets_takes_any_granularity_and_refuses_another_ram() {
    let mut fine = pages(RAM, PageSize::SIZE_4K, &[run(2, 1), run(700, 1)]);
    fine.union(&pages(RAM, PageSize::SIZE_16K, &[run(249, 1)]))
        .unwrap();
    fine.union(&pages(RAM, PageSize::SIZE_4K, &[run(1, 1)]))
        .unwrap();
    assert_eq!(plain(fine.runs()), [(1, 2), (700, 1), (996, 4)]);
    let other = pages(RAM + 1, PageSize::SIZE_4K, &[]);
    assert!(matches!(
        fine.union(&other),
        Err(DirtyError::OtherRam { .. })
    ));
}
