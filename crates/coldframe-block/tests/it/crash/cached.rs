//! The disk whose log is behind a page cache: syncs that fail, the kernel that forgets what it
//! could not write, a process that starts again, and then a power cut.

use coldframe_block::{BlockDevice, BlockError};
use coldframe_chunks::PackStore;
use coldframe_storage::MemStorage;
use coldframe_testkit::crash::{Cuts, World, explore, planted};
use coldframe_testkit::fault::{EIO, ENOSPC};
use coldframe_testkit::pagecache::{CachedFile, PageCacheDisk};
use coldframe_testkit::rng::Rng;
use coldframe_units::ByteLen;

use crate::backend::MemBackend;
use crate::support::{CALM, PAGE, STORE, all, name, new_log, new_store, noise, open};

const LOG: u64 = 128 << 10;
const PAGES: u64 = 12;

/// An operation of a workload. Whatever fails ends the process; the next one opens the disk.
#[derive(Clone, Debug)]
enum Step {
    /// So many pages from one on.
    Write(u64, u64),
    Zero(u64, u64),
    Flush,
    /// Brings what is in the log into the store.
    Fold,
    /// The process ends, and another one opens the disk.
    Restart,
    /// The next sync fails; the seed says which dirty pages reach the disk all the same.
    FailSync(u64),
    /// The kernel cannot write dirty pages back, and nobody is told yet.
    FailInBackground(u64),
    /// The cache gives up clean pages.
    Evict,
}

/// A disk of [`PAGES`] pages.
struct CachedDevice {
    /// The cache leaves out writes of what it shows anyway: as a log does that takes what it reads
    /// for durable.
    lazy: bool,
}

type Device = BlockDevice<MemBackend, CachedFile>;

struct Run<'a> {
    cuts: &'a mut Cuts,
    log: PageCacheDisk,
    backend: MemBackend,
    device: Option<Device>,
    /// The bytes after each change, from those that are promised on.
    states: Vec<Vec<u8>>,
    fresh: u64,
}

impl World for CachedDevice {
    type Step = Step;

    fn draw(&self, rng: &mut Rng) -> Vec<Step> {
        let seed = |rng: &mut Rng| rng.below(2) * rng.next_u64();
        let range = |rng: &mut Rng| {
            let page = rng.below(PAGES);
            (page, 1 + rng.below((PAGES - page).min(3)))
        };
        let step = |rng: &mut Rng| match rng.below(20) {
            0..=6 => {
                let (page, count) = range(rng);
                Step::Write(page, count)
            }
            7 => {
                let (page, count) = range(rng);
                Step::Zero(page, count)
            }
            8..=11 => Step::Flush,
            12 => Step::Fold,
            13..=14 => Step::Restart,
            15..=16 => Step::FailSync(seed(rng)),
            17 => Step::FailInBackground(seed(rng)),
            _ => Step::Evict,
        };
        let count = 5 + rng.below(12);
        (0..count).map(|_| step(rng)).collect()
    }

    fn run(&self, steps: &[Step], cuts: &mut Cuts) {
        let (store, backend) = new_store();
        coldframe_block::create(&store, &name("disk"), ByteLen::new(PAGES * PAGE)).unwrap();
        let log = PageCacheDisk::new(new_log(LOG).to_vec());
        if self.lazy {
            log.plant_lazy_writes();
        }
        let mut run = Run {
            cuts,
            log,
            backend,
            device: None,
            states: vec![vec![0; (PAGES * PAGE) as usize]],
            fresh: 0,
        };
        run.open();
        for step in steps {
            run.step(step);
        }
        run.log.heal();
        run.open();
    }
}

impl Run<'_> {
    fn step(&mut self, step: &Step) {
        let from = self.log.operations();
        let stored = self.backend.history().len();
        let device = self.device.as_ref().unwrap();
        let done = match step {
            Step::Write(page, count) => {
                self.fresh += 1;
                let data = noise(self.fresh, count * PAGE);
                let mut bytes = self.states.last().unwrap().clone();
                bytes[(page * PAGE) as usize..][..data.len()].copy_from_slice(&data);
                self.states.push(bytes);
                device.write_at(page * PAGE, &data)
            }
            Step::Zero(page, count) => {
                let mut bytes = self.states.last().unwrap().clone();
                bytes[(page * PAGE) as usize..][..(count * PAGE) as usize].fill(0);
                self.states.push(bytes);
                device.write_zeroes(page * PAGE, count * PAGE)
            }
            Step::Flush => self.flush(),
            Step::Fold => device.fold().map(drop),
            Step::Restart => return self.open(),
            Step::FailSync(written) => {
                self.log.fail_next_sync(EIO, *written);
                Ok(())
            }
            Step::FailInBackground(written) => {
                self.log.fail_in_background(ENOSPC, *written);
                Ok(())
            }
            Step::Evict => {
                self.log.evict();
                Ok(())
            }
        };
        // The store is durable at once: only with one that did not change is each moment looked at.
        let until = self.log.operations();
        let is_stored = self.backend.history().len() != stored;
        for moment in if is_stored { until } else { from }..=until {
            self.check(moment);
        }
        match (step, done) {
            (Step::Flush, Ok(())) => {
                self.states.drain(..self.states.len() - 1);
                self.check(until);
            }
            (_, Ok(())) => {}
            (_, Err(_)) => self.open(),
        }
    }

    fn flush(&self) -> Result<(), BlockError> {
        let device = self.device.as_ref().unwrap();
        let flushed = device.flush();
        if flushed.is_err() {
            assert!(device.flush().is_err(), "flushed after a failure");
            assert!(
                device.write_at(0, &[1; 8]).is_err(),
                "written after a failure"
            );
        }
        flushed
    }

    /// Opens the disk as another process does; what it shows is promised from then on.
    fn open(&mut self) {
        self.device = None;
        let from = self.log.operations();
        let mut failures = 0;
        let device = loop {
            let store = PackStore::open_at(self.backend.clone(), STORE).unwrap();
            match open(&store, self.log.open(), CALM) {
                Ok(device) => break device,
                // A sync that was to fail, or an error that nobody was told yet.
                Err(_) if failures < 4 => failures += 1,
                Err(error) => panic!("it does not open: {error:?}"),
            }
        };
        let found = all(&device);
        assert_known(&self.states, &found);
        for moment in from..=self.log.operations() {
            self.check(moment);
        }
        self.states = vec![found];
        self.device = Some(device);
        self.check(self.log.operations());
    }

    fn check(&mut self, moment: usize) {
        let files = self.backend.history().last().unwrap().clone();
        let states = &self.states;
        self.cuts.cached(&self.log, moment, &mut |image| {
            let store = PackStore::open_at(MemBackend::with_files(files.clone()), STORE).unwrap();
            let log = std::sync::Arc::new(MemStorage::from_vec(image));
            let device = open(&store, log, CALM).unwrap_or_else(|error| panic!("{error:?}"));
            let found = all(&device);
            assert_known(states, &found);
            device.fold().unwrap();
        });
    }
}

/// Each page is as it was promised, or as it was after a later change.
fn assert_known(states: &[Vec<u8>], found: &[u8]) {
    for page in 0..PAGES {
        let at = (page * PAGE) as usize;
        let part = |bytes: &[u8]| bytes[at..][..PAGE as usize].to_vec();
        let mut known = states.iter().map(|bytes| part(bytes));
        assert!(
            known.any(|bytes| bytes == part(found)),
            "page {page} is lost"
        );
    }
}

// Spec: BLK-10
#[test]
fn what_was_flushed_after_a_failed_sync_survives_any_cut() {
    explore("block, page cache", 1500, &CachedDevice { lazy: false });
}

#[test]
fn planted_page_cache_bytes_taken_for_durable_are_found() {
    let world = CachedDevice { lazy: true };
    planted("block: page cache bytes taken for durable", 20_000, &world);
}
