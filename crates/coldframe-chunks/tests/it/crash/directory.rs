//! A store in a directory of the host, as the crash simulator sees it.

use std::collections::BTreeMap;
use std::path::Path;

use coldframe_chunks::{ChunkStore, Directory, LocalStore, PackStore};
use coldframe_testkit::crash::{Cuts, HostOp, Recording, Timeline, Trace, World, explore, planted};
use coldframe_testkit::rng::Rng;
use coldframe_testkit::scratch;

use crate::support::{AT_ONCE, OPTIONS, bytes, id, name, push_image, untag};

/// An operation; tags and chunks are few, so that they meet.
#[derive(Clone, Debug)]
enum Step {
    /// An image of these chunks, under a tag.
    Push {
        tag: u8,
        chunks: Vec<u64>,
    },
    Untag {
        tag: u8,
    },
    Collect,
}

/// The chunks of the image under each tag; `None` before there is a store.
type Tags = Option<BTreeMap<String, Vec<u64>>>;

struct Store {
    /// What the program does instead of what it did.
    plant: fn(&mut Trace),
}

impl World for Store {
    type Step = Step;

    fn draw(&self, rng: &mut Rng) -> Vec<Step> {
        let step = |rng: &mut Rng| {
            let tag = rng.below(3) as u8;
            match rng.below(8) {
                0..=4 => {
                    let count = 1 + rng.below(4);
                    let chunks = (0..count).map(|_| rng.below(8)).collect();
                    Step::Push { tag, chunks }
                }
                5 => Step::Untag { tag },
                _ => Step::Collect,
            }
        };
        let count = 2 + rng.below(4);
        (0..count).map(|_| step(rng)).collect()
    }

    fn run(&self, steps: &[Step], cuts: &mut Cuts) {
        let dir = scratch::dir();
        let recording = Recording::start(dir.path());
        let path = dir.path().join("deep/store");
        // What was tagged before the step, and what is after it.
        let mut known = Timeline::new([None, Some(BTreeMap::new())]);
        // Through the usual door, for what it does to the directory.
        drop(LocalStore::create(&path).unwrap());
        let store = open(&path);
        let empty = Some(BTreeMap::new());
        known.note(recording.operations(), [empty.clone(), empty]);
        for step in steps {
            let [_, before] = known.last();
            let after = outcome(before.clone(), step);
            known.note(recording.operations(), [before.clone(), after.clone()]);
            match step {
                Step::Push { tag, chunks } => {
                    push_image(&store, &format!("t{tag}"), chunks).unwrap();
                }
                Step::Untag { .. } if after == before => {}
                Step::Untag { tag } => untag(&store, &format!("t{tag}")),
                Step::Collect => {
                    store.collect(AT_ONCE, &[]).unwrap();
                }
            }
            known.note(recording.operations(), [after.clone(), after]);
        }
        drop(store);
        let mut trace = recording.trace();
        drop(recording);
        (self.plant)(&mut trace);
        for moment in 0..=trace.operations() {
            let allowed = known.promised(moment);
            cuts.tree(&trace, moment, &mut |dir| {
                check(&dir.join("deep/store"), allowed)
            });
        }
    }
}

fn open(path: &Path) -> PackStore<Directory> {
    PackStore::open_at(Directory::new(path).unwrap(), OPTIONS).unwrap()
}

fn outcome(mut tags: Tags, step: &Step) -> Tags {
    let all = tags.get_or_insert_default();
    match step {
        Step::Push { tag, chunks } => {
            all.insert(format!("t{tag}"), chunks.clone());
        }
        Step::Untag { tag } => {
            all.remove(&format!("t{tag}"));
        }
        Step::Collect => {}
    }
    tags
}

fn check(path: &Path, allowed: &[Tags]) {
    if !path.join("store").exists() {
        assert!(allowed.contains(&None), "the store is gone");
        // What is left of it is no hindrance.
        drop(LocalStore::create(path).unwrap());
    }
    let store = open(path);
    let verified = store.verify(&[]).unwrap();
    assert!(verified.is_sound(), "{verified:?}");
    let tags: Vec<String> = store
        .tags()
        .unwrap()
        .keys()
        .map(ToString::to_string)
        .collect();
    let is_found = |tagged: &&BTreeMap<String, Vec<u64>>| {
        tags.iter().eq(tagged.keys())
            && tagged.values().flatten().all(|number| {
                let chunk = store.get(id(*number));
                chunk.is_ok_and(|found| found == bytes(*number))
            })
    };
    let allowed: Vec<_> = allowed.iter().flatten().collect();
    assert!(
        allowed.iter().any(is_found),
        "tags {tags:?} and their chunks are not those of {allowed:?}"
    );
    store.collect(AT_ONCE, &[]).unwrap();
    drop(store);
    let again = open(path);
    assert!(again.verify(&[]).unwrap().is_sound());
    push_image(&again, "later", &[2, 50]).unwrap();
    assert!(again.tag(&name("later")).unwrap().is_some());
}

// Spec: STORE-5, STORE-8, STORE-11
#[test]
fn a_power_cut_leaves_tags_and_all_that_they_name() {
    explore("chunk store in a directory", 400, &Store { plant: |_| () });
}

/// Whether this call is about a file or a directory in `folder`, or about it.
fn is_in(trace: &Trace, folder: &str, op: &HostOp) -> bool {
    matches!(op, HostOp::Sync { node, .. } if trace.label(*node).contains(folder))
}

#[test]
fn planted_a_tag_before_its_pack_is_found() {
    let plant = |trace: &mut Trace| {
        trace.leave_out(|trace, op| is_in(trace, ".pack", op));
    };
    planted("chunk store: tag before the pack", 5000, &Store { plant });
}

#[test]
fn planted_a_pack_without_a_durable_name_is_found() {
    let plant = |trace: &mut Trace| {
        trace.leave_out(|trace, op| is_in(trace, "packs", op));
    };
    planted(
        "chunk store: names of packs not synced",
        5000,
        &Store { plant },
    );
}

#[test]
fn planted_a_store_whose_own_name_is_not_durable_is_found() {
    let plant = |trace: &mut Trace| {
        trace.leave_out(|trace, op| is_in(trace, "deep", op));
    };
    planted(
        "chunk store: its own name not synced",
        5000,
        &Store { plant },
    );
}
