//! The tests of both framings.
#![allow(clippy::unwrap_used)]

mod journal;
mod ring;
