//! Opening a log of 256 MiB after a crash.

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Result, ensure};

use crate::harness::{Row, Run, race, timed};
use crate::place::Place;
use crate::wal::ours::Ring;
use crate::wal::{Hash, Log, Mode, payload, peers, size_name};

const BYTES: usize = 256 << 20;
const ROUNDS: usize = 7;
/// Read at once by the limit.
const PIECE: usize = 256 << 10;

const OPENED: &str = "Opening a log of 256 MiB in the host's cache that was not closed: every \
    record checked. The limit is reading the file by plain means and XXH3-128 of every payload; \
    xxh3 and blake3 are the hashes alone, of payloads in memory.";
const READ: &str = "The same, with every record handed out. Of the peers, each reads all \
    records once; raft-engine checks entries as they are read, redb its root only, memvid \
    payloads.";

/// All rows.
pub fn run(place: &Place) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for size in [1024, 65_536] {
        let dir = tempfile::tempdir_in(place.dir())?;
        let path = dir.path().join("ring");
        let ring_len = ((size + 48) * (BYTES / size)) as u64;
        fill(&Ring::create_with(&path, Mode::Fill, ring_len)?, size)?;
        rows.push(opened(place, &path, size, ring_len)?);
        rows.push(read(place, dir.path(), size, ring_len)?);
    }
    Ok(rows)
}

/// Puts 256 MiB into a log, many records at a time.
fn fill(log: &dyn Log, size: usize) -> Result<()> {
    let payload = payload(size);
    let batch = (4 << 20) / size;
    (0..BYTES / size / batch).try_for_each(|_| log.append_all(&payload, batch))
}

fn opened(place: &Place, path: &Path, size: usize, ring_len: u64) -> Result<Row> {
    let memory = vec![5; BYTES];
    let hash = Hash::new();
    let file = File::open(path)?;
    let mut piece = vec![0; PIECE];
    let times = race(
        place,
        ROUNDS,
        &mut [
            Box::new(|| timed(|| counted(Ring::open(path, ring_len)?, size))),
            Box::new(|| timed(|| read_and_hash(&file, &hash, &mut piece, size))),
            Box::new(|| {
                timed(|| {
                    for payload in memory.chunks_exact(size) {
                        black_box(hash.of(payload));
                    }
                    Ok(())
                })
            }),
            Box::new(|| {
                timed(|| {
                    for payload in memory.chunks_exact(size) {
                        black_box(blake3::hash(payload));
                    }
                    Ok(())
                })
            }),
        ],
    )?;
    let name = format!("wal: recover 256 MiB of {}", size_name(size));
    let peers = [("xxh3", 2), ("blake3", 3)];
    Ok(Row::race(name, OPENED, &times, Some(1), &peers))
}

/// Payloads are hashed as they lie in pieces of the file, without regard to headers.
fn read_and_hash(file: &File, hash: &Hash, piece: &mut [u8], size: usize) -> Result<()> {
    let len = file.metadata()?.len();
    let mut at = 0;
    while at < len {
        let count = (len - at).min(piece.len() as u64) as usize;
        file.read_exact_at(&mut piece[..count], at)?;
        for payload in piece[..count].chunks(size) {
            black_box(hash.of(payload));
        }
        at += count as u64;
    }
    Ok(())
}

fn counted(count: usize, size: usize) -> Result<()> {
    ensure!(count == BYTES / size, "found {count} records");
    Ok(())
}

fn read(place: &Place, dir: &Path, size: usize, ring_len: u64) -> Result<Row> {
    let path = dir.join("ring");
    let hash = Hash::new();
    let file = File::open(&path)?;
    let mut piece = vec![0; PIECE];
    let mut runs: Vec<Run<'_>> = vec![
        Box::new(|| timed(|| counted(Ring::open_and_read(&path, ring_len)?, size))),
        Box::new(|| timed(|| read_and_hash(&file, &hash, &mut piece, size))),
    ];
    let mut names = Vec::new();
    for (peer, index) in peers::PEERS.iter().zip(2..) {
        let dir = dir.join(peer.name);
        std::fs::create_dir(&dir)?;
        fill(&*(peer.open)(dir.clone(), Mode::Fill)?, size)?;
        names.push((peer.name, index));
        runs.push(Box::new(move || {
            timed(|| counted((peer.recover)(dir.clone())?, size))
        }));
    }
    let times = race(place, ROUNDS, &mut runs)?;
    let name = format!("wal: recover and read 256 MiB of {}", size_name(size));
    Ok(Row::race(name, READ, &times, Some(1), &names))
}
