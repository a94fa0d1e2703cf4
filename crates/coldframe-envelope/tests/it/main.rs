//! Tests of the envelope against `specs/envelope.md` and `specs/conventions.md`.
#![allow(clippy::unwrap_used)]

mod compat;
mod fuzz;
mod golden;
mod header;
mod hostile;
mod model;
mod reencode;
mod sample;
mod table;

#[global_allocator]
static ALLOC: coldframe_testkit::alloc::CountingAlloc = coldframe_testkit::alloc::CountingAlloc;
