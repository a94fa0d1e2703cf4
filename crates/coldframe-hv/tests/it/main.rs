//! Tests of the hypervisor interface.
#![allow(clippy::unwrap_used)]

mod aarch64;
mod accepted;
mod cpuid;
mod generations;
mod idreg;
mod msr;
mod plan;
mod portability;
mod portability_state;
mod state;
mod third;
