//! Tests of the adapter on a model of Hypervisor.framework.
#![allow(clippy::unwrap_used)]

mod calls;
mod dirty;
mod elsewhere;
mod freeze;
mod lazy;
mod machine;
mod order;
mod park;
mod plan;
mod rules;
mod run;
mod support;
