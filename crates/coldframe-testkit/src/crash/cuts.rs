//! The power cuts of one run of a workload.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use crate::crash::fates::Fate;
use crate::crash::trees::TreeStates;
use crate::crash::violation::{PowerCut, attempt, message_of};
use crate::crash::{CrashStorage, SECTOR_4K, SECTOR_512, Trace, Tree};
use crate::pagecache::PageCacheDisk;
use crate::scratch;

/// Cuts the power, counts the states, and stops at the first that is wrong.
#[derive(Debug)]
pub struct Cuts {
    seed: u64,
    per_moment: usize,
    left: u64,
    states: u64,
}

/// Something wrong, on its way to who asked.
pub(crate) struct Found {
    pub cut: Option<PowerCut>,
    pub message: String,
}

impl Cuts {
    pub(crate) const fn new(seed: u64, per_moment: usize, left: u64) -> Self {
        Self {
            seed,
            per_moment,
            left,
            states: 0,
        }
    }

    /// How many states were checked so far.
    #[must_use]
    pub const fn states(&self) -> u64 {
        self.states
    }

    /// A seed for what the workload itself needs.
    #[must_use]
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// Cuts the power after the first `moment` operations on `storage`, and has each image that may
    /// be left checked, once.
    pub fn file(&mut self, storage: &CrashStorage, moment: usize, check: &mut dyn FnMut(Vec<u8>)) {
        let history = storage.history();
        let operations = &history[..moment.min(history.len())];
        let mut seen = HashSet::new();
        for sector in [SECTOR_512, SECTOR_4K] {
            let seed = self.seed ^ (moment as u64) << 1 ^ u64::from(sector == SECTOR_4K);
            let mut states = storage.crash_states_at(moment, sector, seed, self.per_moment);
            while let Some(fates) = states.next_fates() {
                let image = states.image(&fates);
                if !seen.insert(hash(&image)) {
                    continue;
                }
                if !self.take() {
                    return;
                }
                let wrong = |fates: &[Fate]| attempt(|| check(states.image(fates))).err();
                judge(fates, wrong, |fates| PowerCut {
                    operations: operations.iter().map(ToString::to_string).collect(),
                    losses: states.losses(fates),
                });
            }
        }
    }

    /// Cuts the power after the first `moment` calls on a disk behind a page cache, and has each
    /// image that may be left checked, once.
    pub fn cached(&mut self, disk: &PageCacheDisk, moment: usize, check: &mut dyn FnMut(Vec<u8>)) {
        let mut seen = HashSet::new();
        let seed = self.seed ^ (moment as u64) << 8;
        for draw in 0..self.per_moment as u64 {
            // None of what is not synced, all of it, then what is drawn.
            let seed = if draw < 2 { draw } else { (seed ^ draw).max(2) };
            let (image, losses) = disk.power_cut_at(moment, seed);
            if !seen.insert(hash(&image)) {
                continue;
            }
            if !self.take() {
                return;
            }
            if let Err(panic) = attempt(|| check(image)) {
                let message = message_of(&*panic);
                let cut = Some(PowerCut {
                    operations: disk.history(moment),
                    losses,
                });
                std::panic::resume_unwind(Box::new(Found { cut, message }))
            }
        }
    }

    /// Cuts the power after the first `moment` calls of `trace`, and has each directory that may be
    /// left checked, once; `check` may do with it what it likes.
    ///
    /// # Panics
    /// If there is no room for the directory.
    pub fn tree(&mut self, trace: &Trace, moment: usize, check: &mut dyn FnMut(&Path)) {
        let operations = &trace.ops[..moment.min(trace.ops.len())];
        let mut seen = HashSet::new();
        for sector in [SECTOR_512, SECTOR_4K] {
            let seed = self.seed ^ (moment as u64) << 1 ^ u64::from(sector == SECTOR_4K);
            let mut states = TreeStates::new(trace, moment, sector, seed, self.per_moment);
            while let Some(fates) = states.next_fates() {
                let tree = states.tree(&fates);
                if !seen.insert(hash(&tree)) {
                    continue;
                }
                if !self.take() {
                    return;
                }
                let wrong = |fates: &[Fate]| attempt(|| lay_out(&states.tree(fates), check)).err();
                judge(fates, wrong, |fates| PowerCut {
                    operations: operations.iter().map(|op| trace.describe(op)).collect(),
                    losses: states.losses(fates),
                });
            }
        }
    }

    /// Counts a state that was checked without a power cut; false if there were enough.
    pub fn state(&mut self) -> bool {
        self.take()
    }

    /// One state more, unless there were enough.
    fn take(&mut self) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        self.states += 1;
        true
    }
}

fn hash(image: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    image.hash(&mut hasher);
    hasher.finish()
}

fn lay_out(tree: &Tree, check: &mut dyn FnMut(&Path)) {
    let root = scratch::dir();
    let made = tree.lay_out(root.path());
    made.expect("there is room for the directory");
    check(root.path());
}

type Panic = Box<dyn std::any::Any + Send>;

/// Goes on if nothing is wrong; else finds out which losses it takes, and unwinds.
fn judge(
    mut fates: Vec<Fate>,
    mut wrong: impl FnMut(&[Fate]) -> Option<Panic>,
    cut: impl FnOnce(&[Fate]) -> PowerCut,
) {
    let Some(mut panic) = wrong(&fates) else {
        return;
    };
    let mut message = message_of(&*panic);
    for piece in 0..fates.len() {
        for kinder in [Fate::Written, Fate::Old] {
            let was = fates[piece];
            if was == Fate::Written || was == kinder {
                break;
            }
            fates[piece] = kinder;
            if let Some(again) = wrong(&fates) {
                panic = again;
                message = message_of(&*panic);
            } else {
                fates[piece] = was;
            }
        }
    }
    let cut = Some(cut(&fates));
    std::panic::resume_unwind(Box::new(Found { cut, message }))
}
