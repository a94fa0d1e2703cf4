//! A copy-on-write disk in this process, without a server: checkpoints, writes, flushes, reads.

use std::cell::Cell;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use anyhow::Result;
use coldframe_block::{BlockDevice, DeviceOptions, DeviceParts, create, open_log};
use coldframe_chunks::{Directory, LocalStore};
use coldframe_storage::{FileStorage, Overwrite};
use coldframe_units::ByteLen;

use crate::guest::{GIB, MIB, PAGE, Random};
use crate::harness::{Row, Times, race, timed};
use crate::place::Place;
use crate::wal::{filled, payload};

const TIB: u64 = 1 << 40;

/// Changed chunks of a checkpoint.
const CHANGED: u64 = 100;

/// Checkpoints: more than the chain of indexes may be long, so that one of them is written whole.
const CHECKPOINTS: usize = 40;

/// The log of each disk, as the command makes it.
const LOG_BYTES: u64 = 256 * MIB;

/// What fits into the chunk cache.
const READ_BYTES: u64 = 64 * MIB;

const CHECKPOINT: &str = "A checkpoint of a sparse disk of 1 TiB with one page of 4 KiB changed \
                          in each of 100 chunks, all of it durable, against stated bounds. Its \
                          index is what a checkpoint writes beside the changed chunks \
                          themselves. The slowest and the largest are those of an index that is \
                          written whole: it has all chunks of the disk.";

const WRITE: &str = "One write of 4 KiB at a random page of 1 GiB, log and memory; the limit is \
                     pwrite of the same bytes into a written file, one behind the other.";

const FLUSH: &str = "The same, and a flush after each; the limit is pwrite and fdatasync.";

const READ: &str = "One read of 4 KiB at a random page, all chunks in memory; the limit is pread \
                    of a file in the page cache.";

type Disk = BlockDevice<Directory, FileStorage>;

/// All rows of the group.
pub fn run(place: &Place) -> Result<Vec<Row>> {
    let mut rows = checkpoints(place)?;
    rows.extend(writes(place)?);
    rows.push(reads(place)?);
    Ok(rows)
}

/// An empty disk in a store of its own.
fn disk(place: &Place, name: &str, size: u64) -> Result<Disk> {
    let store = LocalStore::create(&place.path(&format!("{name}.store")))?;
    let head = name.parse()?;
    create(&store, &head, ByteLen::new(size))?;
    let log = open_log(&place.path(&format!("{name}.wal")), ByteLen::new(LOG_BYTES))?;
    let parts = DeviceParts {
        store,
        chunks: None,
        head,
        log,
        base: None,
    };
    Ok(BlockDevice::open(parts, DeviceOptions::USUAL)?)
}

fn checkpoints(place: &Place) -> Result<Vec<Row>> {
    let disk = disk(place, "sparse", TIB)?;
    let mut random = Random(3);
    let (mut times, mut indexes) = (Vec::new(), Vec::new());
    for number in 0..=CHECKPOINTS {
        for _ in 0..CHANGED {
            let page = random.next() % (TIB / PAGE);
            let mut bytes = payload(PAGE as usize);
            bytes[..8].copy_from_slice(&random.next().to_le_bytes());
            disk.write_at(page * PAGE, &bytes)?;
        }
        let name = format!("sparse@{number}").parse()?;
        let mut folded = None;
        let time = timed(|| {
            folded = Some(disk.checkpoint(&name, Overwrite::Refuse)?);
            Ok(())
        })?;
        // The first does not count.
        if number > 0 {
            times.push(time.as_secs_f64());
            indexes.push(folded.map_or(0, |folded| folded.index_bytes));
        }
    }
    let slowest = times.iter().copied().fold(0.0, f64::max) * 1e3;
    let median = Times::new(vec![times]).median_ms(0);
    indexes.sort_unstable();
    let kib = |at: usize| indexes[at] as f64 / 1024.0;
    let row = |what: &str, value, unit, bound| {
        let name = format!("block: checkpoint, 1 TiB, {what}");
        Row::bound(name, CHECKPOINT, value, unit, bound)
    };
    Ok(vec![
        row("100 chunks", median, "ms", 50.0),
        row("slowest of 40", slowest, "ms", 50.0),
        row("index", kib(CHECKPOINTS / 2), "KiB", 64.0),
        row("largest index of 40", kib(CHECKPOINTS - 1), "KiB", 64.0),
    ])
}

fn writes(place: &Place) -> Result<Vec<Row>> {
    let disk = disk(place, "written", GIB)?;
    let file = filled(&place.path("written"), LOG_BYTES)?;
    let bytes = payload(PAGE as usize);
    let mut rows = Vec::new();
    for (name, note, count, rounds, is_flushed) in [
        ("block: write 4 KiB", WRITE, 8192, 15, false),
        ("block: write 4 KiB and flush", FLUSH, 32, 41, true),
    ] {
        let (mut random, at) = (Random(5), Cell::new(0));
        let ours = || -> Result<Duration> {
            let time = timed(|| {
                for _ in 0..count {
                    disk.write_at(random.next() % (GIB / PAGE) * PAGE, &bytes)?;
                    if is_flushed {
                        disk.flush()?;
                    }
                }
                Ok(())
            });
            disk.fold()?;
            time
        };
        let limit = || -> Result<Duration> {
            let time = timed(|| {
                for _ in 0..count {
                    file.write_all_at(&bytes, at.get())?;
                    at.set((at.get() + PAGE) % LOG_BYTES);
                    if is_flushed {
                        file.sync_data()?;
                    }
                }
                Ok(())
            });
            file.sync_data()?;
            time
        };
        let times = race(place, rounds, &mut [Box::new(ours), Box::new(limit)])?;
        rows.push(Row::race(name, note, &times, Some(1), &[]).each(count));
    }
    Ok(rows)
}

fn reads(place: &Place) -> Result<Row> {
    const COUNT: usize = 100_000;
    let disk = disk(place, "read", READ_BYTES)?;
    let bytes = payload(READ_BYTES as usize);
    disk.write_at(0, &bytes)?;
    disk.fold()?;
    let mut all = vec![0; READ_BYTES as usize];
    disk.read_at(0, &mut all)?;
    let file = filled(&place.path("read"), READ_BYTES)?;
    let pages = READ_BYTES / PAGE;
    let read = |seed, read: &dyn Fn(&mut [u8], u64) -> Result<()>| {
        let (mut random, mut page) = (Random(seed), vec![0; PAGE as usize]);
        timed(|| {
            for _ in 0..COUNT {
                read(&mut page, random.next() % pages * PAGE)?;
                black_box(&page);
            }
            Ok(())
        })
    };
    let ours = || read(9, &|page, at| Ok(disk.read_at(at, page)?));
    let limit = || read(9, &|page, at| Ok(file.read_exact_at(page, at)?));
    let times = race(place, 15, &mut [Box::new(ours), Box::new(limit)])?;
    let row = Row::race("block: read 4 KiB, cached", READ, &times, Some(1), &[]);
    Ok(row.each(COUNT))
}
