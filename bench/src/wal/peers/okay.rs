//! okaywal: segments, group commit. Syncs, checks the CRC of chunks when it is asked to.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use okaywal::{
    Configuration, Entry, EntryId, LogManager, ReadChunkResult, SegmentReader, WriteAheadLog,
};

use crate::wal::plain::LOG_BYTES;
use crate::wal::{Log, Mode, Peer};

pub const PEER: Peer = Peer {
    name: "okaywal",
    unsynced: false,
    open,
    recover,
};

struct Okay {
    log: WriteAheadLog,
}

/// Counts what is recovered; what is checkpointed is dropped.
#[derive(Debug)]
struct Count(Arc<AtomicUsize>);

impl LogManager for Count {
    fn recover(&mut self, entry: &mut Entry<'_>) -> io::Result<()> {
        while let ReadChunkResult::Chunk(mut chunk) = entry.read_chunk()? {
            std::hint::black_box(chunk.read_all()?);
            if !chunk.check_crc()? {
                return Err(io::ErrorKind::InvalidData.into());
            }
            self.0.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn checkpoint_to(
        &mut self,
        _: EntryId,
        _: &mut SegmentReader,
        _: &WriteAheadLog,
    ) -> io::Result<()> {
        Ok(())
    }
}

fn log(dir: PathBuf, mode: Mode, count: &Arc<AtomicUsize>) -> Result<WriteAheadLog> {
    // What is filled is not to be checkpointed.
    let checkpoint = match mode {
        Mode::Fill => u64::MAX,
        Mode::Durable | Mode::Unsynced => LOG_BYTES * 3 / 4,
    };
    Ok(Configuration::default_for(dir)
        .preallocate_bytes(LOG_BYTES as u32)
        .checkpoint_after_bytes(checkpoint)
        .open(Count(Arc::clone(count)))?)
}

fn open(dir: PathBuf, mode: Mode) -> Result<Box<dyn Log>> {
    Ok(Box::new(Okay {
        log: log(dir, mode, &Arc::default())?,
    }))
}

fn recover(dir: PathBuf) -> Result<usize> {
    let count = Arc::default();
    let log = log(dir, Mode::Fill, &count)?;
    drop(log);
    Ok(count.load(Ordering::Relaxed))
}

impl Log for Okay {
    fn append(&self, payload: &[u8]) -> Result<()> {
        self.append_all(payload, 1)
    }

    fn append_all(&self, payload: &[u8], count: usize) -> Result<()> {
        let mut entry = self.log.begin_entry()?;
        for _ in 0..count {
            entry.write_chunk(payload)?;
        }
        entry.commit()?;
        Ok(())
    }

    fn settle(&self) -> Result<()> {
        // It makes room by itself, on a thread of its own.
        Ok(())
    }
}
