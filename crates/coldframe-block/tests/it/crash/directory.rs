//! A disk in a directory of the host, store and log together, as the crash simulator sees it.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;

use coldframe_block::{BlockDevice, DeviceParts, DiskImage, Shrink, open_log};
use coldframe_chunks::{Directory, LocalStore, PackStore, TagName};
use coldframe_storage::{FileStorage, Overwrite};
use coldframe_testkit::crash::{Cuts, HostOp, Recording, Timeline, Trace, World, explore, planted};
use coldframe_testkit::rng::Rng;
use coldframe_testkit::scratch;
use coldframe_units::ByteLen;

use crate::support::{CALM, PAGE, STORE, all, all_of, name, noise};

/// The file of the log, in the directory of the disk.
const LOG: &str = "disk.wal";
/// Room for a few pages: it comes around within a workload.
const LOG_BYTES: u64 = 64 << 10;
/// Two blocks and a part of a third.
const PAGES: u64 = 35;

/// An operation; pages and tags are few, so that they meet.
#[derive(Clone, Debug)]
enum Step {
    Write { page: u64, pages: u64, seed: u64 },
    Zero { page: u64, pages: u64 },
    Flush,
    Fold,
    Checkpoint { tag: u64 },
    Resize { pages: u64 },
}

/// The bytes of the disk after each change, the first of which is none.
type States = Vec<Vec<u8>>;

/// What may be found after a power cut.
#[derive(Clone, Debug)]
struct Allowed {
    /// Each page is as one of these states has it, by number.
    states: RangeInclusive<usize>,
    /// What each checkpoint may hold; `None` is no checkpoint.
    checkpoints: BTreeMap<u64, Vec<Option<usize>>>,
}

struct Disk {
    /// What the program does instead of what it did.
    plant: fn(&mut Trace),
}

impl World for Disk {
    type Step = Step;

    fn draw(&self, rng: &mut Rng) -> Vec<Step> {
        let step = |rng: &mut Rng| {
            let page = rng.below(PAGES);
            let pages = 1 + rng.below(3.min(PAGES - page));
            let seed = rng.next_u64();
            match rng.below(16) {
                0..=5 => Step::Write { page, pages, seed },
                6 => Step::Zero {
                    page,
                    pages: PAGES - page,
                },
                7..=10 => Step::Flush,
                11 | 12 => Step::Fold,
                13 | 14 => Step::Checkpoint { tag: rng.below(2) },
                _ => Step::Resize {
                    pages: 1 + rng.below(2 * PAGES),
                },
            }
        };
        let count = 2 + rng.below(5);
        (0..count).map(|_| step(rng)).collect()
    }

    fn run(&self, steps: &[Step], cuts: &mut Cuts) {
        let dir = scratch::dir();
        let store = LocalStore::create(&dir.path().join("store")).unwrap();
        coldframe_block::create(&store, &name("disk"), ByteLen::new(PAGES * PAGE)).unwrap();
        drop(store);
        let device = open(dir.path());
        let recording = Recording::start(dir.path());
        let mut states = vec![vec![0; (PAGES * PAGE) as usize]];
        let mut known = Timeline::new(Allowed {
            states: 0..=0,
            checkpoints: BTreeMap::new(),
        });
        for step in steps {
            let Some(after) = outcome(&states[states.len() - 1], step) else {
                continue;
            };
            states.push(after);
            let newest = states.len() - 1;
            let mut allowed = known.last();
            allowed.states = *allowed.states.start()..=newest;
            if let Step::Checkpoint { tag } = step {
                let held = allowed.checkpoints.entry(*tag).or_insert(vec![None]);
                held.push(Some(newest));
            }
            known.note(recording.operations(), allowed.clone());
            take(&device, step);
            if !matches!(step, Step::Write { .. } | Step::Zero { .. }) {
                allowed.states = newest..=newest;
            }
            if let Step::Checkpoint { tag } = step {
                allowed.checkpoints.insert(*tag, vec![Some(newest)]);
            }
            known.note(recording.operations(), allowed);
        }
        drop(device);
        let mut trace = recording.trace();
        drop(recording);
        (self.plant)(&mut trace);
        for moment in 0..=trace.operations() {
            let allowed = known.promised(moment);
            cuts.tree(&trace, moment, &mut |dir| check(dir, &states, allowed));
        }
    }
}

fn open(dir: &Path) -> BlockDevice<Directory, FileStorage> {
    let parts = DeviceParts {
        store: open_store(dir),
        chunks: None,
        head: name("disk"),
        log: open_log(&dir.join(LOG), ByteLen::new(LOG_BYTES)).unwrap(),
        base: None,
    };
    BlockDevice::open(parts, CALM).unwrap()
}

fn open_store(dir: &Path) -> PackStore<Directory> {
    PackStore::open_at(Directory::new(&dir.join("store")).unwrap(), STORE).unwrap()
}

fn checkpoint(tag: u64) -> TagName {
    name(&format!("disk@{tag}"))
}

fn take(device: &BlockDevice<Directory, FileStorage>, step: &Step) {
    match step {
        Step::Write { page, pages, seed } => {
            let data = noise(*seed, pages * PAGE);
            device.write_at(page * PAGE, &data).unwrap();
        }
        Step::Zero { page, pages } => device.write_zeroes(page * PAGE, pages * PAGE).unwrap(),
        Step::Flush => device.flush().unwrap(),
        Step::Fold => drop(device.fold().unwrap()),
        Step::Checkpoint { tag } => {
            let made = device.checkpoint(&checkpoint(*tag), Overwrite::Replace);
            made.unwrap();
        }
        Step::Resize { pages } => {
            let size = ByteLen::new(pages * PAGE);
            device.resize(size, Shrink::Allow).unwrap();
        }
    }
}

/// What the disk holds after a step; `None` if it is too short for the step.
fn outcome(before: &[u8], step: &Step) -> Option<Vec<u8>> {
    let mut bytes = before.to_vec();
    let range = |page: u64, pages: u64| (page * PAGE) as usize..((page + pages) * PAGE) as usize;
    match step {
        Step::Write { page, pages, seed } => {
            let part = bytes.get_mut(range(*page, *pages))?;
            part.copy_from_slice(&noise(*seed, pages * PAGE));
        }
        Step::Zero { page, pages } => bytes.get_mut(range(*page, *pages))?.fill(0),
        Step::Resize { pages } => bytes.resize((pages * PAGE) as usize, 0),
        Step::Flush | Step::Fold | Step::Checkpoint { .. } => {}
    }
    Some(bytes)
}

fn check(dir: &Path, states: &States, allowed: &Allowed) {
    let device = open(dir);
    let found = all(&device);
    let known = &states[allowed.states.clone()];
    let has_len = known.iter().any(|state| state.len() == found.len());
    assert!(has_len, "a disk of {} bytes", found.len());
    for (number, page) in found.chunks(PAGE as usize).enumerate() {
        let at = number * PAGE as usize;
        let is_known = known
            .iter()
            .any(|state| state.get(at..at + page.len()) == Some(page));
        assert!(is_known, "page {number} is none of {:?}", allowed.states);
    }
    let store = open_store(dir);
    for tag in 0..2 {
        let is_there = store.tag(&checkpoint(tag)).unwrap().is_some();
        let held =
            is_there.then(|| all_of(&DiskImage::open(&store, &checkpoint(tag), None).unwrap()));
        let may_hold = allowed
            .checkpoints
            .get(&tag)
            .map_or(&[None][..], Vec::as_slice);
        let is_known = may_hold
            .iter()
            .any(|number| number.map(|number| &states[number]) == held.as_ref());
        assert!(
            is_known,
            "checkpoint {tag} (there: {is_there}) is none of {may_hold:?}"
        );
    }
    // What was recovered is as good as any: it folds, and is the same when opened again.
    device.fold().unwrap();
    drop(device);
    assert!(all(&open(dir)) == found, "not the same when opened again");
    assert!(store.verify(&[]).unwrap().is_sound());
}

// Spec: BLK-10, BLK-13, BLK-21, BLK-22
#[test]
fn a_power_cut_leaves_what_was_flushed_and_every_checkpoint() {
    explore("disk in a directory", 300, &Disk { plant: |_| () });
}

/// Whether this call makes a file, or the names in a directory, durable.
fn is_sync_of(trace: &Trace, label: &str, op: &HostOp) -> bool {
    matches!(op, HostOp::Sync { node, .. } if trace.label(*node).contains(label))
}

#[test]
fn planted_a_flush_without_a_sync_of_the_log_is_found() {
    let plant = |trace: &mut Trace| trace.leave_out(|trace, op| is_sync_of(trace, LOG, op));
    planted("disk: flush without a sync", 5000, &Disk { plant });
}

#[test]
fn planted_a_head_that_moves_before_its_chunks_is_found() {
    let plant = |trace: &mut Trace| trace.leave_out(|trace, op| is_sync_of(trace, ".pack", op));
    planted("disk: head before its chunks", 5000, &Disk { plant });
}

#[test]
fn planted_a_checkpoint_whose_tag_is_not_durable_is_found() {
    let plant = |trace: &mut Trace| trace.leave_out(|trace, op| is_sync_of(trace, "tags", op));
    planted("disk: tags not synced", 5000, &Disk { plant });
}
