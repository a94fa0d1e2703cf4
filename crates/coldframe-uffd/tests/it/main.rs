//! Every call, on the kernel of the host that runs the tests.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod events;
mod fill;
mod huge;
mod mapping;
mod open;
mod pagemap;
mod process;
mod protect;
mod raw;
mod support;
