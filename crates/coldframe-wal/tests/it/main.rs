//! The tests of both logs.
#![allow(clippy::unwrap_used)]

mod journal;
mod kill;
mod ring;

#[global_allocator]
static ALLOC: coldframe_testkit::alloc::CountingAlloc = coldframe_testkit::alloc::CountingAlloc;
