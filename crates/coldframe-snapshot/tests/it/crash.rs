//! Power cuts while snapshots are published, catalogued and deleted.

use std::collections::BTreeMap;
use std::path::Path;

use coldframe_snapshot::catalog::{self, Catalog};
use coldframe_snapshot::{Snapshot, snapshots_in};
use coldframe_storage::sweep_stale;
use coldframe_testkit::crash::{Cuts, HostOp, Recording, Timeline, Trace, World, explore, planted};
use coldframe_testkit::rng::Rng;
use coldframe_testkit::scratch;
use coldframe_units::{RootHash, SnapshotId};

use crate::compaction::turn;
use crate::support::{Vm, assert_sound};

mod overlap;
mod renamed;

const PAGES: u64 = 8;

/// An operation.
#[derive(Clone, Debug)]
enum Step {
    /// The guest fills a page.
    Fill {
        page: u64,
        byte: u8,
    },
    /// A snapshot with a name that was never used.
    Full,
    /// One on top of the last one.
    Diff,
    /// Of the snapshots there are, the one of this number, and so on.
    Pin {
        which: u8,
        pinned: bool,
    },
    Lease {
        which: u8,
    },
    /// If nothing stands against it.
    Delete {
        which: u8,
    },
    /// Turns a pin so often, all at once, that the journal is compacted when it is opened next.
    Turn {
        which: u8,
        pinned: bool,
    },
    /// Closes the catalog and opens it again.
    Reopen,
}

/// A snapshot and what the catalog knows of it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
struct Known {
    pinned: bool,
    leases: BTreeMap<String, u64>,
}

/// By name.
type All = BTreeMap<String, Known>;

struct Snapshots {
    catalog: bool,
    /// What the program does instead of what it did.
    plant: fn(&mut Trace),
}

struct Run {
    vm: Vm,
    last: Option<Snapshot>,
    catalog: Option<Catalog>,
    // What each name ever stood for.
    roots: BTreeMap<String, RootHash>,
}

impl World for Snapshots {
    type Step = Step;

    fn draw(&self, rng: &mut Rng) -> Vec<Step> {
        let kinds = if self.catalog { 14 } else { 6 };
        let step = |rng: &mut Rng| {
            let which = rng.below(4) as u8;
            match rng.below(kinds) {
                0..=2 => Step::Fill {
                    page: rng.below(PAGES),
                    byte: rng.below(4) as u8,
                },
                3 => Step::Full,
                4..=5 => Step::Diff,
                6..=7 => Step::Pin {
                    which,
                    pinned: rng.below(3) > 0,
                },
                8 => Step::Lease { which },
                9..=10 => Step::Delete { which },
                11..=12 => Step::Turn {
                    which,
                    pinned: rng.below(2) > 0,
                },
                _ => Step::Reopen,
            }
        };
        let count = 3 + rng.below(8);
        (0..count).map(|_| step(rng)).collect()
    }

    fn run(&self, steps: &[Step], cuts: &mut Cuts) {
        let dir = scratch::dir();
        let recording = Recording::start(dir.path());
        let mut run = Run {
            vm: Vm::new(PAGES),
            last: None,
            catalog: self.catalog.then(|| Catalog::open(dir.path()).unwrap()),
            roots: BTreeMap::new(),
        };
        // What there was before the step, and what there is after it.
        let mut known = Timeline::new([All::new(), All::new()]);
        for (number, step) in steps.iter().enumerate() {
            let [_, before] = known.last();
            let after = run.outcome(before.clone(), step, number);
            known.note(recording.operations(), [before.clone(), after.clone()]);
            run.work(dir.path(), step, &before, &after);
            known.note(recording.operations(), [after.clone(), after]);
        }
        let mut trace = recording.trace();
        drop(recording);
        (self.plant)(&mut trace);
        for moment in 0..=trace.operations() {
            let allowed = known.promised(moment);
            cuts.tree(&trace, moment, &mut |dir| {
                check(dir, allowed, &run.roots, self.catalog);
            });
        }
    }
}

fn nth(all: &All, which: u8) -> Option<String> {
    let count = all.len().max(1);
    all.keys().nth(usize::from(which) % count).cloned()
}

impl Run {
    /// The id of a name, as the catalog has it.
    fn id(&self, name: &str) -> SnapshotId {
        let items = self.catalog.as_ref().unwrap().items();
        *items.iter().find(|(_, item)| item.name == name).unwrap().0
    }

    /// What a step makes of the snapshots.
    fn outcome(&self, mut all: All, step: &Step, number: usize) -> All {
        match step {
            Step::Full | Step::Diff => {
                all.insert(format!("s{number:03}"), Known::default());
            }
            Step::Pin { which, pinned } | Step::Turn { which, pinned } => {
                if let Some(name) = nth(&all, *which) {
                    all.entry(name).or_default().pinned = *pinned;
                }
            }
            Step::Lease { which } => {
                if let Some(name) = nth(&all, *which) {
                    // Over since long: it stands against nothing.
                    let lease = ("someone".to_owned(), number as u64 + 1);
                    all.entry(name).or_default().leases.extend([lease]);
                }
            }
            Step::Delete { which } => {
                if let Some(name) = nth(&all, *which) {
                    let is_free = self.catalog.as_ref().unwrap().children(self.id(&name));
                    if is_free.is_empty() && !all[&name].pinned {
                        all.remove(&name);
                    }
                }
            }
            Step::Fill { .. } | Step::Reopen => {}
        }
        all
    }

    fn work(&mut self, dir: &Path, step: &Step, before: &All, after: &All) {
        let changed = before.keys().chain(after.keys());
        let mut changed = changed.filter(|name| before.get(*name) != after.get(*name));
        let Some(name) = changed.next_back() else {
            match step {
                Step::Fill { page, byte } => self.vm.fill(*page, *byte),
                Step::Reopen => self.reopen(dir),
                Step::Turn { which, pinned } => {
                    if let Some(name) = nth(before, *which) {
                        self.turn(dir, self.id(&name), *pinned);
                    }
                }
                _ => {}
            }
            return;
        };
        match step {
            Step::Full | Step::Diff => {
                let dest = dir.join(name);
                let parent = self.last.take().filter(|_| matches!(step, Step::Diff));
                let snapshot = match parent {
                    Some(parent) => self.vm.diff(&dest, &parent),
                    None => self.vm.full(&dest),
                };
                self.roots.insert(name.clone(), snapshot.root());
                self.last = Some(snapshot);
                self.reopen(dir);
            }
            Step::Pin { pinned, .. } => {
                let id = self.id(name);
                self.catalog.as_mut().unwrap().pin(id, *pinned).unwrap();
            }
            Step::Turn { pinned, .. } => self.turn(dir, self.id(name), *pinned),
            Step::Lease { .. } => {
                let (id, until) = (self.id(name), after[name].leases["someone"]);
                let catalog = self.catalog.as_mut().unwrap();
                catalog.lease(id, "someone", until).unwrap();
            }
            _ => {
                let id = self.id(name);
                self.catalog.as_mut().unwrap().delete(id).unwrap();
                self.last.take_if(|last| last.id() == id);
            }
        }
    }

    fn turn(&mut self, dir: &Path, id: SnapshotId, pinned: bool) {
        self.catalog = None;
        turn(dir, id, pinned, 80);
        self.catalog = Some(Catalog::open(dir).unwrap());
    }

    /// The catalog learns what there is when it is opened.
    fn reopen(&mut self, dir: &Path) {
        if self.catalog.take().is_some() {
            self.catalog = Some(Catalog::open(dir).unwrap());
        }
    }
}

fn check(dir: &Path, allowed: &[All], roots: &BTreeMap<String, RootHash>, with_catalog: bool) {
    sweep_stale(dir).unwrap();
    let snapshots = snapshots_in(dir).unwrap().snapshots;
    let mut names = Vec::new();
    for snapshot in &snapshots {
        let name = snapshot.path().file_name().unwrap();
        let name = name.to_string_lossy().into_owned();
        assert_eq!(Some(&snapshot.root()), roots.get(&name), "{name}");
        assert_sound(snapshot.path());
        names.push(name);
    }
    let entries = std::fs::read_dir(dir).unwrap();
    let entries: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
    let others = entries.iter().filter(|name| *name != catalog::CATALOG);
    assert_eq!(others.count(), names.len(), "{entries:?} are not all sound");
    if !with_catalog {
        let is_found = |all: &All| names.iter().eq(all.keys());
        assert!(allowed.iter().any(is_found), "{names:?}: {allowed:?}");
        return;
    }
    let known = |items: &BTreeMap<SnapshotId, catalog::Item>| -> All {
        let known = items.values().map(|item| {
            let (pinned, leases) = (item.pinned, item.leases.clone());
            (item.name.clone(), Known { pinned, leases })
        });
        known.collect()
    };
    let read = known(&catalog::read(dir).unwrap().items);
    assert!(allowed.contains(&read), "{read:?}: {allowed:?}");
    for _ in 0..2 {
        let catalog = Catalog::open(dir).unwrap();
        assert_eq!(known(catalog.items()), read);
    }
}

#[test]
fn a_power_cut_leaves_whole_snapshots_and_no_others() {
    let world = Snapshots {
        catalog: false,
        plant: |_| (),
    };
    explore("snapshot publish", 200, &world);
}

#[test]
fn a_power_cut_leaves_what_the_catalog_acknowledged() {
    let world = Snapshots {
        catalog: true,
        plant: |_| (),
    };
    explore("snapshot catalog", 400, &world);
}

/// A world in which no sync of what is called so happens.
fn without_sync_of(plant: fn(&mut Trace), catalog: bool) -> Snapshots {
    Snapshots { catalog, plant }
}

fn is_sync_of(trace: &Trace, op: &HostOp, label: &str) -> bool {
    matches!(op, HostOp::Sync { node, .. } if trace.label(*node) == label)
}

#[test]
fn planted_a_manifest_before_the_memory_is_found() {
    let plant = |trace: &mut Trace| trace.leave_out(|all, op| is_sync_of(all, op, "memory"));
    let world = without_sync_of(plant, false);
    planted("snapshot: manifest before the memory", 5000, &world);
}

#[test]
fn planted_a_pin_that_is_acknowledged_before_the_sync_is_found() {
    let plant = |trace: &mut Trace| trace.leave_out(|all, op| is_sync_of(all, op, "catalog"));
    let world = without_sync_of(plant, true);
    planted("catalog: acknowledged before the sync", 5000, &world);
}

#[test]
fn planted_a_catalog_entry_before_its_directory_is_found() {
    // The directory's own name is never made durable; entries about it are.
    let plant = |trace: &mut Trace| {
        trace.leave_out(|all, op| is_sync_of(all, op, ""));
    };
    let world = without_sync_of(plant, true);
    planted("catalog: entry before its directory", 5000, &world);
}
