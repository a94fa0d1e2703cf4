//! `cargo xtask bench [NAME...] [--json]`: side by side with the plainest means and with peers.
//!
//! Invariant: every ratio is of like work in one process and one run: the same bytes, to the same
//! file system, by turns, after a round that does not count.

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::harness::Row;
use crate::place::Place;

mod block;
mod capture;
mod chunks;
mod demo;
mod diff;
mod dirty;
mod fault;
mod firecracker;
mod guest;
mod harness;
mod journal;
mod machine;
mod nbd;
mod peers;
mod place;
mod program;
mod resident;
mod restore;
mod wal;

/// A group of measurements, in the order in which they are run.
type Group = (&'static str, fn(&Place) -> Result<Vec<Row>>);

const GROUPS: [Group; 11] = [
    ("capture", capture::run),
    ("restore", restore::run),
    ("diff", diff::run),
    ("dirty", dirty::run),
    ("fault", fault::run),
    ("demo", demo::run),
    ("wal", wal::run),
    ("journal", journal::run),
    ("chunks", chunks::run),
    ("block", block::run),
    ("nbd", nbd::run),
];

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Result<()> {
    let (options, names): (Vec<_>, Vec<_>) = args.iter().partition(|arg| arg.starts_with('-'));
    let known = || GROUPS.map(|(name, _)| name).join(" ");
    if let Some(other) = options.iter().find(|option| **option != "--json") {
        bail!(
            "unknown option `{other}`: there is --json, and the names {}",
            known()
        );
    }
    if let Some(other) = names
        .iter()
        .find(|name| GROUPS.iter().all(|(known, _)| known != *name))
    {
        bail!("no group `{other}`: there are {}", known());
    }
    let json = !options.is_empty();
    let place = Place::new()?;
    if !json {
        println!("{}", machine::describe(&place)?);
    }
    let mut all = Vec::new();
    for (name, group) in GROUPS {
        if names.is_empty() || names.iter().any(|wanted| *wanted == name) {
            eprintln!("bench: {name} ...");
            let rows = group(&place)?;
            if !json {
                harness::print(name, &rows);
            }
            all.extend(rows);
        }
    }
    if json {
        println!("{}", serde_json::to_string_pretty(&all)?);
    }
    Ok(())
}
