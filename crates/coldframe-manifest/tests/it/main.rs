//! Tests of the manifest against `specs/manifest.md`.
#![allow(clippy::unwrap_used)]

mod child;
mod compat;
mod fields;
mod fuzz;
mod golden;
mod hostile;
mod model;
mod reencode;
mod sample;

#[global_allocator]
static ALLOC: coldframe_testkit::alloc::CountingAlloc = coldframe_testkit::alloc::CountingAlloc;
