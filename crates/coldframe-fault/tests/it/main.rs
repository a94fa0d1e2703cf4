//! The state machine against a simulated kernel, and case by case.
#![allow(clippy::unwrap_used)]

mod blocks;
mod chain;
mod claims;
mod geometry;
mod kernel;
#[cfg(target_os = "linux")]
mod lazy;
mod model;
#[cfg(target_os = "linux")]
mod process;
#[cfg(target_os = "linux")]
mod raw;
#[cfg(feature = "store")]
mod store;
#[cfg(target_os = "linux")]
mod template;
