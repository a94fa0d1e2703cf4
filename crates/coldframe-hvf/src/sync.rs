//! The lock of the write tracking: that of `std`, or loom's when the crate is model-checked.

#[cfg(loom)]
pub(crate) use loom::sync::RwLock;
#[cfg(not(loom))]
pub(crate) use std::sync::RwLock;
