//! Tests of the state file against `specs/statefile.md`.
#![allow(clippy::unwrap_used)]

mod bitcode;
mod body;
mod bound;
mod columns;
mod compat;
mod fuzz;
mod golden;
mod hostile;
mod model;
mod reencode;
mod sample;
mod sections;

#[global_allocator]
static ALLOC: coldframe_testkit::alloc::CountingAlloc = coldframe_testkit::alloc::CountingAlloc;
