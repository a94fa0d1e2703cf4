//! The journal on a disk behind a page cache: syncs that fail, the kernel that forgets what it
//! could not write, a process that starts again, and then a power cut.

use std::sync::Arc;

use coldframe_journal::{Batch, Durability, JournalError, JournalOptions, JournalReader};
use coldframe_testkit::crash::{Cuts, Timeline, World};
use coldframe_testkit::fault::{EIO, ENOSPC};
use coldframe_testkit::pagecache::{CachedFile, PageCacheDisk};
use coldframe_testkit::rng::Rng;

use super::sample::{All, Blob, Writer, note, read_notes};
use super::world::{Known, check_image};

/// An operation of a workload. Whatever fails ends the process; the next one opens the journal.
#[derive(Clone, Debug)]
pub enum Step {
    /// An entry with a number that was never used.
    Note,
    /// So many of them in one record.
    Batch(u64),
    /// So many bytes of another type.
    Blob(usize),
    Flush,
    /// Closes it and opens it again.
    Close,
    /// The process ends, and another one opens the journal.
    Restart,
    /// The next sync fails; the seed says which dirty pages reach the disk all the same.
    FailSync(u64),
    /// The kernel cannot write dirty pages back, and nobody is told yet.
    FailInBackground(u64),
    /// The cache gives up clean pages.
    Evict,
}

/// A journal that is written so.
pub struct CachedJournal {
    pub options: JournalOptions,
    /// The disk leaves out writes of what the cache shows anyway: as a journal does that takes what
    /// it reads for durable.
    pub lazy: bool,
}

struct Run {
    disk: PageCacheDisk,
    options: JournalOptions,
    writer: Option<Writer>,
    known: Timeline<Known>,
}

impl World for CachedJournal {
    type Step = Step;

    fn draw(&self, rng: &mut Rng) -> Vec<Step> {
        let seed = |rng: &mut Rng| rng.below(2) * rng.next_u64();
        let step = |rng: &mut Rng| match rng.below(22) {
            0..=6 => Step::Note,
            7..=8 => Step::Batch(2 + rng.below(4)),
            9 => Step::Blob(rng.below(6000) as usize),
            10..=13 => Step::Flush,
            14 => Step::Close,
            15..=16 => Step::Restart,
            17..=18 => Step::FailSync(seed(rng)),
            19 => Step::FailInBackground(seed(rng)),
            _ => Step::Evict,
        };
        let count = 6 + rng.below(14);
        (0..count).map(|_| step(rng)).collect()
    }

    fn run(&self, steps: &[Step], cuts: &mut Cuts) {
        let disk = PageCacheDisk::new(Vec::new());
        let storage = Arc::new(disk.open());
        let writer = Writer::create_in(storage, self.options).unwrap();
        if self.lazy {
            disk.plant_lazy_writes();
        }
        let known = Timeline::new(Known::default());
        let mut run = Run {
            disk,
            options: self.options,
            writer: Some(writer),
            known,
        };
        for step in steps {
            run.step(step);
        }
        run.disk.heal();
        run.open();
        for moment in 0..=run.disk.operations() {
            let (promised, begun) = (run.known.promised(moment), run.known.begun(moment));
            cuts.cached(&run.disk, moment, &mut |image| {
                check_image(&image, promised, begun);
            });
        }
    }
}

impl Run {
    fn writer(&mut self) -> &mut Writer {
        self.writer.as_mut().unwrap()
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Note | Step::Batch(_) | Step::Blob(_) => self.append(step),
            Step::Flush => match self.writer().flush() {
                Ok(()) => self.all_flushed(),
                Err(_) => self.poisoned(),
            },
            Step::Close => {
                if self.writer.take().unwrap().close().is_ok() {
                    self.all_flushed();
                }
                self.open();
            }
            Step::Restart => self.open(),
            Step::FailSync(written) => self.disk.fail_next_sync(EIO, *written),
            Step::FailInBackground(written) => self.disk.fail_in_background(ENOSPC, *written),
            Step::Evict => self.disk.evict(),
        }
    }

    fn all_flushed(&mut self) {
        let known = self.known.last().all_flushed();
        self.known.note(self.disk.operations(), known);
    }

    fn append(&mut self, step: &Step) {
        let count = match step {
            Step::Note => 1,
            Step::Batch(count) => *count,
            _ => 0,
        };
        let mut known = self.known.last().with_more(count);
        self.known.note(self.disk.operations(), known.clone());
        let first = known.fresh + 1;
        let writer = self.writer();
        let done = match step {
            Step::Blob(len) => {
                let bytes = Rng::new(*len as u64).bytes(*len);
                writer.append(&Blob { bytes })
            }
            Step::Batch(count) => {
                let mut batch = Batch::new();
                for number in first..first + count {
                    batch.push(&note(number)).unwrap();
                }
                writer.commit(&batch)
            }
            _ => writer.append(&note(first)),
        };
        known.fresh += count;
        self.known.note(self.disk.operations(), known);
        match done {
            Ok(_) if self.options.durability == Durability::Each => self.all_flushed(),
            Ok(_) => {}
            Err(_) => self.poisoned(),
        }
    }

    /// Nothing is acknowledged any more until the journal is opened again.
    fn poisoned(&mut self) {
        let writer = self.writer();
        let poisoned = |error: JournalError| matches!(error, JournalError::Poisoned { .. });
        assert!(poisoned(writer.flush().unwrap_err()));
        assert!(poisoned(writer.append(&note(0)).unwrap_err()));
        assert!(poisoned(self.writer.take().unwrap().close().unwrap_err()));
        self.open();
    }

    /// Opens the journal as another process does; what is found is promised from then on.
    fn open(&mut self) {
        self.writer = None;
        let mut failures = 0;
        let writer = loop {
            let storage: Arc<CachedFile> = Arc::new(self.disk.open());
            match Writer::open_in(storage, self.options) {
                Ok((writer, _)) => break writer,
                // A sync that was to fail, or an error that nobody was told yet.
                Err(JournalError::Storage { .. }) if failures < 3 => failures += 1,
                Err(error) => panic!("it does not open: {error:?}"),
            }
        };
        let mut reader = JournalReader::<All>::from_storage(Arc::new(self.disk.open())).unwrap();
        let (found, end) = read_notes(&mut reader);
        assert!(end.is_clean(), "{end}");
        let mut known = self.known.last();
        let (count, flushed) = (found.len(), known.flushed);
        assert!(count >= flushed, "{count} found, {flushed} promised");
        assert!(known.notes.starts_with(&found));
        known.notes = found;
        known.batches.retain(|(_, end)| *end <= count);
        self.known.note(self.disk.operations(), known.all_flushed());
        self.writer = Some(writer);
    }
}
