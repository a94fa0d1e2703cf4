//! The journal as the crash simulator sees it: operations, and what a power cut must leave.

use std::path::Path;
use std::sync::Arc;

use coldframe_journal::{Batch, Durability, JournalOptions, Scope};
use coldframe_storage::sweep_stale;
use coldframe_testkit::crash::{
    CrashStorage, Cuts, Drops, Recording, SECTOR_512, Timeline, Trace, World,
};
use coldframe_testkit::rng::Rng;
use coldframe_testkit::scratch;

use super::sample::{Blob, Writer, note, notes_in, options, reopen};

/// An operation of a workload.
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
    /// The power is cut; the journal goes on from what this seed picks.
    PowerCut(u64),
    /// Rewrites the file; that is for files alone.
    Compact,
}

fn draw(rng: &mut Rng, last: u64) -> Vec<Step> {
    let step = |rng: &mut Rng| match rng.below(last) {
        0..=4 => Step::Note,
        5..=6 => Step::Batch(2 + rng.below(4)),
        7 => Step::Blob(rng.below(900) as usize),
        8..=10 => Step::Flush,
        11 => Step::Close,
        12 => Step::PowerCut(rng.next_u64()),
        _ => Step::Compact,
    };
    let count = 5 + rng.below(10);
    (0..count).map(|_| step(rng)).collect()
}

/// What is true of a journal.
#[derive(Clone, Default)]
pub struct Known {
    /// The notes that were handed to it.
    pub notes: Vec<u64>,
    /// How many of them were flushed.
    pub flushed: usize,
    /// Where batches begin and end in `notes`.
    pub batches: Vec<(usize, usize)>,
    /// Numbers given out.
    pub fresh: u64,
}

impl Known {
    /// What the step appends; false if it appends nothing.
    fn append(&mut self, step: &Step, writer: &mut Writer) {
        let mut next = || {
            self.fresh += 1;
            self.notes.push(self.fresh);
            note(self.fresh)
        };
        match step {
            Step::Note => {
                writer.append(&next()).unwrap();
            }
            Step::Blob(len) => {
                let bytes = Rng::new(*len as u64).bytes(*len);
                writer.append(&Blob { bytes }).unwrap();
            }
            Step::Batch(count) => {
                let mut batch = Batch::new();
                for _ in 0..*count {
                    batch.push(&next()).unwrap();
                }
                let end = self.notes.len();
                self.batches.push((end - *count as usize, end));
                writer.commit(&batch).unwrap();
            }
            _ => {}
        }
    }

    /// What a step will have handed over, before it does.
    fn begun(&self, step: &Step) -> Self {
        match step {
            Step::Note => self.with_more(1),
            Step::Batch(count) => self.with_more(*count),
            _ => self.clone(),
        }
    }

    /// With so many notes more, in one record.
    pub fn with_more(&self, count: u64) -> Self {
        let mut more = self.clone();
        let first = more.notes.len();
        more.notes.extend(self.fresh + 1..=self.fresh + count);
        if count > 1 {
            more.batches.push((first, more.notes.len()));
        }
        more
    }

    pub fn all_flushed(mut self) -> Self {
        self.flushed = self.notes.len();
        self
    }
}

/// A journal in storage that may lie.
pub struct Journal {
    pub options: JournalOptions,
    pub lie: Option<Drops>,
}

impl Journal {
    pub fn new(lie: Option<Drops>) -> Self {
        let options = options();
        Self { options, lie }
    }
}

impl World for Journal {
    type Step = Step;

    fn draw(&self, rng: &mut Rng) -> Vec<Step> {
        draw(rng, 13)
    }

    fn run(&self, steps: &[Step], cuts: &mut Cuts) {
        let mut storage = Arc::new(CrashStorage::lying(Vec::new(), self.lie));
        let mut writer = Writer::create_in(storage.clone(), self.options).unwrap();
        let mut known = Timeline::new(Known::default());
        for step in steps {
            let now = known.last();
            known.note(storage.operations(), now.begun(step));
            let mut after = now;
            match step {
                Step::Flush => {
                    writer.flush().unwrap();
                    after = after.all_flushed();
                }
                Step::Close => {
                    writer.close().unwrap();
                    after = after.all_flushed();
                    known.note(storage.operations(), after.clone());
                    writer = Writer::open_in(storage.clone(), self.options).unwrap().0;
                }
                Step::PowerCut(seed) => {
                    check(&storage, &known, cuts);
                    let image;
                    (image, after) = cut(&storage, after, *seed);
                    storage = Arc::new(CrashStorage::lying(image, self.lie));
                    writer = Writer::open_in(storage.clone(), self.options).unwrap().0;
                    known = Timeline::new(after.clone());
                }
                step => {
                    after.append(step, &mut writer);
                    if self.options.durability == Durability::Each {
                        after = after.all_flushed();
                    }
                }
            }
            known.note(storage.operations(), after);
        }
        check(&storage, &known, cuts);
    }
}

fn check(storage: &CrashStorage, known: &Timeline<Known>, cuts: &mut Cuts) {
    for moment in 0..=storage.operations() {
        let (promised, begun) = (known.promised(moment), known.begun(moment));
        cuts.file(storage, moment, &mut |image| {
            check_image(&image, promised, begun);
        });
    }
}

/// One of the images that are left now, and what is true of it.
fn cut(storage: &CrashStorage, mut known: Known, seed: u64) -> (Vec<u8>, Known) {
    let states: Vec<_> = storage.crash_states(SECTOR_512, seed, 32).collect();
    let image = states[(seed % states.len() as u64) as usize].clone();
    known.notes = notes_in(&image).0;
    known.flushed = known.notes.len();
    known.batches.retain(|(_, end)| *end <= known.flushed);
    (image, known)
}

pub fn check_image(image: &[u8], promised: &Known, begun: &Known) {
    let (found, end) = notes_in(image);
    let count = found.len();
    assert!(begun.notes.starts_with(&found), "not a prefix: {found:?}");
    let flushed = promised.flushed;
    assert!(count >= flushed, "{flushed} flushed, {count} there: {end}");
    assert!(end.is_clean() || end.is_torn(), "{end}");
    for (start, end) in &begun.batches {
        assert!(count <= *start || count >= *end, "half a batch");
    }
    // Recovery is repeatable, and what is appended after it is visible.
    let (again, mut writer, _) = reopen(image).unwrap();
    writer.append(&note(0)).unwrap();
    writer.flush().unwrap();
    let (after, end) = notes_in(&again.to_vec());
    assert_eq!(after, [&found[..], &[0]].concat());
    assert!(end.is_clean(), "{end}");
    let entries = reopen(&again.to_vec()).unwrap().1.entries();
    assert_eq!(writer.entries(), entries);
}

/// A journal in a file of the host, that is compacted as well.
pub struct JournalFile {
    /// What the program does instead of what it did.
    pub plant: fn(&mut Trace),
}

impl World for JournalFile {
    type Step = Step;

    fn draw(&self, rng: &mut Rng) -> Vec<Step> {
        let steps = draw(rng, 15).into_iter();
        let keeps = |step: &Step| !matches!(step, Step::PowerCut(_));
        steps.filter(keeps).collect()
    }

    fn run(&self, steps: &[Step], cuts: &mut Cuts) {
        let dir = scratch::dir();
        let path = dir.path().join("journal");
        let recording = Recording::start(dir.path());
        let mut writer = Writer::create(&path, options()).unwrap();
        let mut known = Timeline::new(None);
        known.note(recording.operations(), Some(Known::default()));
        for step in steps {
            let now = known.last().unwrap();
            known.note(recording.operations(), Some(now.begun(step)));
            let mut after = now;
            match step {
                Step::Flush => writer.flush().unwrap(),
                Step::Close => {
                    writer.close().unwrap();
                    after = after.all_flushed();
                    known.note(recording.operations(), Some(after.clone()));
                    writer = Writer::open(&path, options()).unwrap().0;
                }
                Step::Compact => {
                    let begun = writer.begin_compaction().unwrap();
                    let rewritten = begun.run(|_| Scope::Keep).unwrap();
                    writer.adopt(rewritten).unwrap();
                }
                step => after.append(step, &mut writer),
            }
            if let Step::Flush | Step::Compact = step {
                after = after.all_flushed();
            }
            known.note(recording.operations(), Some(after));
        }
        let mut trace = recording.trace();
        drop(recording);
        (self.plant)(&mut trace);
        for moment in 0..=trace.operations() {
            let (promised, begun) = (known.promised(moment), known.begun(moment));
            cuts.tree(&trace, moment, &mut |dir| {
                check_file(dir, promised.as_ref(), begun.as_ref());
            });
        }
    }
}

fn check_file(dir: &Path, promised: Option<&Known>, begun: Option<&Known>) {
    use std::os::unix::fs::PermissionsExt;

    sweep_stale(dir).unwrap();
    let path = dir.join("journal");
    let others = std::fs::read_dir(dir).unwrap().count() - usize::from(path.exists());
    assert_eq!(others, 0, "something was left behind");
    if !path.exists() {
        assert!(promised.is_none(), "the journal is gone");
        return;
    }
    // A test that runs as root would be let in all the same.
    let mode = path.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o600, 0o600, "it cannot be continued: mode {mode:o}");
    let nothing = Known::default();
    let image = std::fs::read(&path).unwrap();
    check_image(
        &image,
        promised.unwrap_or(&nothing),
        begun.unwrap_or(&nothing),
    );
    drop(Writer::open(&path, options()).unwrap());
}
