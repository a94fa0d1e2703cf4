//! The test tools themselves: a check that cannot fail is worse than none.
#![allow(clippy::unwrap_used)]

use coldframe_testkit::alloc::CountingAlloc;

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc;

mod alloc;
mod child;
mod crash;
mod fault;
mod golden;
mod hostile;
mod pagecache;
mod rng;
