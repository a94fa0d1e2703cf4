//! The atomics: those of `core`, or loom's when the crate is built to be model-checked.

#[cfg(not(loom))]
pub(crate) use alloc::sync::Arc;
#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicU64, Ordering};
#[cfg(loom)]
pub(crate) use loom::sync::Arc;
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU64, Ordering};

use alloc::boxed::Box;

use crate::DirtyError;

/// `count` words of 0, which the allocator hands out without a write to each page of them.
#[cfg(not(loom))]
pub(crate) fn zeroed(count: usize) -> Result<Box<[AtomicU64]>, DirtyError> {
    use zerocopy::FromZeros;

    <[AtomicU64]>::new_box_zeroed_with_elems(count).map_err(|_| DirtyError::Allocate {
        bytes: count as u64 * 8,
    })
}

/// `count` words of 0.
#[cfg(loom)]
pub(crate) fn zeroed(count: usize) -> Result<Box<[AtomicU64]>, DirtyError> {
    Ok((0..count).map(|_| AtomicU64::new(0)).collect())
}
