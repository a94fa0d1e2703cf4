//! Captures that overlap, in any order, against a list of bytes: no power is cut here, but what is
//! checked (each published snapshot) counts as a state, and what is wrong is made small.

use std::path::Path;

use coldframe_dirty::DirtyBitmap;
use coldframe_hv::DirtySource;
use coldframe_snapshot::{
    AsParent, Capture, DirtyTracker, Freezer, Frozen, Kind, Snapshot, SnapshotError,
};
use coldframe_testkit::crash::{Cuts, World, explore, planted};
use coldframe_testkit::rng::Rng;
use coldframe_testkit::scratch;
use coldframe_units::{ByteLen, PageIndex, PageSize, RamOffset};

use crate::support::{PAGE, Vm, producer, thawed_memory};

const PAGES: u64 = 6;
const PAGES_MAX: u64 = 10;

#[derive(Clone, Debug)]
enum Step {
    /// A device writes.
    Device {
        page: u64,
        byte: u8,
    },
    /// A vCPU writes: only its log knows.
    Vcpu {
        which: usize,
        page: u64,
        byte: u8,
    },
    AddVcpu,
    /// The guest gives a page back; the host's memory keeps what it holds.
    Discard {
        page: u64,
    },
    /// Memory is plugged in or out at the end.
    Resize {
        pages: u64,
    },
    Begin {
        parent: Parent,
    },
    Copy {
        which: usize,
        fails: bool,
    },
    Publish {
        which: usize,
        fails: bool,
    },
    Drop {
        which: usize,
    },
}

#[derive(Clone, Copy, Debug)]
enum Parent {
    /// A full snapshot.
    None,
    /// The capture in flight of this number.
    InFlight(usize),
    /// The published snapshot of this number, from the newest.
    Published(usize),
}

/// The dirty logs of vCPUs.
#[derive(Debug, Default)]
struct Logs {
    logs: Vec<Vec<u64>>,
    fails: bool,
}

impl DirtySource for Logs {
    type Error = std::io::Error;

    fn harvest(&mut self, into: &DirtyBitmap) -> std::io::Result<()> {
        for log in &mut self.logs {
            for page in log.drain(..).filter(|page| *page < into.pages()) {
                into.mark_page(PageIndex::new(page)).unwrap();
            }
        }
        match self.fails {
            true => Err(std::io::Error::other("the log is gone")),
            false => Ok(()),
        }
    }
}

/// Captures in any order; with the bug, each is taken by a tracker that knows of no other.
struct Overlapping {
    forgetful: bool,
}

struct Run<'d> {
    dir: &'d Path,
    vm: Vm,
    dirty: DirtyTracker<Logs>,
    /// What a thaw must show, a byte for each page.
    model: Vec<u8>,
    begun: Vec<Capture>,
    flying: Vec<(Frozen, Vec<u8>)>,
    published: Vec<Snapshot>,
    names: usize,
    forgetful: bool,
}

impl World for Overlapping {
    type Step = Step;

    fn draw(&self, rng: &mut Rng) -> Vec<Step> {
        let step = |rng: &mut Rng| {
            let (page, byte) = (rng.below(PAGES_MAX), 1 + rng.below(200) as u8);
            let which = rng.below(3) as usize;
            let fails = rng.below(5) == 0;
            match rng.below(24) {
                0..=3 => Step::Device { page, byte },
                4..=7 => Step::Vcpu { which, page, byte },
                8 => Step::AddVcpu,
                9..=10 => Step::Discard { page },
                11 => Step::Resize {
                    pages: PAGES + rng.below(PAGES_MAX - PAGES + 1),
                },
                12..=15 => Step::Begin {
                    parent: match rng.below(5) {
                        0 => Parent::None,
                        1..=2 => Parent::InFlight(which),
                        _ => Parent::Published(which / 2),
                    },
                },
                16..=19 => Step::Copy { which, fails },
                20..=22 => Step::Publish { which, fails },
                _ => Step::Drop { which },
            }
        };
        let count = 10 + rng.below(40);
        (0..count).map(|_| step(rng)).collect()
    }

    fn run(&self, steps: &[Step], cuts: &mut Cuts) {
        let dir = scratch::dir();
        let size = PageSize::SIZE_4K;
        let [ram, most] = [PAGES, PAGES_MAX].map(|pages| ByteLen::new(pages * PAGE));
        let vm = Vm::over(DirtyBitmap::with_capacity(ram, most, size).unwrap());
        let logs = Logs {
            logs: vec![Vec::new()],
            fails: false,
        };
        let mut run = Run {
            dir: dir.path(),
            dirty: DirtyTracker::new(vm.bitmap.clone(), logs, None),
            vm,
            model: vec![0; PAGES as usize],
            begun: Vec::new(),
            flying: Vec::new(),
            published: Vec::new(),
            names: 0,
            forgetful: self.forgetful,
        };
        for step in steps {
            if run.work(step) && !cuts.state() {
                return;
            }
        }
        run.end();
        cuts.state();
    }
}

impl Run<'_> {
    /// Does a step, if it can be done; true if a snapshot was published and checked.
    fn work(&mut self, step: &Step) -> bool {
        let pages = self.model.len() as u64;
        match *step {
            Step::Device { page, byte } if page < pages => {
                self.vm.fill(page, byte);
                self.model[page as usize] = byte;
            }
            Step::Vcpu { which, page, byte } if page < pages => self.vcpu(which, page, byte),
            Step::AddVcpu => self.dirty.source_mut().logs.push(Vec::new()),
            Step::Discard { page } if page < pages && !self.forgetful => {
                let (offset, len) = (RamOffset::new(page * PAGE), ByteLen::new(PAGE));
                self.dirty.discard(offset, len).unwrap();
                self.model[page as usize] = 0;
            }
            Step::Resize { pages } => self.resize(pages),
            Step::Begin { parent } => self.begin(parent),
            Step::Copy { which, fails } if !self.begun.is_empty() => {
                let capture = self.begun.remove(which % self.begun.len());
                self.copy(capture, fails);
            }
            Step::Publish { which, fails } if !self.flying.is_empty() => {
                return self.publish(which % self.flying.len(), fails);
            }
            Step::Drop { which } if !self.flying.is_empty() => {
                drop(self.flying.remove(which % self.flying.len()));
            }
            _ => {}
        }
        false
    }

    /// As a vCPU writes: into memory, and the log.
    fn vcpu(&mut self, which: usize, page: u64, byte: u8) {
        let before = self.vm.bitmap.peek();
        self.vm.fill(page, byte);
        let mut marked = self.vm.bitmap.peek();
        marked.subtract(&before).unwrap();
        self.vm.bitmap.forget(&marked);
        self.model[page as usize] = byte;
        let logs = &mut self.dirty.source_mut().logs;
        let which = which % logs.len();
        logs[which].push(page);
    }

    fn resize(&mut self, pages: u64) {
        self.vm.bitmap.resize(ByteLen::new(pages * PAGE)).unwrap();
        self.vm.grow(pages);
        let before = self.model.len();
        self.model.resize(pages as usize, 0);
        // What is plugged in is new; what stays was copied by `grow` only as far as it is old.
        for (page, byte) in self.model.clone().into_iter().enumerate().take(before) {
            let memory = self.vm.read()[page * PAGE as usize];
            assert!(memory == byte || byte == 0, "the test's own guest is wrong");
        }
    }

    fn begin(&mut self, parent: Parent) {
        self.names += 1;
        let dest = self.dir.join(format!("s{:03}", self.names));
        let parent: Option<&dyn AsParent> = match parent {
            Parent::None => None,
            Parent::InFlight(which) => self.flying.iter().rev().nth(which).map(|(it, _)| it as _),
            Parent::Published(which) => self.published.iter().rev().nth(which).map(|it| it as _),
        };
        let kind = parent.map_or(Kind::Full, |parent| Kind::Diff { parent });
        self.begun
            .push(Freezer::new(dest, producer()).begin(kind).unwrap());
    }

    fn copy(&mut self, capture: Capture, fails: bool) {
        if self.forgetful {
            let logs = std::mem::take(self.dirty.source_mut());
            let baseline = self.published.last().map(Snapshot::id);
            self.dirty = DirtyTracker::new(self.vm.bitmap.clone(), logs, baseline);
        }
        self.dirty.source_mut().fails = fails;
        let copied = capture.copy(&self.vm.memory, &mut self.dirty, &self.vm.cpu);
        self.dirty.source_mut().fails = false;
        match copied {
            Ok(frozen) => self.flying.push((frozen, self.model.clone())),
            Err(SnapshotError::HarvestDirty(_)) => assert!(fails),
            Err(
                SnapshotError::InFlight { .. }
                | SnapshotError::Baseline { .. }
                | SnapshotError::ParentFailed { .. }
                | SnapshotError::Disagree { .. },
            ) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn publish(&mut self, which: usize, fails: bool) -> bool {
        let (frozen, then) = self.flying.remove(which);
        if fails {
            // The name is taken when it comes to that.
            std::fs::create_dir(frozen.dest()).unwrap();
        }
        match frozen.publish() {
            Ok(snapshot) => {
                assert!(!fails, "it has taken the place of something");
                check(&snapshot, &then);
                self.published.push(snapshot);
                true
            }
            Err(SnapshotError::Storage(error)) => {
                assert!(fails && error.is_exists(), "{error}");
                false
            }
            Err(SnapshotError::ParentUnpublished { .. } | SnapshotError::ParentFailed { .. }) => {
                false
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Whatever happened, a full snapshot and a diff on it are as good as ever.
    fn end(&mut self) {
        self.begun.clear();
        self.flying.clear();
        for parent in [Parent::None, Parent::Published(0)] {
            self.begin(parent);
            let capture = self.begun.remove(0);
            let copied = capture.copy(&self.vm.memory, &mut self.dirty, &self.vm.cpu);
            let snapshot = copied.unwrap().publish().unwrap();
            check(&snapshot, &self.model);
            self.published.push(snapshot);
            self.work(&Step::Vcpu {
                which: 0,
                page: 1,
                byte: 255,
            });
        }
    }
}

fn check(snapshot: &Snapshot, model: &[u8]) {
    let memory = thawed_memory(snapshot.path());
    let pages = memory.chunks(PAGE as usize);
    assert_eq!(pages.len(), model.len());
    for (number, (page, byte)) in pages.zip(model).enumerate() {
        let found = page.iter().find(|found| *found != byte);
        assert!(
            found.is_none(),
            "{}: page {number} has {found:?}, the guest had {byte}",
            snapshot.path().display()
        );
    }
}

#[test]
fn captures_in_any_order_thaw_to_the_memory_of_their_copy() {
    explore(
        "overlapping captures",
        200,
        &Overlapping { forgetful: false },
    );
}

#[test]
fn planted_a_tracker_that_forgets_what_is_in_flight_is_found() {
    let world = Overlapping { forgetful: true };
    planted("captures: a token in flight is forgotten", 20_000, &world);
}
