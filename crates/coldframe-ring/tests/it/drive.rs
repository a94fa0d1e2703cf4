//! What fuzzing does with an input: opens it as a ring, and takes it as a list of operations with
//! power cuts, against a list of payloads. Also replayed by the tests, see `fuzz.rs`.

use std::sync::Arc;

use coldframe_ring::{Region, RingError, RingOptions, RingWal, Salvaged, Sequence};
use coldframe_storage::MemStorage;
use coldframe_testkit::crash::{CrashStorage, SECTOR_512};
use coldframe_units::{ByteLen, FileOffset};
use coldframe_walframe::ring::{Control, RING_START, RegionId};

/// Checks one input.
pub fn check(input: &[u8]) {
    as_ring(input);
    as_operations(input);
}

fn region(ring: u64) -> Region {
    Region::new(FileOffset::ZERO, ByteLen::new(RING_START + ring)).unwrap()
}

/// The input is what is in the ring of a log that is otherwise in order.
fn as_ring(input: &[u8]) {
    let ring = (input.len() as u64).next_multiple_of(16).clamp(64, 1 << 16);
    let mut control = Control::new(RegionId::from_bytes([7; 16]), ring).unwrap();
    control.open_epoch().unwrap();
    let mut image = vec![0; (RING_START + ring) as usize];
    image[..128].copy_from_slice(&control.encode());
    for (to, from) in image[RING_START as usize..].iter_mut().zip(input) {
        *to = *from;
    }
    let storage = MemStorage::from_vec(image.clone());
    let reader = RingWal::open_read_only(&storage, region(ring)).unwrap();
    let found = reader.recovery().clone();
    let mut salvage = reader.salvage();
    let mut sound = 0;
    while let Some(item) = salvage.next().unwrap() {
        sound += u64::from(matches!(item, Salvaged::Record(_)));
    }
    assert!(sound >= found.records);
    let plan = reader.check().unwrap();
    assert_eq!(plan.records, sound);
    drop(reader);
    assert_eq!(storage.to_vec(), image);
    match RingWal::open(&storage, region(ring), RingOptions::SYNC_EACH) {
        Ok(log) => assert_eq!(log.pending(), found.records),
        Err(error) => assert!(error.is_corrupt() && found.is_corrupt(), "{error:?}"),
    }
}

struct Run {
    storage: Arc<CrashStorage>,
    log: RingWal<Arc<CrashStorage>>,
    appended: Vec<Vec<u8>>,
    durable: usize,
    checkpointed: usize,
}

const RING: u64 = 1024;

fn open(image: Vec<u8>) -> (Arc<CrashStorage>, RingWal<Arc<CrashStorage>>) {
    let storage = Arc::new(CrashStorage::new(image));
    let log = RingWal::open(Arc::clone(&storage), region(RING), RingOptions::ON_DEMAND);
    (storage, log.unwrap())
}

/// Two bytes are an operation.
fn as_operations(input: &[u8]) {
    let empty = MemStorage::new();
    drop(RingWal::create(&empty, region(RING), RingOptions::SYNC_EACH).unwrap());
    let (storage, log) = open(empty.into_vec());
    let mut run = Run {
        storage,
        log,
        appended: Vec::new(),
        durable: 0,
        checkpointed: 0,
    };
    for pair in input.chunks_exact(2).take(64) {
        run.apply(pair[0], pair[1]);
    }
}

impl Run {
    fn apply(&mut self, what: u8, how: u8) {
        match what % 8 {
            0..=3 => self.append(how),
            4 => {
                self.log.sync().unwrap();
                self.durable = self.appended.len();
            }
            5 => {
                let pending = self.appended.len() - self.checkpointed;
                let up_to = self.checkpointed + pending * usize::from(how) / 255;
                self.log.checkpoint(Sequence::new(up_to as u64)).unwrap();
                if up_to > self.checkpointed {
                    self.durable = self.appended.len();
                }
                self.checkpointed = up_to;
            }
            _ => self.cut(how),
        }
    }

    fn append(&mut self, how: u8) {
        let payload = vec![self.appended.len() as u8; usize::from(how)];
        match self.log.append(&payload) {
            Ok(sequence) => {
                self.appended.push(payload);
                assert_eq!(sequence.get(), self.appended.len() as u64);
            }
            Err(error) => assert!(matches!(error, RingError::Full { .. }), "{error:?}"),
        }
    }

    /// A power cut; the log goes on with what is left.
    fn cut(&mut self, how: u8) {
        let states = self.storage.crash_states(SECTOR_512, u64::from(how), 64);
        let states: Vec<_> = states.collect();
        let image = states[usize::from(how) % states.len()].clone();
        (self.storage, self.log) = open(image);
        let mut records = self.log.records_after(Sequence::ZERO);
        let mut last = self.checkpointed;
        while let Some(entry) = records.next().unwrap() {
            assert_eq!(entry.sequence.get(), last as u64 + 1);
            assert_eq!(entry.payload, self.appended[last]);
            last += 1;
        }
        assert!(
            last >= self.durable,
            "{last} left, {} promised",
            self.durable
        );
        self.appended.truncate(last);
        self.durable = last;
    }
}
