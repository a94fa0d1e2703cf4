//! How much a piece of code allocates: the answer to a hostile length field.
//!
//! The count is per thread, so tests that run beside each other do not disturb one another.
//!
//! # Safety
//! [`CountingAlloc`] hands every call on to the system's allocator unchanged, and only counts.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
    // Set by any counted allocation: shows that the allocator is installed.
    static SEEN: Cell<bool> = const { Cell::new(false) };
}

/// The system's allocator, with a count; a test binary installs it with `#[global_allocator]`.
#[derive(Clone, Copy, Debug)]
pub struct CountingAlloc;

fn count(more: usize, less: usize) {
    // Without effect while the thread is being torn down, when there is no count any more.
    let _ = LIVE.try_with(|live| {
        live.set(
            live.get()
                .wrapping_add_unsigned(more)
                .wrapping_sub_unsigned(less),
        );
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(live.get())));
    });
    let _ = SEEN.try_with(|seen| seen.set(true));
}

// SAFETY: every method is System's own, called with the very arguments; counting allocates
// nothing (const thread-locals without destructors) and does not unwind.
unsafe impl GlobalAlloc for CountingAlloc {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(0, layout.size());
        // SAFETY: `ptr` came from System by way of the methods here.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // Both blocks may be there for a moment.
        count(new_size, 0);
        count(0, layout.size());
        // SAFETY: `ptr` came from System by way of the methods here; the rest is the caller's.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

/// Runs `body` and returns with its result the most bytes that were allocated in it at any one
/// moment, beyond those at its beginning.
///
/// # Panics
/// If [`CountingAlloc`] is not the global allocator of this program.
pub fn alloc_peak<T>(body: impl FnOnce() -> T) -> (T, usize) {
    drop(std::hint::black_box(Box::new(0_u8)));
    assert!(
        SEEN.get(),
        "install CountingAlloc as the #[global_allocator] of this test binary"
    );
    let before = LIVE.get();
    let outer = PEAK.replace(before);
    let result = body();
    let peak = PEAK.get();
    PEAK.set(outer.max(peak));
    (
        result,
        usize::try_from(peak.wrapping_sub(before)).unwrap_or(0),
    )
}

/// Runs `body`, which may hold at most `limit_bytes` allocated at any one moment.
///
/// # Panics
/// If it allocates more, or [`CountingAlloc`] is not the global allocator of this program.
#[track_caller]
pub fn assert_alloc_bounded<T>(limit_bytes: usize, body: impl FnOnce() -> T) -> T {
    let (result, peak) = alloc_peak(body);
    assert!(
        peak <= limit_bytes,
        "allocated {peak} bytes, {limit_bytes} allowed"
    );
    result
}
