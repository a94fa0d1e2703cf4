//! The command as its users have it: real processes, exit codes, lines, JSON.
#![allow(clippy::unwrap_used)]

mod catalog;
mod cli;
mod corpus;
mod damage;
mod demo;
mod derive;
mod firecracker;
mod inspect;
mod journal;
mod kill;
mod payload;
mod raw;
mod replay;
mod support;
mod wal;
