//! Capture, restore and the algebra of chains, on memory of this process.
#![allow(clippy::unwrap_used)]

mod absent;
mod algebra;
mod budget;
mod capture;
mod chain;
mod dump;
mod fault;
mod guests;
mod model;
mod reading;
mod recapture;
mod support;
mod verify;
#[cfg(feature = "vm-memory")]
mod vm_memory;
