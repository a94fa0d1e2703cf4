//! Power cuts at every operation, in every way, against what was acknowledged.

use std::sync::Arc;

use coldframe_storage::{MemStorage, Storage};
use coldframe_testkit::crash::{CrashStorage, SECTOR_4K, SECTOR_512};
use coldframe_testkit::rng::Rng;
use coldframe_units::ByteLen;
use coldframe_wal::ring::{RingError, RingWal};
use coldframe_wal::{Region, RingOptions, Sequence};

use super::sample::{create, payload, records, region};

/// What was true at one moment of a run.
#[derive(Clone, Default)]
struct Known {
    /// Operations so far.
    moment: usize,
    /// All payloads handed to append, record 1 first.
    appended: Vec<Vec<u8>>,
    /// The last record that was acknowledged as durable.
    durable: u64,
    /// The last record whose checkpoint began.
    checkpoint: u64,
}

struct Run {
    storage: Arc<CrashStorage>,
    log: RingWal<Arc<CrashStorage>>,
    known: Vec<Known>,
}

impl Run {
    fn new(ring: u64, options: RingOptions) -> Self {
        let image = {
            let log = create(ring);
            let storage = Arc::clone(&log_storage(&log));
            drop(log);
            storage.to_vec()
        };
        let storage = Arc::new(CrashStorage::new(image));
        let log = RingWal::open(Arc::clone(&storage), region(ring), options).unwrap();
        let known = Known {
            moment: storage.operations(),
            ..Known::default()
        };
        Self {
            storage,
            log,
            known: vec![Known::default(), known],
        }
    }

    fn last(&self) -> Known {
        self.known.last().unwrap().clone()
    }

    /// What is about to happen counts from the first operation on, not from the return.
    fn begin(&mut self, known: Known) {
        let moment = self.storage.operations();
        self.known.push(Known { moment, ..known });
    }

    fn end(&mut self, known: Known) {
        self.begin(known);
    }

    fn append(&mut self, len: usize, durable: bool) -> bool {
        let mut known = self.last();
        known
            .appended
            .push(payload(known.appended.len() as u64 + 1, len));
        let bytes = known.appended.last().unwrap().clone();
        let before = self.last();
        self.begin(known.clone());
        match self.log.append(&bytes) {
            Ok(sequence) => {
                assert_eq!(sequence.get(), known.appended.len() as u64);
                if durable {
                    known.durable = sequence.get();
                }
                self.end(known);
                true
            }
            Err(RingError::Full { .. }) => {
                self.end(before);
                false
            }
            Err(error) => panic!("{error:?}"),
        }
    }

    fn sync(&mut self) {
        let mut known = self.last();
        self.log.sync().unwrap();
        known.durable = known.appended.len() as u64;
        self.end(known);
    }

    fn checkpoint(&mut self, up_to: u64) {
        let mut known = self.last();
        known.checkpoint = up_to;
        self.begin(known.clone());
        self.log.checkpoint(Sequence::new(up_to)).unwrap();
        known.durable = known.appended.len() as u64;
        self.end(known);
    }

    /// Cuts at every operation.
    fn check(&self, region: Region, seed: u64, budget: usize) -> usize {
        let mut states = 0;
        for moment in 0..=self.storage.operations() {
            // What was promised by then, and what was begun by then.
            let promised = self
                .known
                .iter()
                .rfind(|known| known.moment <= moment)
                .unwrap();
            let begun = self.known.iter().find(|known| known.moment >= moment);
            let begun = begun.unwrap_or(promised);
            let seed = seed ^ moment as u64;
            for sector in [SECTOR_512, SECTOR_4K] {
                for image in self.storage.crash_states_at(moment, sector, seed, budget) {
                    check_image(image, region, promised, begun, moment);
                    states += 1;
                }
            }
        }
        states
    }
}

fn log_storage(log: &RingWal<Arc<MemStorage>>) -> Arc<MemStorage> {
    Arc::clone(log.storage())
}

fn check_image(image: Vec<u8>, region: Region, promised: &Known, begun: &Known, moment: usize) {
    let storage = MemStorage::from_vec(image.clone());
    let reader = RingWal::open_read_only(&storage, region).unwrap();
    let before = reader.recovery().clone();
    drop(reader);
    assert_eq!(storage.to_vec(), image, "reading wrote, moment {moment}");
    let log = RingWal::open(&storage, region, RingOptions::SYNC_EACH);
    let log = log.unwrap_or_else(|error| panic!("moment {moment}: {error}"));
    let found = records(&log);
    assert_eq!(found.len() as u64, before.records);
    let tail = log.stats().checkpointed.get();
    let last = tail + found.len() as u64;
    assert!(
        tail <= begun.checkpoint,
        "moment {moment}: checkpointed {tail}"
    );
    assert!(
        last >= promised.durable,
        "moment {moment}: {last} found, {} promised, {:?}",
        promised.durable,
        before.end
    );
    for (record, number) in found.iter().zip(tail + 1..) {
        let expected = begun.appended.get(number as usize - 1);
        assert_eq!(Some(&record.1), expected, "moment {moment}");
        assert_eq!(record.0, number);
    }
    // The log goes on, and what goes on survives the next opening too.
    if let Ok(next) = log.append(b"afterwards") {
        assert_eq!(next.get(), last + 1);
        drop(log);
        let again = RingWal::open(&storage, region, RingOptions::SYNC_EACH).unwrap();
        assert_eq!(again.recovery().torn_bytes, 0);
        let mut expected = found;
        expected.push((last + 1, b"afterwards".to_vec()));
        assert_eq!(records(&again), expected);
    }
}

// Spec: RING-5, RING-20, RING-22, RING-30
#[test]
fn synced_appends_survive_any_cut() {
    let mut run = Run::new(1024, RingOptions::SYNC_EACH);
    for len in [0, 1, 15, 16, 17, 100, 200] {
        assert!(run.append(len, true));
    }
    let states = run.check(region(1024), 1, 200);
    println!("{states} states");
}

// Spec: RING-22, RING-31
#[test]
fn unsynced_appends_leave_a_prefix_after_any_cut() {
    let mut run = Run::new(2048, RingOptions::ON_DEMAND);
    for len in [40, 300, 0, 80] {
        assert!(run.append(len, false));
    }
    run.sync();
    for len in [5, 500, 16, 100] {
        assert!(run.append(len, false));
    }
    println!("{} states", run.check(region(2048), 2, 200));
}

// Spec: RING-12, RING-40
#[test]
fn wraps_and_checkpoints_survive_any_cut() {
    for room in [0, 16, 32, 48, 64, 80] {
        let ring = 512 + room;
        let mut run = Run::new(ring, RingOptions::SYNC_EACH);
        let mut rng = Rng::new(room);
        for _ in 0..14 {
            let len = rng.below(120) as usize;
            if !run.append(len, true) {
                let (tail, last) = (run.last().checkpoint, run.last().appended.len() as u64);
                run.checkpoint(tail + 1 + rng.below(last - tail));
            }
        }
        run.check(region(ring), room, 60);
    }
}

// Spec: RING-14, RING-22
#[test]
fn phantoms_of_a_dropped_tail_never_come_back() {
    // Unsynced records whose first is lost and whose later ones are whole, then equal ones anew.
    let mut run = Run::new(2048, RingOptions::ON_DEMAND);
    for _ in 0..4 {
        run.append(32, false);
    }
    let moment = run.storage.operations();
    for image in run.storage.crash_states_at(moment, SECTOR_512, 3, 5000) {
        let storage = Arc::new(CrashStorage::new(image));
        let options = RingOptions::ON_DEMAND;
        let log = RingWal::open(Arc::clone(&storage), region(2048), options).unwrap();
        let kept = records(&log).len() as u64;
        let new = log.append(&payload(77, 32)).unwrap();
        assert_eq!(new.get(), kept + 1);
        for again in storage.crash_states(SECTOR_512, 4, 50) {
            let log = super::sample::open(&again, 2048).unwrap();
            let found = records(&log);
            assert!(found.len() as u64 <= kept + 1, "an old record came back");
            if let Some(last) = found.get(kept as usize) {
                assert_eq!(last.1, payload(77, 32));
            }
        }
    }
}

// Spec: RING-50, RING-51
#[test]
fn growing_survives_any_cut() {
    // Records on one side of the seam, and on both.
    for appends in [3, 9] {
        let mut run = Run::new(512, RingOptions::SYNC_EACH);
        for _ in 0..appends {
            if !run.append(60, true) {
                let done = run.last().checkpoint;
                run.checkpoint(done + 2);
                assert!(run.append(60, true));
            }
        }
        let grown = region(1536);
        run.log.grow(grown.size()).unwrap();
        let known = run.last();
        run.end(known);
        run.append(600, true);
        let mut rng = Rng::new(appends);
        let known = &run.known;
        for moment in 0..=run.storage.operations() {
            let promised = known.iter().rfind(|known| known.moment <= moment).unwrap();
            let begun = known.iter().find(|known| known.moment >= moment);
            let begun = begun.unwrap_or(promised);
            for image in run
                .storage
                .crash_states_at(moment, SECTOR_512, rng.next_u64(), 60)
            {
                // The file may be as long as before or longer: both are fine.
                check_image(image, grown, promised, begun, moment);
            }
        }
    }
}

// Spec: RING-2
#[test]
fn creation_leaves_no_log_or_an_empty_one() {
    let storage = Arc::new(CrashStorage::new(vec![0xee; 20_000]));
    let log = RingWal::create(Arc::clone(&storage), region(1024), RingOptions::SYNC_EACH).unwrap();
    drop(log);
    for moment in 0..=storage.operations() {
        for image in storage.crash_states_at(moment, SECTOR_512, 9, 100) {
            match RingWal::open(
                MemStorage::from_vec(image),
                region(1024),
                RingOptions::SYNC_EACH,
            ) {
                Ok(log) => assert_eq!(log.pending(), 0),
                Err(error) => assert!(error.is_foreign() || error.is_corrupt(), "{error:?}"),
            }
        }
    }
    assert_eq!(storage.len().unwrap(), ByteLen::new(20_000));
}
