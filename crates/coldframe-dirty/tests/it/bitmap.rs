//! Marks, dirty logs, runs and unions of the shared bitmap.

use std::thread;

use coldframe_dirty::{DirtyBitmap, DirtyError, PAGES_MAX};
use coldframe_units::{ByteLen, PageSize, RamOffset};

use crate::{bitmap, page, pages, plain, run};

const RAM: u64 = 200 * 4096 + 1;

#[track_caller]
fn check_mark(offset: u64, len: u64, expected: &[(u64, u64)]) {
    let dirty = bitmap(RAM);
    dirty
        .mark(RamOffset::new(offset), ByteLen::new(len))
        .unwrap();
    assert_eq!(plain(dirty.runs()), expected);
}

// Parity: D15, F14
#[test]
fn a_byte_range_marks_every_page_it_touches() {
    check_mark(0, 1, &[(0, 1)]);
    check_mark(0, 4096, &[(0, 1)]);
    check_mark(0, 4097, &[(0, 2)]);
    check_mark(4095, 2, &[(0, 2)]);
    check_mark(4096 * 63, 8192, &[(63, 2)]);
    check_mark(1, RAM - 1, &[(0, 201)]);
    check_mark(4096 * 64, 4096 * 64, &[(64, 64)]);
}

#[test]
fn an_empty_range_marks_nothing_even_at_the_end_of_ram() {
    check_mark(17, 0, &[]);
    check_mark(RAM, 0, &[]);
}

// Parity: F16
#[test]
fn the_partial_last_page_is_a_page() {
    let dirty = bitmap(RAM);
    assert_eq!(dirty.pages(), 201);
    check_mark(RAM - 1, 1, &[(200, 1)]);
    assert_eq!(dirty.mark_page(page(200)), Ok(true));
    assert!(dirty.mark_page(page(201)).is_err());
}

#[test]
fn a_range_outside_the_ram_is_an_error_and_marks_nothing() {
    let dirty = bitmap(RAM);
    for (offset, len) in [
        (RAM, 1),
        (RAM - 1, 2),
        (0, RAM + 1),
        (u64::MAX, 2),
        (1, u64::MAX),
    ] {
        let (offset, len) = (RamOffset::new(offset), ByteLen::new(len));
        let ram = ByteLen::new(RAM);
        let expected = DirtyError::OutsideRam { offset, len, ram };
        assert_eq!(dirty.mark(offset, len), Err(expected));
    }
    assert_eq!(dirty.count(), 0);
}

#[test]
fn a_page_outside_the_ram_is_an_error_and_never_dirty() {
    let dirty = bitmap(RAM);
    for outside in [201, 255, 256, u64::MAX] {
        let expected = DirtyError::PageOutsideRam {
            page: page(outside),
            pages: 201,
        };
        assert_eq!(dirty.mark_page(page(outside)), Err(expected));
        assert!(!dirty.is_dirty(page(outside)));
    }
    assert_eq!(dirty.count(), 0);
}

// Parity: F14
#[test]
fn the_transition_from_clean_is_reported_once() {
    let dirty = bitmap(RAM);
    assert_eq!(dirty.mark_page(page(7)), Ok(true));
    assert_eq!(dirty.mark_page(page(7)), Ok(false));
    dirty.take().commit();
    assert_eq!(dirty.mark_page(page(7)), Ok(true));
}

// Parity: F14
#[test]
fn eight_threads_of_a_thousand_marks_lose_none_and_share_the_transitions() {
    // Miri takes far longer for each.
    let each = if cfg!(miri) { 40 } else { 1000 };
    let all = each * 4;
    let dirty = bitmap(4096 * all);
    let transitions: u64 = thread::scope(|scope| {
        let threads: Vec<_> = (0..8_u64)
            .map(|thread| {
                let dirty = dirty.clone();
                // Neighbours overlap by half.
                let first = thread * each / 2;
                scope.spawn(move || {
                    let marks = (first..first + each).map(|index| index % all);
                    marks
                        .filter(|index| dirty.mark_page(page(*index)).unwrap())
                        .count() as u64
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).sum()
    });
    assert_eq!((transitions, dirty.count()), (all, all));
    assert_eq!(plain(dirty.runs()), [(0, all)]);
}

#[test]
fn ram_that_cannot_be_tracked_is_refused_before_it_is_allocated() {
    let new = |ram, size| DirtyBitmap::new(ByteLen::new(ram), size).map(|dirty| dirty.pages());
    assert_eq!(new(0, PageSize::SIZE_4K), Err(DirtyError::EmptyRam));
    let too_many = |pages| DirtyError::TooManyPages {
        pages,
        max: PAGES_MAX,
    };
    assert_eq!(
        new(PAGES_MAX * 4096 + 1, PageSize::SIZE_4K),
        Err(too_many(PAGES_MAX + 1))
    );
    assert_eq!(new(u64::MAX, PageSize::SIZE_4K), Err(too_many(1 << 52)));
    assert_eq!(new(1, PageSize::SIZE_1G), Ok(1));
}

#[track_caller]
fn check_log(first: u64, log: &[u64], expected: &[(u64, u64)]) {
    let dirty = bitmap(RAM);
    dirty.mark_words(page(first), log).unwrap();
    assert_eq!(plain(dirty.runs()), expected);
}

// Parity: D15
#[test]
fn a_dirty_log_is_marked_at_any_first_page() {
    check_log(0, &[0b101, 1 << 63], &[(0, 1), (2, 1), (127, 1)]);
    check_log(64, &[0b11, 1], &[(64, 2), (128, 1)]);
    check_log(10, &[u64::MAX, 1], &[(10, 65)]);
    check_log(63, &[u64::MAX, u64::MAX], &[(63, 128)]);
    check_log(1, &[1 << 63, 0, 1 << 63], &[(64, 1), (192, 1)]);
}

#[test]
fn clean_words_of_a_dirty_log_may_reach_past_the_ram() {
    check_log(0, &[], &[]);
    check_log(192, &[1 << 8, 0, 0], &[(200, 1)]);
    check_log(u64::MAX, &[0, 0], &[]);
}

#[test]
fn a_dirty_log_with_a_bit_past_the_ram_is_an_error_and_marks_nothing() {
    let dirty = bitmap(RAM);
    for (first, log, outside) in [
        (192, vec![0x201_u64], 201),
        (0, vec![1, 0, 0, 0, 1], 256),
        (200, vec![0b11], 201),
        (u64::MAX, vec![0b11], u64::MAX),
    ] {
        let expected = DirtyError::PageOutsideRam {
            page: page(outside),
            pages: 201,
        };
        assert_eq!(dirty.mark_words(page(first), &log), Err(expected));
    }
    assert_eq!(dirty.count(), 0);
}

/// Firecracker #5705: a cursor that did not advance over the clean end of one slot's log put the
/// next slot's pages at the wrong place.
#[test]
fn logs_of_several_regions_with_clean_ends_land_in_their_own_regions() {
    let dirty = bitmap(4096 * 300);
    let regions = [(0_u64, 70), (70, 5), (75, 100), (175, 125)];
    let mut expected = vec![];
    for (first, count) in regions {
        // Only the first page of each; all others, up to the end, are clean.
        let mut log = vec![0_u64; (count as usize).div_ceil(64)];
        log[0] = 1;
        dirty.mark_words(page(first), &log).unwrap();
        expected.push((first, 1));
    }
    assert_eq!(plain(dirty.runs()), expected);
}

#[test]
fn runs_are_maximal_over_word_and_leaf_boundaries() {
    let dirty = bitmap(4096 * 100_000);
    for (start, count) in [(60, 10), (32_760, 20), (64, 64), (99_999, 1)] {
        let (offset, len) = run(start, count).byte_range(PageSize::SIZE_4K).unwrap();
        dirty.mark(offset, len).unwrap();
    }
    let expected = [(60, 68), (32_760, 20), (99_999, 1)];
    assert_eq!(plain(dirty.runs()), expected);
    assert_eq!(plain(dirty.peek().runs()), expected);
    assert_eq!(dirty.count(), 89);
}

// Parity: F14
#[test]
fn union_takes_pages_of_any_granularity() {
    let ram = 40 * 4096 + 100; // the last 16 KiB page and the last 4 KiB page are both partial
    let fine = bitmap(ram);
    let coarse = pages(ram, PageSize::SIZE_16K, &[run(1, 1), run(10, 1)]);
    fine.union(&coarse).unwrap();
    assert_eq!(plain(fine.runs()), [(4, 4), (40, 1)]);

    let coarse = DirtyBitmap::new(ByteLen::new(ram), PageSize::SIZE_16K).unwrap();
    coarse.union(&fine.peek()).unwrap();
    assert_eq!(plain(coarse.runs()), [(1, 1), (10, 1)]);

    fine.union(&pages(ram, PageSize::SIZE_4K, &[run(7, 2)]))
        .unwrap();
    assert_eq!(plain(fine.runs()), [(4, 5), (40, 1)]);
}

#[test]
fn union_with_another_ram_is_an_error() {
    let (ours, theirs) = (ByteLen::new(RAM), ByteLen::new(RAM + 1));
    let other = pages(theirs.get(), PageSize::SIZE_4K, &[run(0, 1)]);
    let dirty = bitmap(RAM);
    let expected = DirtyError::OtherRam { ours, theirs };
    assert_eq!(dirty.union(&other), Err(expected));
    assert_eq!(dirty.count(), 0);
}
