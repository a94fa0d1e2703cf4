//! The journal: `specs/journal.md`.

mod adapters;
mod append;
mod cached;
mod compacting;
mod compaction;
mod crash;
mod damage;
mod defects;
mod drive;
mod fuzz;
mod golden;
mod memory;
mod model;
pub mod sample;
mod unproved;
mod world;
