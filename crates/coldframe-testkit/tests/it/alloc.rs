//! The allocation bound sees the peak, not the rest.

use std::hint::black_box;
use std::panic::catch_unwind;

use coldframe_testkit::alloc::{alloc_peak, assert_alloc_bounded};

#[test]
fn peak_counts_what_was_freed_again() {
    let ((), peak) = alloc_peak(|| {
        for _ in 0..4 {
            drop(black_box(vec![1_u8; 1 << 16]));
        }
    });
    assert!((1 << 16..1 << 17).contains(&peak), "{peak}");
}

#[test]
fn an_untouched_reservation_counts() {
    let ((), peak) = alloc_peak(|| drop(black_box(Vec::<u8>::with_capacity(1 << 30))));
    assert!(peak >= 1 << 30, "{peak}");
}

#[test]
fn inner_peak_does_not_hide_the_outer_one() {
    let ((), outer) = alloc_peak(|| {
        drop(black_box(vec![1_u8; 1 << 20]));
        let ((), inner) = alloc_peak(|| drop(black_box(vec![1_u8; 1 << 10])));
        assert!(inner < 1 << 20, "{inner}");
    });
    assert!(outer >= 1 << 20, "{outer}");
}

#[test]
fn allocation_past_the_bound_panics() {
    assert_alloc_bounded(1 << 12, || drop(black_box(vec![1_u8; 1 << 10])));
    let bad = catch_unwind(|| assert_alloc_bounded(1 << 12, || drop(black_box(vec![1_u8; 8192]))));
    assert!(bad.is_err());
}
