//! The size of chunks, on the memory of one real guest at four moments: what each size saves, and
//! what it costs.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use coldframe_chunks::{Block, ChunkStore, Directory, LocalStore, Options};
use coldframe_units::ChunkId;

use crate::guest::MIB;
use crate::harness::{Row, Times, timed};
use crate::place::Place;
use coldframe_chunks::is_zero;

const ROUNDS: usize = 3;
const KIB: usize = 1 << 10;
/// The default first: the others are held against it.
const SIZES: [usize; 8] = [
    64 * KIB,
    4 * KIB,
    8 * KIB,
    16 * KIB,
    32 * KIB,
    128 * KIB,
    512 * KIB,
    2048 * KIB,
];
/// Bytes that are stored or read at once.
const BATCH: usize = 4 << 20;

/// What one size came to, but for time.
#[derive(Clone, Copy, Default)]
struct Cost {
    unique: u64,
    stored: u64,
    files: u64,
}

/// All rows of the sweep.
pub fn run(place: &Place, corpus: &Path) -> Result<Vec<Row>> {
    let moments = ["boot", "warm", "busy", "later"];
    let read = |name| {
        let path = corpus.join(format!("{name}.mem"));
        fs::read(&path).with_context(|| path.display().to_string())
    };
    let memories: Vec<_> = moments.into_iter().map(read).collect::<Result<_>>()?;
    let mut times = [vec![Vec::new(); SIZES.len()], vec![Vec::new(); SIZES.len()]];
    let mut costs = [Cost::default(); SIZES.len()];
    for round in 0..=ROUNDS {
        for turn in 0..SIZES.len() {
            let number = match round % 2 {
                0 => turn,
                _ => SIZES.len() - 1 - turn,
            };
            eprintln!("bench: chunks: sweep {round}: {} KiB", SIZES[number] / KIB);
            let (stored, read, cost) = once(place, SIZES[number], &memories)?;
            costs[number] = cost;
            if round > 0 {
                times[0][number].push(stored.as_secs_f64());
                times[1][number].push(read.as_secs_f64());
            }
        }
    }
    Ok(rows(&costs, times))
}

fn rows(costs: &[Cost], times: [Vec<Vec<f64>>; 2]) -> Vec<Row> {
    let note = "The memory of a Linux guest of 256 MiB at four moments, into one store with LZ4, \
                synced, and out again into memory, by the size of chunks; zeros are left out. The \
                limit is what chunks of 64 KiB come to.";
    let [stored, read] = times.map(Times::new);
    let mut rows = Vec::new();
    for (number, size) in SIZES.iter().enumerate() {
        let row = |what: &str, value: f64, limit: f64, unit| Row {
            name: format!("chunks of {} KiB: {what}", size / KIB),
            value,
            unit,
            limit: Some(limit),
            ratio_to_limit: Some(limit / value),
            spread: None,
            peers: BTreeMap::new(),
            note,
        };
        let size_of = |what, pick: fn(&Cost) -> u64| {
            let mib = |cost: &Cost| pick(cost) as f64 / MIB as f64;
            row(what, mib(&costs[number]), mib(&costs[0]), "MiB")
        };
        rows.push(size_of("different bytes", |cost| cost.unique));
        rows.push(size_of("files of the store", |cost| cost.files));
        let mut table = size_of("tables in them", |cost| cost.files - cost.stored);
        table.unit = "MiB";
        rows.push(table);
        for (what, times) in [("in", &stored), ("out", &read)] {
            rows.push(row(what, times.median_ms(number), times.median_ms(0), "ms"));
        }
    }
    rows
}

fn once(place: &Place, size: usize, memories: &[Vec<u8>]) -> Result<(Duration, Duration, Cost)> {
    let dir = place.path("sweep");
    let store = LocalStore::create(&dir)?;
    let mut ids: Vec<ChunkId> = Vec::new();
    let mut cost = Cost::default();
    let stored = timed(|| {
        let push = store.push()?;
        for memory in memories {
            for part in memory.chunks(BATCH) {
                let blocks = part.chunks(size).filter(|bytes| !is_zero(bytes));
                let blocks = blocks.map(|bytes| Block {
                    bytes,
                    expected: None,
                });
                ids.extend(push.put_blocks(&blocks.collect::<Vec<_>>())?);
            }
        }
        let put = push.finish()?;
        (cost.unique, cost.stored) = (put.raw_bytes, put.stored_bytes);
        Ok(())
    })?;
    for entry in fs::read_dir(dir.join("packs"))? {
        cost.files += entry?.metadata()?.len();
    }
    let options = Options {
        cache_bytes: 0,
        ..Options::usual()
    };
    let read = timed(|| {
        let store = LocalStore::open_at(Directory::new(&dir)?, options)?;
        let lost = AtomicUsize::new(0);
        store.visit_many(&ids, &|_, bytes| {
            if !bytes.is_ok_and(|bytes| bytes.len() == size) {
                lost.fetch_add(1, Ordering::Relaxed);
            }
            ControlFlow::Continue(())
        });
        ensure!(
            lost.into_inner() == 0,
            "chunks that are missing, or of another length"
        );
        Ok(())
    })?;
    fs::remove_dir_all(&dir)?;
    Ok((stored, read, cost))
}
