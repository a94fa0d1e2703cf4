//! Devices over stores in memory and in directories, with logs that crash and fail on order.
#![allow(clippy::unwrap_used)]

#[global_allocator]
static ALLOC: coldframe_testkit::alloc::CountingAlloc = coldframe_testkit::alloc::CountingAlloc;

#[allow(
    dead_code,
    reason = "the double of the store's own tests has more than these need"
)]
#[path = "../../../coldframe-chunks/tests/it/backend.rs"]
mod backend;
mod base;
mod compat;
mod cost;
mod crash;
mod damage;
mod device;
mod faults;
mod fuzz;
mod golden;
mod hostile;
mod identity;
mod loss;
mod model;
#[cfg(feature = "nbd")]
mod nbd;
mod opening;
mod record;
mod sample;
mod support;
mod threads;
mod transfer;
mod unreadable;
