//! Snapshots of a machine that never runs: sessions, chains, damage, and death at any moment.
#![allow(clippy::unwrap_used)]

mod catalog;
mod chain;
mod concurrent;
mod crash;
mod derive;
mod failure;
mod freeze;
mod hostfault;
mod import;
mod kill;
mod overlap;
mod portability;
mod state;
#[cfg(feature = "store")]
mod store;
mod support;
mod text;
mod thaw;
mod unreadable;
mod verify;
