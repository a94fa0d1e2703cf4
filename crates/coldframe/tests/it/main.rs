//! The command as its users have it: real processes, exit codes, lines, JSON.
#![allow(clippy::unwrap_used)]

mod bad_files;
mod bad_sectors;
mod catalog;
#[path = "../../../coldframe-nbd/tests/it/certificates.rs"]
mod certificates;
mod cli;
mod corpus;
#[cfg(target_os = "linux")]
mod crash;
mod damage;
mod demo;
mod derive;
mod disk;
mod disk_access;
mod disk_after_kill;
mod disk_kill;
mod disk_log;
mod disk_tools;
mod examples;
mod firecracker;
#[cfg(target_os = "linux")]
mod folded;
mod inspect;
mod journal;
mod kill;
mod kinds;
mod limits;
mod makers;
#[allow(
    dead_code,
    reason = "the client of the server's own tests says more than these need"
)]
#[path = "../../../coldframe-nbd/tests/it/client.rs"]
mod nbd_client;
mod odd_names;
mod owner;
mod payload;
#[cfg(target_os = "linux")]
mod poor;
mod portability;
mod raw;
mod remote;
mod replay;
mod served;
mod store;
mod support;
mod wal;
