//! One thread appends: each record synced, batches with one sync, and without a sync.

use anyhow::Result;

use crate::harness::{Row, timed};
use crate::place::Place;
use crate::wal::{Field, Log, Mode, payload, size_name};

/// Sizes of payload.
pub const SIZES: [usize; 4] = [128, 1024, 16_384, 65_536];

const BATCH: usize = 64;

const SYNC_EACH: &str = "One append, durable when it returns; the limit is pwrite of the payload \
    into a written file and fdatasync. Synced and checked by ring, okaywal, raft-engine, redb and \
    SQLite (WAL, synchronous=FULL); memvid checks payloads but no headers.";
const BATCHED: &str = "One append of a batch of 64, durable as a whole: one thread, one sync; the \
    limit is 64 times pwrite and one fdatasync. Peers with their own batches: 64 chunks of an \
    entry, 64 entries, one transaction, skip_sync and flush.";
const UNSYNCED: &str = "One append without a sync, all checksums on; the limit is pwrite. \
    okaywal cannot. SQLite: synchronous=NORMAL; redb: Durability::None, which writes later.";

/// All rows.
pub fn run(place: &Place) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (mode, count, rounds, what, note) in [
        (Mode::Durable, 16, 41, "sync each", SYNC_EACH),
        (Mode::Durable, BATCH, 21, "batch of 64", BATCHED),
        (Mode::Unsynced, 128, 41, "no sync", UNSYNCED),
    ] {
        let field = Field::new(place, mode)?;
        for size in SIZES {
            let payload = payload(size);
            let turn = |log: &dyn Log| {
                timed(|| {
                    if note == BATCHED {
                        return log.append_all(&payload, count);
                    }
                    for _ in 0..count {
                        log.append(&payload)?;
                    }
                    Ok(())
                })
            };
            let name = format!("wal: append {}, {what}", size_name(size));
            let row = field.race(place, rounds, &turn, &turn, (name, note))?;
            rows.push(row.each(count));
        }
    }
    Ok(rows)
}
