//! How many clean pages a Diff takes along.

use coldframe_mem::{CaptureSpec, MergeBudget};
use coldframe_units::{PageSize, RootHash};

use crate::support::{Files, Guest, PAGE, dirty, page, spec};

#[track_caller]
fn check(dirty_pages: &[u64], merge: MergeBudget, extents: u64, data_pages: u64) {
    let guest = Guest::anonymous(256 * PAGE);
    for index in 0..256 {
        guest.write(index * PAGE, &page(1));
    }
    let spec = CaptureSpec {
        merge,
        ..spec(PageSize::SIZE_4K)
    };
    let parent = RootHash::from_bytes([1; 32]);
    let (_, made) = Files::new().diff(&guest, &dirty(guest.len(), dirty_pages), parent, &spec);
    assert_eq!(
        (made.stats.extents, made.stats.data_pages),
        (extents, data_pages)
    );
}

const GENEROUS: MergeBudget = MergeBudget {
    runs_min: 0,
    gap_pages: 4,
    extra_percent: 100,
};

#[test]
fn without_a_budget_no_clean_page_is_taken() {
    check(&[1, 3, 5, 100], MergeBudget::NONE, 4, 4);
}

#[test]
fn small_gaps_are_closed() {
    check(&[1, 3, 5, 100], GENEROUS, 2, 6);
}

#[test]
fn gaps_over_the_limit_stay_open() {
    check(&[1, 6, 7, 8, 9, 15], GENEROUS, 2, 10);
}

#[test]
fn the_smallest_gaps_are_closed_first() {
    let merge = MergeBudget {
        extra_percent: 20,
        ..GENEROUS
    };
    // One page in a gap of 1 fits 20 in 100 of 5 pages; the gap of 2 does not.
    check(&[1, 3, 10, 13, 50], merge, 4, 6);
}

#[test]
fn few_runs_are_left_as_they_are() {
    let merge = MergeBudget {
        runs_min: 4,
        ..GENEROUS
    };
    check(&[1, 3, 5, 100], merge, 4, 4);
    check(&[1, 3, 5, 100, 102], merge, 2, 8);
}
