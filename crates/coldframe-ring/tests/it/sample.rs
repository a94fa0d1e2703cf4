//! Small logs, and ways to look at them.

use std::sync::Arc;

use coldframe_ring::{Recovery, RingError, RingWal};
use coldframe_ring::{Region, RingOptions, Sequence};
use coldframe_storage::{MemStorage, Storage};
use coldframe_units::{ByteLen, FileOffset};
use coldframe_walframe::ring::RING_START;

/// A region at the start of a file whose ring has `ring` bytes.
pub fn region(ring: u64) -> Region {
    Region::new(FileOffset::ZERO, ByteLen::new(RING_START + ring)).unwrap()
}

/// A log in memory.
pub type Log = RingWal<Arc<MemStorage>>;

pub fn create(ring: u64) -> Log {
    RingWal::create(
        Arc::new(MemStorage::new()),
        region(ring),
        RingOptions::SYNC_EACH,
    )
    .unwrap()
}

/// Opens an image; what is done to it stays in the returned log.
pub fn open(image: &[u8], ring: u64) -> Result<RingWal<MemStorage>, RingError> {
    let storage = MemStorage::from_vec(image.to_vec());
    RingWal::open(storage, region(ring), RingOptions::SYNC_EACH)
}

/// All records behind `after`.
pub fn records_after<S: Storage>(log: &RingWal<S>, after: u64) -> Vec<(u64, Vec<u8>)> {
    let mut records = log.records_after(Sequence::new(after));
    let mut found = Vec::new();
    while let Some(entry) = records.next().unwrap() {
        found.push((entry.sequence.get(), entry.payload.to_vec()));
    }
    found
}

pub fn records<S: Storage>(log: &RingWal<S>) -> Vec<(u64, Vec<u8>)> {
    records_after(log, 0)
}

/// What a read-only opening of an image finds.
pub fn inspect(image: &[u8], ring: u64) -> Result<Recovery, RingError> {
    let storage = MemStorage::from_vec(image.to_vec());
    RingWal::open_read_only(storage, region(ring)).map(|reader| reader.recovery().clone())
}

/// A payload that names its number and can be told from all others.
pub fn payload(number: u64, len: usize) -> Vec<u8> {
    let mut bytes = coldframe_testkit::rng::Rng::new(number).bytes(len);
    for (to, from) in bytes.iter_mut().zip(number.to_le_bytes()) {
        *to = from;
    }
    bytes
}
