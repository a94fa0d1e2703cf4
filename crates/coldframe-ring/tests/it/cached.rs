//! The ring on a disk behind a page cache: syncs that fail, the kernel that forgets what it could
//! not write, a process that starts again, and then a power cut.

use coldframe_ring::{Durability, RingOptions, Sequence};
use coldframe_ring::{RingError, RingWal};
use coldframe_testkit::crash::{Cuts, Timeline, World};
use coldframe_testkit::fault::{EIO, ENOSPC};
use coldframe_testkit::pagecache::{CachedFile, PageCacheDisk};
use coldframe_testkit::rng::Rng;

use super::sample::{create, payload, records, region};
use super::world::{Known, check_image};

/// An operation of a workload. Whatever fails ends the process; the next one opens the log again.
#[derive(Clone, Debug)]
pub enum Step {
    /// One record with a payload of so many bytes.
    Append(usize),
    Sync,
    /// Up to so many 256ths of what is pending.
    Checkpoint(u8),
    /// By so many bytes.
    Grow(u64),
    /// Closes the log and opens it again.
    Close,
    /// The process ends, and another one opens the log.
    Restart,
    /// The next sync fails; the seed says which dirty pages reach the disk all the same.
    FailSync(u64),
    /// The kernel cannot write dirty pages back, and nobody is told yet.
    FailInBackground(u64),
    /// The cache gives up clean pages.
    Evict,
}

/// Rings of this size at first, written so.
pub struct CachedRing {
    pub bytes: u64,
    pub options: RingOptions,
    /// The disk leaves out writes of what the cache shows anyway: as a log does that takes what it
    /// reads for durable.
    pub lazy: bool,
}

struct Run {
    disk: PageCacheDisk,
    options: RingOptions,
    size: u64,
    // None for a moment, while it is closed.
    log: Option<RingWal<CachedFile>>,
    known: Timeline<Known>,
    // Payloads are never the same twice, also when a number is given again.
    fresh: u64,
}

impl World for CachedRing {
    type Step = Step;

    fn draw(&self, rng: &mut Rng) -> Vec<Step> {
        let len = |rng: &mut Rng| match rng.below(4) {
            0 => rng.below(20),
            1 => rng.below(3000),
            _ => rng.below(140),
        };
        let seed = |rng: &mut Rng| rng.below(2) * rng.next_u64();
        let step = |rng: &mut Rng| match rng.below(22) {
            0..=8 => Step::Append(len(rng) as usize),
            9..=11 => Step::Sync,
            12..=13 => Step::Checkpoint(rng.below(256) as u8),
            14 => Step::Grow(16 * (1 + rng.below(600))),
            15 => Step::Close,
            16 => Step::Restart,
            17..=18 => Step::FailSync(seed(rng)),
            19 => Step::FailInBackground(seed(rng)),
            _ => Step::Evict,
        };
        let count = 6 + rng.below(16);
        (0..count).map(|_| step(rng)).collect()
    }

    fn run(&self, steps: &[Step], cuts: &mut Cuts) {
        let disk = PageCacheDisk::new(create(self.bytes).storage().to_vec());
        if self.lazy {
            disk.plant_lazy_writes();
        }
        let mut run = Run {
            disk,
            options: self.options,
            size: self.bytes,
            log: None,
            known: Timeline::new(Known::default()),
            fresh: 0,
        };
        run.open();
        for step in steps {
            run.step(step);
        }
        run.disk.heal();
        run.open();
        for moment in 0..=run.disk.operations() {
            let (promised, begun) = (run.known.promised(moment), run.known.begun(moment));
            cuts.cached(&run.disk, moment, &mut |image| {
                check_image(image, region(run.size), promised, begun);
            });
        }
    }
}

impl Run {
    fn step(&mut self, step: &Step) {
        let done = match step {
            Step::Append(len) => self.append(*len),
            Step::Sync => self.sync(),
            Step::Checkpoint(part) => self.checkpoint(*part),
            Step::Grow(more) => self.grow(*more),
            Step::Close => {
                let closed = self.log.take().map_or(Ok(()), RingWal::close);
                if closed.is_ok() {
                    self.all_durable();
                }
                self.open();
                Ok(())
            }
            Step::Restart => {
                self.open();
                Ok(())
            }
            Step::FailSync(written) => {
                self.disk.fail_next_sync(EIO, *written);
                Ok(())
            }
            Step::FailInBackground(written) => {
                self.disk.fail_in_background(ENOSPC, *written);
                Ok(())
            }
            Step::Evict => {
                self.disk.evict();
                Ok(())
            }
        };
        match done {
            Ok(()) | Err(RingError::Full { .. } | RingError::TooLong { .. }) => {}
            Err(RingError::Failed { .. } | RingError::Prepare { .. }) => self.poisoned(),
            // A clean page was lost that a failed writeback left: the process reads what the disk
            // has, and is not lied to.
            Err(error) => panic!("{error:?}"),
        }
    }

    fn log(&self) -> &RingWal<CachedFile> {
        self.log.as_ref().unwrap()
    }

    fn note(&mut self, known: &Known) {
        self.known.note(self.disk.operations(), known.clone());
    }

    /// All that was appended is promised from now on.
    fn all_durable(&mut self) {
        let mut known = self.known.last();
        known.durable = known.appended.len() as u64;
        self.note(&known);
    }

    /// Nothing is acknowledged any more until the log is opened again.
    fn poisoned(&mut self) {
        let log = self.log();
        assert!(log.append(b"refused").is_err(), "appended after a failure");
        assert!(log.sync().is_err(), "synced after a failure");
        let last = log.last_sequence();
        assert!(
            log.checkpoint(last).is_err(),
            "a checkpoint after a failure"
        );
        let size = region(self.size + 65_536).size();
        let grown = self.log.as_mut().unwrap().grow(size);
        assert!(grown.is_err(), "grown after a failure");
        assert!(
            self.log.take().unwrap().close().is_err(),
            "closed after a failure"
        );
        self.open();
    }

    /// Opens the log as another process does; what is found is promised from then on.
    fn open(&mut self) {
        self.log = None;
        let mut failures = 0;
        let log = loop {
            match RingWal::open(self.disk.open(), region(1 << 20), self.options) {
                Ok(log) => break log,
                // A sync that was to fail, or an error that nobody was told yet.
                Err(RingError::Prepare { .. }) if failures < 3 => failures += 1,
                Err(error) => panic!("it does not open: {error:?}"),
            }
        };
        self.size = log.region().size().get() - coldframe_walframe::ring::RING_START;
        let found = records(&log);
        let checkpoint = log.stats().checkpointed.get();
        let mut known = self.known.last();
        let last = checkpoint + found.len() as u64;
        assert!(
            last >= known.durable,
            "{last} found, {} promised",
            known.durable
        );
        for (number, bytes) in found {
            assert_eq!(Some(&bytes), known.appended.get(number as usize - 1));
        }
        known.appended.truncate(last as usize);
        (known.durable, known.checkpoint) = (last, checkpoint);
        self.note(&known);
        self.log = Some(log);
    }

    fn append(&mut self, len: usize) -> Result<(), RingError> {
        let before = self.known.last();
        let mut known = before.clone();
        self.fresh += 1;
        known.appended.push(payload(self.fresh, len));
        self.note(&known);
        let appended = self.log().append(&payload(self.fresh, len));
        match appended {
            Ok(_) if self.options.durability == Durability::Each => self.all_durable(),
            Err(RingError::Full { .. } | RingError::TooLong { .. }) => self.note(&before),
            Ok(_) | Err(_) => {}
        }
        appended.map(drop)
    }

    fn sync(&mut self) -> Result<(), RingError> {
        self.log().sync()?;
        self.all_durable();
        Ok(())
    }

    fn checkpoint(&mut self, part: u8) -> Result<(), RingError> {
        let mut known = self.known.last();
        let pending = known.appended.len() as u64 - known.checkpoint;
        let up_to = known.checkpoint + (pending * u64::from(part)).div_ceil(256);
        if up_to == known.checkpoint {
            return Ok(());
        }
        known.checkpoint = up_to;
        self.note(&known);
        self.log().checkpoint(Sequence::new(up_to))?;
        self.all_durable();
        Ok(())
    }

    fn grow(&mut self, more: u64) -> Result<(), RingError> {
        let size = region(self.size + more).size();
        match self.log.as_mut().unwrap().grow(size) {
            Ok(()) => self.size += more,
            Err(RingError::GrowTooLittle { .. }) => {}
            Err(error) => return Err(error),
        }
        self.all_durable();
        Ok(())
    }
}
