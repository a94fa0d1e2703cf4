//! Tests of the hypervisor interface.
#![allow(clippy::unwrap_used)]

mod plan;
mod portability;
mod state;
