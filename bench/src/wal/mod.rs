//! The ring WAL, against plain writes and against logs and databases of others.
//!
//! Invariants: every contestant has a file that is written already, as far as it can have one, and
//! keeps it for all rounds; what makes room again (a checkpoint) is not timed; the payload is the
//! same for all and cannot be compressed.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use crate::guest::Random;
use crate::harness::{Row, Run, race};
use crate::place::Place;

mod append;
mod group;
mod ours;
mod peers;
mod plain;
mod recovery;

pub use append::SIZES;
pub use plain::{Hash, Plain, filled};

/// A log that records can be put into; by several threads at once.
pub trait Log: Sync {
    /// Appends a record, as durable as the log was opened for.
    fn append(&self, payload: &[u8]) -> Result<()>;

    /// Appends it `count` times, with one sync at most.
    fn append_all(&self, payload: &[u8], count: usize) -> Result<()>;

    /// Makes room for the next turn.
    fn settle(&self) -> Result<()>;
}

/// When a log acknowledges a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// When it is on the disk.
    Durable,
    /// When the host has it, or less.
    Unsynced,
    /// As `Unsynced`; only filled, by [`Log::append_all`], and then recovered.
    Fill,
}

/// A log of others.
pub struct Peer {
    /// Its name.
    pub name: &'static str,
    /// Whether it can do without a sync.
    pub unsynced: bool,
    /// Makes an empty log in a directory of its own.
    pub open: fn(PathBuf, Mode) -> Result<Box<dyn Log>>,
    /// Opens a filled one and looks at every record; says how many there are.
    pub recover: fn(PathBuf) -> Result<usize>,
}

/// All rows of the group.
pub fn run(place: &Place) -> Result<Vec<Row>> {
    let mut rows = append::run(place)?;
    rows.extend(group::run(place)?);
    rows.extend(recovery::run(place)?);
    Ok(rows)
}

/// Bytes that nothing can compress.
pub fn payload(len: usize) -> Vec<u8> {
    let mut random = Random(7);
    let words = (0..len.div_ceil(8)).flat_map(|_| random.next().to_le_bytes());
    words.take(len).collect()
}

/// For people.
pub const fn size_name(len: usize) -> &'static str {
    match len {
        128 => "128 B",
        1024 => "1 KiB",
        16_384 => "16 KiB",
        65_536 => "64 KiB",
        _ => "?",
    }
}

/// Ours, the limit, and the peers.
struct Field {
    ours: Box<dyn Log>,
    limit: Box<dyn Log>,
    peers: Vec<(&'static str, Box<dyn Log>)>,
    dir: tempfile::TempDir,
}

impl Field {
    fn new(place: &Place, mode: Mode) -> Result<Self> {
        let dir = tempfile::tempdir_in(place.dir())?;
        let able = |peer: &&Peer| mode == Mode::Durable || peer.unsynced;
        let peers = peers::PEERS.iter().filter(able).map(|peer| {
            let dir = dir.path().join(peer.name);
            std::fs::create_dir(&dir)?;
            Ok((peer.name, (peer.open)(dir, mode)?))
        });
        Ok(Self {
            ours: Box::new(ours::Ring::create(&dir.path().join("ring"), mode)?),
            limit: Box::new(Plain::create(&dir.path().join("plain"), mode)?),
            peers: peers.collect::<Result<_>>()?,
            dir,
        })
    }

    /// A race in which all take the same turns, but for the limit.
    fn race(
        &self,
        place: &Place,
        rounds: usize,
        turn: &dyn Fn(&dyn Log) -> Result<Duration>,
        limit_turn: &dyn Fn(&dyn Log) -> Result<Duration>,
        (name, note): (String, &'static str),
    ) -> Result<Row> {
        let peers = self.peers.iter().map(|(_, log)| &**log);
        let logs = [&*self.ours, &*self.limit].into_iter().chain(peers);
        let mut runs = Vec::<Run<'_>>::new();
        for (index, log) in logs.enumerate() {
            let turn = if index == 1 { limit_turn } else { turn };
            runs.push(Box::new(move || {
                let time = turn(log)?;
                log.settle()?;
                Ok(time)
            }));
        }
        let times = race(place, rounds, &mut runs)?;
        let peers = self.peers.iter().zip(2..);
        let peers = peers.map(|((name, _), index)| (*name, index));
        let row = Row::race(name, note, &times, Some(1), &peers.collect::<Vec<_>>());
        Ok(row.told())
    }
}

impl Drop for Field {
    fn drop(&mut self) {
        // Logs close before their files go.
        self.peers.clear();
        let _ = self.dir.path();
    }
}
