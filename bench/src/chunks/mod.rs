//! Chunk stores: an image in, a later version in, the image out; and what the size of chunks
//! costs and saves on the memory of real guests.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::Path;

use anyhow::Result;
use coldframe_chunkfile::Compression;

use self::contest::{Contestant, Part, Results};
use self::image::Images;
use self::limits::{Limit, Work};
use self::ours::Ours;
use crate::guest::MIB;
use crate::harness::Row;
use crate::place::Place;

mod contest;
mod image;
mod limits;
mod ours;
mod peers;
#[cfg(feature = "chunk-peers")]
mod shuru;
mod sweep;

const ROUNDS: usize = 3;

/// The compressions, LZ4 first: it is the default.
const OURS: [(&str, Compression); 3] = [
    ("LZ4", Compression::Lz4),
    ("Zstandard", Compression::Zstd),
    ("none", Compression::None),
];

/// The limits, after them.
const LIMITS: [Work; 3] = [Work::Copy, Work::Hash, Work::Zstd];
const COPY: usize = 3;
const HASH: usize = 4;
const ZSTD: usize = 5;
const PEERS: usize = 6;

/// All rows of the group.
pub fn run(place: &Place) -> Result<Vec<Row>> {
    let images = Images::write(place.dir())?;
    let mut all: Vec<Box<dyn Contestant>> = Vec::new();
    for (name, compression) in OURS {
        all.push(Box::new(Ours { name, compression }));
    }
    for work in LIMITS {
        all.push(Box::new(Limit(work)));
    }
    all.extend(peers::installed());
    let names: Vec<_> = all.iter().map(|contestant| contestant.name()).collect();
    let results = contest::run(place, &images, ROUNDS, &all)?;
    let mut rows = times(&results, &names);
    rows.extend(sizes(&results, &names));
    fs::remove_file(&images.first)?;
    fs::remove_file(&images.second)?;
    match env::var_os("COLDFRAME_GUEST_CORPUS") {
        Some(corpus) => rows.extend(sweep::run(place, Path::new(&corpus))?),
        None => eprintln!("bench: no real guest: COLDFRAME_GUEST_CORPUS names no folder"),
    }
    Ok(rows)
}

fn times(results: &Results, names: &[&'static str]) -> Vec<Row> {
    let note = "1 GiB (40 % zero, 30 % words, 30 % random) out of the page cache into an empty \
                store of this file system, synced; v2 has 5 % of the blocks new; `again` is v2 \
                once more. Limits on all processors: none: copy of the blocks that are not zero, \
                with a sync; again: zero-skip and BLAKE3; LZ4 and Zstandard: the same blocks \
                through Zstandard 1. Peers are processes of their own, shuru-store runs one round.";
    let restore = "v2 out of the store into a new file, not synced, against writing the blocks \
                   that are not zero to a sparse file.";
    let parts = [
        ("v1 in", Part::First, note),
        ("v2 in", Part::Second, note),
        ("v2 again", Part::Again, note),
        ("v2 out", Part::Restore, restore),
    ];
    let mut rows = Vec::new();
    for (what, part, note) in parts {
        let times = results.times(part);
        for (number, (compression, _)) in OURS.iter().enumerate() {
            let limit = match (part, number) {
                (Part::Again, _) => HASH,
                (Part::Restore, _) | (_, 2) => COPY,
                _ => ZSTD,
            };
            let swap = |other: usize| match other {
                0 => number,
                other if other == number => 0,
                other => other,
            };
            let peers = names.iter().enumerate().skip(PEERS);
            let peers: Vec<_> = peers.map(|(peer, name)| (*name, swap(peer))).collect();
            let name = format!("chunks: {what}, {compression}");
            let led = times.leading(number);
            rows.push(Row::race(name, note, &led, Some(swap(limit)), &peers));
        }
    }
    rows
}

fn sizes(results: &Results, names: &[&'static str]) -> Vec<Row> {
    let note = "Bytes of the store's files: after v1, and what v2 adds, which is held against the \
                52 MiB that its new blocks have at most. Peers as times as much.";
    let mut rows = Vec::new();
    for (number, (compression, _)) in OURS.iter().enumerate() {
        let of = |pick: fn(&(u64, u64)) -> u64, what: &str, limit: Option<f64>| {
            let ours = pick(&results.sizes[number]) as f64;
            let peers = names.iter().zip(&results.sizes).skip(PEERS);
            let peers: BTreeMap<_, _> = peers
                .map(|(name, sizes)| (*name, pick(sizes) as f64 / ours))
                .collect();
            let value = ours / MIB as f64;
            Row {
                name: format!("chunks: {what}, {compression}"),
                value,
                unit: "MiB",
                limit,
                ratio_to_limit: limit.map(|limit| limit / value),
                spread: None,
                peers,
                note,
            }
        };
        rows.push(of(|sizes| sizes.0, "store of v1", None));
        rows.push(of(|sizes| sizes.1, "v2 adds", Some(52.0)));
    }
    rows
}
