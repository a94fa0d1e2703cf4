//! The state machine against a simulated kernel, and case by case.
#![allow(clippy::unwrap_used)]

mod blocks;
mod claims;
mod geometry;
mod kernel;
mod model;
