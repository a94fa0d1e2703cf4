//! Many threads append, each record durable when its append returns: one sync serves all that
//! wait.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::harness::{Row, timed};
use crate::place::Place;
use crate::wal::{Field, Log, Mode, payload, size_name};

/// Records of each thread in a turn: so many that how the threads set out does not count.
const EACH: usize = 64;

const NOTE: &str = "One append by one of several threads, durable when it returns; the limit is \
    the same grouping by one thread: as many times pwrite as there are threads, and one fdatasync. \
    Of the peers okaywal and raft-engine commit in groups, the others one by one.";

/// All rows.
pub fn run(place: &Place) -> Result<Vec<Row>> {
    let field = Field::new(place, Mode::Durable)?;
    let mut rows = Vec::new();
    for size in [128, 1024] {
        let payload = payload(size);
        for threads in [1, 8, 64] {
            let ours = |log: &dyn Log| together(log, &payload, threads);
            let limit = |log: &dyn Log| {
                timed(|| (0..EACH).try_for_each(|_| log.append_all(&payload, threads)))
            };
            let name = format!("wal: append {}, {threads} threads", size_name(size));
            let row = field.race(place, 15, &ours, &limit, (name, NOTE))?;
            rows.push(row.each(threads * EACH));
        }
    }
    Ok(rows)
}

/// From the first thread that sets out to the last that is done.
fn together(log: &dyn Log, payload: &[u8], threads: usize) -> Result<Duration> {
    let barrier = Barrier::new(threads);
    let work = || {
        barrier.wait();
        let start = Instant::now();
        for _ in 0..EACH {
            log.append(payload)?;
        }
        Ok((start, Instant::now()))
    };
    let spans = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let ends = threads.into_iter().map(|thread| {
            let joined = thread.join();
            joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        ends.collect::<Result<Vec<_>>>()
    })?;
    let first = spans.iter().map(|(start, _)| *start).min();
    let last = spans.iter().map(|(_, end)| *end).max();
    let (first, last) = first.zip(last).context("there is a thread")?;
    Ok(last - first)
}
