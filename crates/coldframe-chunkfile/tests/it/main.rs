//! Tests of packs, indexes and tags against `specs/chunk-pack.md`, `specs/chunk-index.md` and
//! `specs/chunk-store.md`.
#![allow(clippy::unwrap_used)]

mod compat;
mod dump;
mod forge;
mod fuzz;
mod golden;
mod hostile;
mod index;
mod index_rules;
mod ledger;
mod model;
mod pack;
mod parts;
mod reencode_index;
mod reencode_pack;
mod reseal;
mod sample;
mod tag;

#[global_allocator]
static ALLOC: coldframe_testkit::alloc::CountingAlloc = coldframe_testkit::alloc::CountingAlloc;
