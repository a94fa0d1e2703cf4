//! Tests of the memory file against `specs/memfile.md`.
#![allow(clippy::unwrap_used)]

mod absent;
mod builder;
mod compat;
mod dump;
mod forge;
mod fuzz;
mod golden;
mod hostile;
mod model;
mod open;
mod reencode;
mod sample;
mod skeleton;
mod support;
mod tables;

#[global_allocator]
static ALLOC: coldframe_testkit::alloc::CountingAlloc = coldframe_testkit::alloc::CountingAlloc;
