//! Ours.

use std::path::Path;

use anyhow::{Result, ensure};
use coldframe_ring::{Region, RingOptions, RingWal};
use coldframe_storage::FileStorage;
use coldframe_units::{ByteLen, FileOffset};

use crate::wal::plain::LOG_BYTES;
use crate::wal::{Log, Mode};

/// What a region has before its ring: 8 KiB of control blocks.
const HEAD_BYTES: u64 = 8192;

/// A ring WAL in a file of its own.
pub struct Ring(RingWal<FileStorage>);

impl Ring {
    /// Makes one.
    pub fn create(path: &Path, mode: Mode) -> Result<Self> {
        Self::create_with(path, mode, LOG_BYTES)
    }

    /// Makes one with so many bytes for records.
    pub fn create_with(path: &Path, mode: Mode, ring_len: u64) -> Result<Self> {
        let options = match mode {
            Mode::Durable => RingOptions::SYNC_EACH,
            Mode::Unsynced | Mode::Fill => RingOptions::ON_DEMAND,
        };
        let storage = FileStorage::create(path)?;
        Ok(Self(RingWal::create(storage, region(ring_len)?, options)?))
    }

    /// Opens one, which checks every record; says how many there are.
    pub fn open(path: &Path, ring_len: u64) -> Result<usize> {
        let storage = FileStorage::open(path)?;
        let log = RingWal::open(storage, region(ring_len)?, RingOptions::SYNC_EACH)?;
        ensure!(!log.recovery().is_torn(), "a torn log");
        Ok(log.recovery().records as usize)
    }

    /// Opens one, and replays every record on the way.
    pub fn open_and_read(path: &Path, ring_len: u64) -> Result<usize> {
        let mut count = 0;
        let storage = FileStorage::open(path)?;
        let options = RingOptions::SYNC_EACH;
        let log = RingWal::open_with(storage, region(ring_len)?, options, |record| {
            std::hint::black_box(record.payload);
            count += 1;
        })?;
        ensure!(!log.recovery().is_torn(), "a torn log");
        Ok(count)
    }
}

fn region(ring_len: u64) -> Result<Region> {
    let size = ByteLen::new(HEAD_BYTES + ring_len);
    Ok(Region::new(FileOffset::ZERO, size)?)
}

impl Log for Ring {
    fn append(&self, payload: &[u8]) -> Result<()> {
        self.0.append(payload)?;
        Ok(())
    }

    fn append_all(&self, payload: &[u8], count: usize) -> Result<()> {
        self.0.append_batch(&vec![payload; count])?;
        Ok(())
    }

    fn settle(&self) -> Result<()> {
        Ok(self.0.checkpoint(self.0.last_sequence())?)
    }
}
