//! Tests of the chunk store against `specs/chunk-store.md`.
#![allow(clippy::unwrap_used)]

#[global_allocator]
static ALLOC: coldframe_testkit::alloc::CountingAlloc = coldframe_testkit::alloc::CountingAlloc;

mod ailing;
mod backend;
mod backends;
mod collect;
mod compression;
mod crash;
mod damage;
mod directory;
mod faults;
mod faulty;
mod image;
mod keep;
mod known;
mod layers;
mod log_note;
mod model;
mod near;
mod new_ledger;
mod places;
mod poor;
mod races;
mod remote_faults;
mod remote_leases;
mod roots;
mod store;
mod support;
mod tags;
mod unreadable;
mod url;
mod visit;
mod web;
mod wire;
