//! Tests of the hypervisor interface.
#![allow(clippy::unwrap_used)]

mod aarch64;
mod idreg;
mod plan;
mod portability;
mod portability_state;
mod state;
