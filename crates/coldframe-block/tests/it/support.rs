//! Shared by the tests: stores in memory, devices over them, and their bytes.

use std::sync::Arc;

use coldframe_block::{BlockDevice, BlockError, DeviceOptions, DeviceParts, DiskImage, OtherLog};
use coldframe_chunkfile::Compression;
use coldframe_chunks::{Backend, Options, PackStore, TagName};
use coldframe_ring::{Region, RingOptions, RingWal};
use coldframe_storage::{MemStorage, Storage};
use coldframe_testkit::rng::Rng;
use coldframe_units::{ByteLen, FileOffset};

use crate::backend::MemBackend;

pub const PAGE: u64 = 4096;
pub const BLOCK: u64 = 64 << 10;
pub const MIB: u64 = 1 << 20;

pub const STORE: Options = Options {
    compression: Compression::Lz4,
    pack_bytes: 256 << 10,
    threads: 1,
    cache_bytes: 1 << 20,
};

/// Nothing is brought into the store unless a test asks for it.
pub const CALM: DeviceOptions = DeviceOptions {
    dirty_bytes_max: 1 << 30,
    ancestors_max: 3,
    read_ahead_blocks: 0,
    // Many tests go on with another log as if the first one were gone.
    other_log: OtherLog::Abandon,
    take_log: false,
};

pub type MemDevice = BlockDevice<MemBackend, Arc<MemStorage>>;

pub fn name(text: &str) -> TagName {
    text.parse().unwrap()
}

pub fn region(log_bytes: u64) -> Region {
    Region::new(FileOffset::ZERO, ByteLen::new(log_bytes)).unwrap()
}

/// A new log in memory.
pub fn new_log(log_bytes: u64) -> Arc<MemStorage> {
    let storage = Arc::new(MemStorage::new());
    let log = RingWal::create(
        Arc::clone(&storage),
        region(log_bytes),
        RingOptions::ON_DEMAND,
    );
    log.unwrap().close().unwrap();
    storage
}

pub fn new_store() -> (PackStore<MemBackend>, MemBackend) {
    let backend = MemBackend::default();
    let store = PackStore::create_at(backend.clone(), STORE).unwrap();
    (store, backend)
}

pub fn parts<B: Backend, S: Storage>(
    store: &PackStore<B>,
    head: &str,
    log: S,
) -> Result<DeviceParts<B, S>, BlockError> {
    let len = log.len().unwrap();
    let log = RingWal::open(log, region(len.get()), RingOptions::ON_DEMAND);
    Ok(DeviceParts {
        store: store.clone(),
        chunks: None,
        head: name(head),
        log: log.map_err(|source| BlockError::Log { source })?,
        base: None,
    })
}

pub fn open<B: Backend, S: Storage + 'static>(
    store: &PackStore<B>,
    log: S,
    options: DeviceOptions,
) -> Result<BlockDevice<B, S>, BlockError> {
    BlockDevice::open(parts(store, "disk", log)?, options)
}

/// A disk of zeros named `disk`, its store and its log, all in memory.
pub struct Rig {
    pub store: PackStore<MemBackend>,
    pub backend: MemBackend,
    pub log: Arc<MemStorage>,
    pub options: DeviceOptions,
}

impl Rig {
    pub fn new(size: u64, log_bytes: u64, options: DeviceOptions) -> Self {
        let (store, backend) = new_store();
        coldframe_block::create(&store, &name("disk"), ByteLen::new(size)).unwrap();
        Self {
            store,
            backend,
            log: new_log(log_bytes),
            options,
        }
    }

    /// As a process finds it that starts now.
    pub fn open(&self) -> MemDevice {
        self.try_open().unwrap()
    }

    pub fn try_open(&self) -> Result<MemDevice, BlockError> {
        let store = PackStore::open_at(self.backend.clone(), STORE).unwrap();
        open(&store, Arc::clone(&self.log), self.options)
    }

    pub fn image(&self, tag: &str) -> DiskImage<MemBackend> {
        let store = PackStore::open_at(self.backend.clone(), STORE).unwrap();
        DiskImage::open(&store, &name(tag), None).unwrap()
    }
}

pub fn noise(seed: u64, len: u64) -> Vec<u8> {
    Rng::new(seed).bytes(usize::try_from(len).unwrap())
}

pub fn read<B: Backend, S: Storage>(device: &BlockDevice<B, S>, offset: u64, len: u64) -> Vec<u8> {
    let mut bytes = vec![0xee; usize::try_from(len).unwrap()];
    device.read_at(offset, &mut bytes).unwrap();
    bytes
}

pub fn all<B: Backend, S: Storage>(device: &BlockDevice<B, S>) -> Vec<u8> {
    let size = device.size().get();
    let bytes = read(device, 0, size);
    let shared = device.read_shared(0, size).unwrap();
    assert!(
        shared.concat() == bytes,
        "two ways to read, and two answers"
    );
    bytes
}

pub fn all_of<B: Backend>(image: &DiskImage<B>) -> Vec<u8> {
    let mut bytes = vec![0xee; usize::try_from(image.size().get()).unwrap()];
    image.read_at(0, &mut bytes).unwrap();
    let shared = image.read_shared(0, image.size().get()).unwrap();
    assert!(
        shared.concat() == bytes,
        "two ways to read, and two answers"
    );
    bytes
}

/// Panics at the first byte that differs, instead of printing all of them.
#[track_caller]
pub fn assert_same(found: &[u8], expected: &[u8], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    if let Some(at) = found.iter().zip(expected).position(|(a, b)| a != b) {
        panic!(
            "{what}: {:#x} instead of {:#x} at {at}",
            found[at], expected[at]
        );
    }
}
