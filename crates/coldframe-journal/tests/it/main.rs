//! The journal: `specs/journal.md`.
#![allow(clippy::unwrap_used)]

mod adapters;
mod append;
mod archives;
mod cached;
mod compacting;
mod compaction;
mod crash;
mod damage;
mod defects;
mod drive;
mod fuzz;
mod golden;
mod kill;
mod memory;
mod model;
mod sample;
mod unproved;
mod unreadable;
mod world;

#[global_allocator]
static ALLOC: coldframe_testkit::alloc::CountingAlloc = coldframe_testkit::alloc::CountingAlloc;
