//! Power cuts: after every write of the log and every change of the store, with all that a disk
//! may make of what was not synced.

mod cached;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod directory;

use std::path::Path;
use std::sync::{Arc, Mutex};

use coldframe_block::{BlockDevice, DiskImage, Shrink};
use coldframe_chunks::PackStore;
use coldframe_storage::{MemStorage, Overwrite, Storage, StorageError};
use coldframe_testkit::crash::{CrashStorage, SECTOR_4K, SECTOR_512};
use coldframe_units::{ByteLen, FileOffset};

use crate::backend::MemBackend;
use crate::support::{CALM, PAGE, STORE, all, all_of, name, new_log, new_store, noise, open};

const LOG: u64 = 256 << 10;
const PAGES: u64 = 24;

/// A log that notes, for each of its operations, how often the store had changed before it.
#[derive(Debug)]
struct Traced {
    storage: CrashStorage,
    backend: MemBackend,
    store_changes: Mutex<Vec<usize>>,
}

impl Traced {
    fn note(&self) {
        let mut noted = self.store_changes.lock().unwrap();
        noted.resize(self.storage.operations(), self.backend.history().len());
    }

    fn now(&self) -> Moment {
        Moment {
            log: self.storage.operations(),
            store: self.backend.history().len(),
        }
    }
}

impl Storage for Traced {
    fn read_at(&self, offset: FileOffset, buf: &mut [u8]) -> Result<(), StorageError> {
        self.storage.read_at(offset, buf)
    }

    fn write_at(&self, offset: FileOffset, bytes: &[u8]) -> Result<(), StorageError> {
        self.storage.write_at(offset, bytes)?;
        self.note();
        Ok(())
    }

    fn len(&self) -> Result<ByteLen, StorageError> {
        self.storage.len()
    }

    fn set_len(&self, len: ByteLen) -> Result<(), StorageError> {
        self.storage.set_len(len)?;
        self.note();
        Ok(())
    }

    fn sync_data(&self) -> Result<(), StorageError> {
        self.storage.sync_data()?;
        self.note();
        Ok(())
    }

    fn path(&self) -> &Path {
        self.storage.path()
    }
}

/// How much of both had happened.
#[derive(Clone, Copy, Debug)]
struct Moment {
    log: usize,
    store: usize,
}

impl Moment {
    const fn is_past(self, crash: Self) -> bool {
        self.log <= crash.log && self.store <= crash.store
    }
}

type Device = BlockDevice<MemBackend, Arc<Traced>>;

/// The disk at some moments: what must be there from one on, and what may be from another on.
struct Story {
    log: Arc<Traced>,
    device: Device,
    bytes: Vec<u8>,
    /// The bytes after each change, and when it began.
    states: Vec<(Moment, Vec<u8>)>,
    /// Which state is the oldest allowed, from when on.
    durable: Vec<(Moment, usize)>,
    checkpoints: Vec<(String, Moment, Moment, Vec<u8>)>,
}

impl Story {
    fn new(size: u64) -> Self {
        let (store, backend) = new_store();
        coldframe_block::create(&store, &name("disk"), ByteLen::new(size)).unwrap();
        let log = Arc::new(Traced {
            storage: CrashStorage::new(new_log(LOG).to_vec()),
            backend,
            store_changes: Mutex::default(),
        });
        let device = open(&store, Arc::clone(&log), CALM).unwrap();
        let bytes = vec![0; usize::try_from(size).unwrap()];
        let now = log.now();
        Self {
            log,
            device,
            states: vec![(now, bytes.clone())],
            bytes,
            durable: vec![(now, 0)],
            checkpoints: Vec::new(),
        }
    }

    fn write(&mut self, page: u64, pages: u64, seed: u64) {
        let data = noise(seed, pages * PAGE);
        // Each page may become durable without the others.
        let begun = self.log.now();
        self.device.write_at(page * PAGE, &data).unwrap();
        let at = usize::try_from(page * PAGE).unwrap();
        self.bytes[at..][..data.len()].copy_from_slice(&data);
        self.states.push((begun, self.bytes.clone()));
    }

    fn zero(&mut self, page: u64, pages: u64) {
        let begun = self.log.now();
        self.device.write_zeroes(page * PAGE, pages * PAGE).unwrap();
        let (at, len) = (page * PAGE, pages * PAGE);
        self.bytes[usize::try_from(at).unwrap()..][..usize::try_from(len).unwrap()].fill(0);
        self.states.push((begun, self.bytes.clone()));
    }

    fn flush(&mut self) {
        self.device.flush().unwrap();
        self.durable.push((self.log.now(), self.states.len() - 1));
    }

    fn fold(&mut self) {
        self.device.fold().unwrap();
        self.durable.push((self.log.now(), self.states.len() - 1));
    }

    fn checkpoint(&mut self, tag: &str) {
        let begun = self.log.now();
        self.device
            .checkpoint(&name(tag), Overwrite::Refuse)
            .unwrap();
        let bytes = self.bytes.clone();
        self.checkpoints
            .push((tag.to_owned(), begun, self.log.now(), bytes));
        self.durable.push((self.log.now(), self.states.len() - 1));
    }

    /// Cuts the power everywhere; returns how many states were looked at.
    fn check(&self, budget: usize) -> usize {
        let noted = self.log.store_changes.lock().unwrap();
        let history = self.log.backend.history();
        let mut looked_at = 0;
        let first = self.durable[0].0;
        for log in first.log..=self.log.storage.operations() {
            let from = noted[log - 1].max(first.store);
            let to = noted.get(log).map_or(history.len(), |next| *next);
            for store in from..=to {
                let crash = Moment { log, store };
                let sector = if log % 2 == 0 { SECTOR_512 } else { SECTOR_4K };
                let seed = (log * 31 + store) as u64;
                for image in self.log.storage.crash_states_at(log, sector, seed, budget) {
                    let files = MemBackend::with_files(history[store - 1].clone());
                    self.check_crash(crash, image, files);
                    looked_at += 1;
                }
            }
        }
        looked_at
    }

    #[track_caller]
    fn check_crash(&self, crash: Moment, log: Vec<u8>, backend: MemBackend) {
        let store = PackStore::open_at(backend.clone(), STORE).unwrap();
        let log = Arc::new(MemStorage::from_vec(log));
        let device = open(&store, Arc::clone(&log), CALM)
            .unwrap_or_else(|error| panic!("{crash:?}: {error}: {error:?}"));
        let found = all(&device);
        let durable = self.durable.iter().rev().find(|(at, _)| at.is_past(crash));
        let oldest = durable.map_or(0, |(_, state)| *state);
        let newest = self
            .states
            .iter()
            .rposition(|(begun, _)| begun.is_past(crash))
            .unwrap();
        for page in 0..PAGES {
            let at = usize::try_from(page * PAGE).unwrap();
            let part = |bytes: &[u8]| bytes[at..][..4096].to_vec();
            let mut allowed = self.states[oldest..=newest.max(oldest)].iter();
            let is_known = allowed.any(|(_, bytes)| part(bytes) == part(&found));
            assert!(is_known, "{crash:?}: page {page} is neither old nor new");
        }
        for (tag, begun, done, bytes) in &self.checkpoints {
            let is_there = store.tag(&name(tag)).unwrap().is_some();
            assert!(is_there || !done.is_past(crash), "{crash:?}: {tag} is lost");
            assert!(
                !is_there || begun.is_past(crash),
                "{crash:?}: {tag} is invented"
            );
            if is_there {
                let image = DiskImage::open(&store, &name(tag), None).unwrap();
                assert!(
                    all_of(&image) == *bytes,
                    "{crash:?}: {tag} is a third thing"
                );
            }
        }
        // What was recovered is as good as any: it folds, and is the same when opened again.
        device.fold().unwrap();
        drop(device);
        let again = open(&store, log, CALM).unwrap();
        assert!(
            all(&again) == found,
            "{crash:?}: not the same when opened again"
        );
        assert!(store.verify(&[]).unwrap().is_sound());
    }
}

// Spec: BLK-10, BLK-21, BLK-22
// Parity: D25, D31b, F36
#[test]
fn a_power_cut_leaves_what_was_flushed_and_of_the_rest_old_or_new() {
    let mut story = Story::new(PAGES * PAGE);
    story.write(0, 1, 1);
    story.write(3, 2, 2);
    story.flush();
    story.write(3, 1, 3);
    story.zero(16, 4);
    story.flush();
    story.write(17, 1, 4);
    story.checkpoint("monday");
    story.write(0, 1, 5);
    story.flush();
    story.write(20, 4, 6);
    story.fold();
    story.zero(0, 24);
    story.write(5, 1, 7);
    story.checkpoint("tuesday");
    let looked_at = story.check(24);
    assert!(looked_at > 300, "{looked_at} states only");
}

// Spec: BLK-13
// Parity: F33
#[test]
fn a_power_cut_in_a_resize_leaves_the_old_size_or_the_new_one() {
    let (store, backend) = new_store();
    let (old, new) = (5 * PAGE + 100, 40 * PAGE + 7);
    coldframe_block::create(&store, &name("disk"), ByteLen::new(old)).unwrap();
    let log = Arc::new(CrashStorage::new(new_log(LOG).to_vec()));
    let device = open(&store, Arc::clone(&log), CALM).unwrap();
    let data = noise(9, old);
    device.write_at(0, &data).unwrap();
    device.flush().unwrap();
    let sizes = [old, new, 2 * PAGE + 50, old];
    for (number, pair) in sizes.windows(2).enumerate() {
        let begun = log.operations();
        device.resize(ByteLen::new(pair[1]), Shrink::Allow).unwrap();
        for moment in begun..=log.operations() {
            for image in log.crash_states_at(moment, SECTOR_512, moment as u64, 8) {
                let store = PackStore::open_at(backend.clone(), STORE).unwrap();
                let found = open(&store, Arc::new(MemStorage::from_vec(image)), CALM).unwrap();
                let size = found.size().get();
                assert!(pair.contains(&size), "{size} in {pair:?}");
                let bytes = all(&found);
                let kept = if number == 2 {
                    2 * PAGE + 50
                } else {
                    old.min(size)
                };
                let kept = usize::try_from(kept.min(size)).unwrap();
                assert!(bytes[..kept] == data[..kept]);
                assert!(bytes[kept..].iter().all(|byte| *byte == 0));
            }
        }
        assert_eq!(device.size().get(), pair[1]);
    }
}
