//! The ring WAL: `specs/ring-wal.md`.
#![allow(clippy::unwrap_used)]

mod append;
mod cached;
mod check;
mod crash;
mod damage;
mod drive;
mod fault;
mod files;
mod fuzz;
mod golden;
mod group;
mod kill;
mod model;
mod place;
mod predecessor;
mod sample;
mod tail;
mod unproved;
mod unreadable;
mod world;

#[global_allocator]
static ALLOC: coldframe_testkit::alloc::CountingAlloc = coldframe_testkit::alloc::CountingAlloc;
