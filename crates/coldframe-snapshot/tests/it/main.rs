//! Snapshots of a machine that never runs: sessions, chains, damage, and death at any moment.
#![allow(clippy::unwrap_used)]

#[cfg(feature = "catalog")]
mod catalog;
mod chain;
#[cfg(feature = "catalog")]
mod compaction;
mod concurrent;
#[cfg(feature = "catalog")]
mod crash;
mod derive;
mod failure;
mod freeze;
#[cfg(feature = "catalog")]
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
#[cfg(feature = "catalog")]
mod unreadable;
mod verify;
