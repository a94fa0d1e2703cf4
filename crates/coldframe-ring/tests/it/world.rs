//! The ring as the crash simulator sees it: operations, and what a power cut must leave of them.

use std::sync::Arc;

use coldframe_ring::{Region, RingOptions, Sequence};
use coldframe_ring::{RingError, RingWal};
use coldframe_storage::{MemStorage, Storage};
use coldframe_testkit::crash::{CrashStorage, Cuts, Drops, SECTOR_512, Timeline, World};
use coldframe_testkit::rng::Rng;
use coldframe_walframe::ring::RING_START;

use super::sample::{create, payload, records, region};

/// An operation of a workload.
#[derive(Clone, Debug)]
pub enum Step {
    /// One record with a payload of so many bytes.
    Append(usize),
    /// Several in one write.
    Batch(Vec<usize>),
    Sync,
    /// Up to so many 256ths of what is pending.
    Checkpoint(u8),
    /// By so many bytes.
    Grow(u64),
    /// Closes the log and opens it again.
    Close,
    /// The power is cut; the log goes on from what this seed picks.
    PowerCut(u64),
}

/// Rings of this size at first, written so, on storage that may lie.
pub struct Ring {
    pub bytes: u64,
    pub options: RingOptions,
    pub lie: Option<Drops>,
}

/// What is true of a log.
#[derive(Clone, Default)]
pub struct Known {
    /// All payloads handed to append, record 1 first.
    pub appended: Vec<Vec<u8>>,
    /// The last record that was acknowledged as durable.
    pub durable: u64,
    /// The last record whose checkpoint began.
    pub checkpoint: u64,
}

struct Run {
    storage: Arc<CrashStorage>,
    // None for a moment, while it is closed.
    log: Option<RingWal<Arc<CrashStorage>>>,
    known: Timeline<Known>,
    is_durable: bool,
    // Payloads are never the same twice, also when a number is given again.
    fresh: u64,
}

impl World for Ring {
    type Step = Step;

    fn draw(&self, rng: &mut Rng) -> Vec<Step> {
        let len = |rng: &mut Rng| match rng.below(4) {
            0 => rng.below(20),
            1 => rng.below(600),
            _ => rng.below(140),
        };
        let step = |rng: &mut Rng| match rng.below(20) {
            0..=8 => Step::Append(len(rng) as usize),
            9..=10 => Step::Batch((0..2 + rng.below(3)).map(|_| len(rng) as usize).collect()),
            11..=12 => Step::Sync,
            13..=16 => Step::Checkpoint(rng.below(256) as u8),
            17 => Step::Grow(16 * (1 + rng.below(60))),
            18 => Step::Close,
            _ => Step::PowerCut(rng.next_u64()),
        };
        let count = 6 + rng.below(14);
        (0..count).map(|_| step(rng)).collect()
    }

    fn run(&self, steps: &[Step], cuts: &mut Cuts) {
        let empty = Arc::clone(create(self.bytes).storage());
        let mut size = self.bytes;
        let mut run = self.open(empty.to_vec(), size, Known::default(), 0);
        for step in steps {
            match step {
                Step::Append(len) => run.append(&[*len]),
                Step::Batch(lens) => run.append(lens),
                Step::Sync => run.sync(),
                Step::Checkpoint(part) => run.checkpoint(*part),
                Step::Grow(more) => size += run.grow(size, *more),
                Step::Close => run.close(size, self.options),
                Step::PowerCut(seed) => {
                    run.check(size, cuts);
                    let (image, known) = run.cut(size, *seed);
                    run = self.open(image, size, known, run.fresh);
                }
            }
        }
        run.check(size, cuts);
    }
}

impl Ring {
    fn open(&self, image: Vec<u8>, size: u64, known: Known, fresh: u64) -> Run {
        let storage = Arc::new(CrashStorage::lying(image, self.lie));
        let log = RingWal::open(Arc::clone(&storage), region(size), self.options).unwrap();
        let mut timeline = Timeline::new(known.clone());
        timeline.note(storage.operations(), known);
        let is_durable = self.options.durability == coldframe_ring::Durability::Each;
        Run {
            storage,
            log: Some(log),
            known: timeline,
            is_durable,
            fresh,
        }
    }
}

impl Run {
    fn log(&self) -> &RingWal<Arc<CrashStorage>> {
        self.log.as_ref().unwrap()
    }

    fn note(&mut self, known: &Known) {
        self.known.note(self.storage.operations(), known.clone());
    }

    fn append(&mut self, lens: &[usize]) {
        let before = self.known.last();
        let mut known = before.clone();
        let first = known.appended.len();
        for len in lens {
            self.fresh += 1;
            known.appended.push(payload(self.fresh, *len));
        }
        // What is about to happen counts from the first operation on, not from the return.
        self.note(&known);
        let result = match &known.appended[first..] {
            [one] => self.log().append(one).map(|_| ()),
            all => self.log().append_batch(all).map(|_| ()),
        };
        match result {
            Ok(()) => {
                let last = self.log().last_sequence().get();
                assert_eq!(last, known.appended.len() as u64);
                if self.is_durable {
                    known.durable = last;
                }
                self.note(&known);
            }
            Err(RingError::Full { .. } | RingError::TooLong { .. }) => self.note(&before),
            Err(error) => panic!("{error:?}"),
        }
    }

    fn sync(&mut self) {
        let mut known = self.known.last();
        self.log().sync().unwrap();
        known.durable = known.appended.len() as u64;
        self.note(&known);
    }

    fn checkpoint(&mut self, part: u8) {
        let mut known = self.known.last();
        let pending = known.appended.len() as u64 - known.checkpoint;
        let up_to = known.checkpoint + (pending * u64::from(part)).div_ceil(256);
        if up_to == known.checkpoint {
            return;
        }
        known.checkpoint = up_to;
        self.note(&known);
        self.log().checkpoint(Sequence::new(up_to)).unwrap();
        known.durable = known.appended.len() as u64;
        self.note(&known);
    }

    /// By how much the ring has grown.
    fn grow(&mut self, size: u64, more: u64) -> u64 {
        let known = self.known.last();
        let log = self.log.as_mut().unwrap();
        let grown = match log.grow(region(size + more).size()) {
            Ok(()) => more,
            Err(RingError::GrowTooLittle { .. }) => 0,
            Err(error) => panic!("{error:?}"),
        };
        // What was appended is synced first, in either case.
        let durable = known.appended.len() as u64;
        self.note(&Known { durable, ..known });
        grown
    }

    fn close(&mut self, size: u64, options: RingOptions) {
        let known = self.known.last();
        self.log.take().unwrap().close().unwrap();
        let durable = known.appended.len() as u64;
        self.note(&Known { durable, ..known });
        let log = RingWal::open(Arc::clone(&self.storage), region(size), options).unwrap();
        self.log = Some(log);
    }

    /// Cuts at every operation.
    fn check(&self, size: u64, cuts: &mut Cuts) {
        for moment in 0..=self.storage.operations() {
            let (promised, begun) = (self.known.promised(moment), self.known.begun(moment));
            cuts.file(&self.storage, moment, &mut |image| {
                check_image(image, region(size), promised, begun);
            });
        }
    }

    /// One of the images that are left now, and what is true of it.
    fn cut(&self, size: u64, seed: u64) -> (Vec<u8>, Known) {
        let states: Vec<_> = self.storage.crash_states(SECTOR_512, seed, 32).collect();
        let image = states[(seed % states.len() as u64) as usize].clone();
        let log = super::sample::open(&image, size).unwrap();
        let checkpoint = log.stats().checkpointed.get();
        let durable = checkpoint + log.pending();
        let mut appended = self.known.last().appended;
        appended.truncate(durable as usize);
        let known = Known {
            appended,
            durable,
            checkpoint,
        };
        (image, known)
    }
}

pub fn check_image(image: Vec<u8>, region: Region, promised: &Known, begun: &Known) {
    let storage = MemStorage::from_vec(image.clone());
    let reader = RingWal::open_read_only(&storage, region).unwrap();
    let before = reader.recovery().clone();
    drop(reader);
    assert_eq!(storage.to_vec(), image, "reading wrote");
    let log = RingWal::open(&storage, region, RingOptions::SYNC_EACH).unwrap();
    let found = records(&log);
    assert_eq!(found.len() as u64, before.records);
    let tail = log.stats().checkpointed.get();
    let last = tail + found.len() as u64;
    assert!(tail <= begun.checkpoint, "checkpointed {tail}");
    assert!(
        last >= promised.durable,
        "{last} found, {} promised, {:?}",
        promised.durable,
        before.end
    );
    for (record, number) in found.iter().zip(tail + 1..) {
        let expected = begun.appended.get(number as usize - 1);
        assert_eq!(Some(&record.1), expected, "record {number}");
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

/// A log that is created in a region with old bytes in it.
pub struct Creation {
    pub lie: Option<Drops>,
}

impl World for Creation {
    type Step = u64;

    /// What the old bytes are made of.
    fn draw(&self, rng: &mut Rng) -> Vec<u64> {
        vec![rng.next_u64()]
    }

    fn run(&self, steps: &[u64], cuts: &mut Cuts) {
        let old = Rng::new(steps.first().copied().unwrap_or(0)).bytes(20_000);
        let storage = Arc::new(CrashStorage::lying(old, self.lie));
        let options = RingOptions::SYNC_EACH;
        drop(RingWal::create(Arc::clone(&storage), region(1024), options).unwrap());
        let is_made = storage.operations();
        for moment in 0..=is_made {
            cuts.file(&storage, moment, &mut |image| {
                let storage = MemStorage::from_vec(image.clone());
                let opened = RingWal::open(storage, region(1024), options);
                match opened {
                    Ok(log) => {
                        assert_eq!(log.pending(), 0);
                        assert_eq!(log.recovery().torn_bytes, 0);
                        let ring = &image[RING_START as usize..][..1024];
                        assert!(ring == [0; 1024], "it stands before old bytes");
                    }
                    Err(error) => {
                        assert!(moment < is_made, "it was made: {error:?}");
                        assert!(error.is_foreign() || error.is_corrupt(), "{error:?}");
                    }
                }
            });
        }
        assert_eq!(storage.len().unwrap().get(), 20_000);
    }
}
