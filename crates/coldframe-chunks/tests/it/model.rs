//! Any order of steps by several processes, against a map of what must be there.

use std::collections::{BTreeMap, BTreeSet};

use coldframe_chunks::{ChunkStore, PackStore, Push};
use proptest::prelude::*;

use crate::backend::MemBackend;
use crate::support::{
    AT_ONCE, OPTIONS, bytes, chunk, id, index_of, name, put, reopened, tag_of, untag,
};

#[derive(Clone, Debug)]
enum Step {
    /// Begins a push (ends the one under way without a tag).
    Begin(usize),
    /// Puts chunks into the push.
    Put(usize, Vec<u64>),
    /// Keeps an index of all that was put, and tags it.
    Tag(usize, u8),
    /// Ends the push.
    Finish(usize),
    Untag(u8),
    Collect,
    /// A lone chunk, without a tag: garbage from the beginning.
    Orphan(u64),
    Reopen(usize),
    /// Flips a bit in a random pack, verifies, and puts all that is damaged again.
    RotAndHeal(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let writer = 0..3_usize;
    let number = 0..12_u64;
    prop_oneof![
        3 => writer.clone().prop_map(Step::Begin),
        6 => (writer.clone(), prop::collection::vec(number.clone(), 1..5))
            .prop_map(|(writer, numbers)| Step::Put(writer, numbers)),
        4 => (writer.clone(), 0..4_u8).prop_map(|(writer, tag)| Step::Tag(writer, tag)),
        3 => writer.clone().prop_map(Step::Finish),
        2 => (0..4_u8).prop_map(Step::Untag),
        4 => Just(Step::Collect),
        2 => number.prop_map(Step::Orphan),
        1 => writer.prop_map(Step::Reopen),
        1 => any::<u8>().prop_map(Step::RotAndHeal),
    ]
}

struct Writer {
    store: PackStore<MemBackend>,
    push: Option<Push<MemBackend>>,
    numbers: Vec<u64>,
}

impl Writer {
    fn new(backend: &MemBackend) -> Self {
        let (store, push) = (reopened(backend), None);
        let numbers = Vec::new();
        Self {
            store,
            push,
            numbers,
        }
    }
}

/// What must be there: for each tag the chunks of its index.
type Model = BTreeMap<u8, Vec<u64>>;

fn tag_name(tag: u8) -> String {
    format!("t{tag}")
}

fn run(step: &Step, backend: &MemBackend, writers: &mut [Writer], model: &mut Model) {
    match step {
        Step::Begin(at) => {
            writers[*at].numbers.clear();
            writers[*at].push = Some(writers[*at].store.push().unwrap());
        }
        Step::Put(at, numbers) => {
            let writer = &mut writers[*at];
            if let Some(push) = &writer.push {
                put(push, numbers).unwrap();
                writer.numbers.extend(numbers);
            }
        }
        Step::Tag(at, tag) => {
            let writer = &writers[*at];
            let Some(push) = writer.push.as_ref().filter(|_| !writer.numbers.is_empty()) else {
                return;
            };
            let ids: Vec<_> = writer.numbers.iter().map(|number| id(*number)).collect();
            let root = push.put_root(&[&index_of(&ids)]).unwrap();
            let name = name(&tag_name(*tag));
            let before = writer.store.tag(&name).unwrap();
            push.tag(&name, before, tag_of(root)).unwrap();
            model.insert(*tag, writer.numbers.clone());
        }
        Step::Finish(at) => {
            if let Some(push) = writers[*at].push.take() {
                push.finish().unwrap();
            }
            writers[*at].numbers.clear();
        }
        Step::Untag(tag) => {
            if model.remove(tag).is_some() {
                untag(&reopened(backend), &tag_name(*tag));
            }
        }
        Step::Collect => {
            reopened(backend).collect(AT_ONCE, &[]).unwrap();
        }
        Step::Orphan(number) => {
            reopened(backend).put(&chunk(*number)).unwrap();
        }
        Step::Reopen(at) => writers[*at] = Writer::new(backend),
        Step::RotAndHeal(which) => rot_and_heal(backend, *which),
    }
}

fn rot_and_heal(backend: &MemBackend, which: u8) {
    let packs = backend.keys(coldframe_chunks::Folder::Packs);
    if packs.is_empty() {
        return;
    }
    let pack = &packs[usize::from(which) % packs.len()];
    backend.rot(pack, |bytes| bytes[160 + usize::from(which)] ^= 1);
    reopened(backend).verify(&[]).unwrap();
    let store = reopened(backend);
    for number in 0..12 {
        if store.get(id(number)).is_err_and(|error| error.is_corrupt()) {
            reopened(backend).put(&chunk(number)).unwrap();
        }
    }
}

fn check(backend: &MemBackend, model: &Model) {
    let store = reopened(backend);
    for numbers in model.values() {
        for number in numbers {
            assert_eq!(store.get(id(*number)).unwrap(), bytes(*number));
        }
    }
    let tags: BTreeSet<String> = store
        .tags()
        .unwrap()
        .keys()
        .map(ToString::to_string)
        .collect();
    assert_eq!(tags, model.keys().map(|tag| tag_name(*tag)).collect());
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 96,
        failure_persistence: None,
        ..Default::default()
    })]

    // Spec: STORE-11
    #[test]
    fn no_order_of_pushes_and_collections_loses_what_is_tagged(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let backend = MemBackend::default();
        PackStore::create_at(backend.clone(), OPTIONS).unwrap();
        let mut writers: Vec<Writer> = (0..3).map(|_| Writer::new(&backend)).collect();
        let mut model = Model::new();
        for step in &steps {
            run(step, &backend, &mut writers, &mut model);
            check(&backend, &model);
        }
        // When all writers are gone, only what is tagged is left.
        drop(writers);
        let store = reopened(&backend);
        store.collect(AT_ONCE, &[]).unwrap();
        store.collect(AT_ONCE, &[]).unwrap();
        check(&backend, &model);
        let live: BTreeSet<u64> = model.values().flatten().copied().collect();
        let done = store.collect(AT_ONCE, &[]).unwrap();
        prop_assert_eq!(done.live_chunks, live.len() as u64);
        prop_assert_eq!(done.waiting, 0);
        if model.is_empty() {
            prop_assert!(backend.keys(coldframe_chunks::Folder::Packs).is_empty());
        }
    }
}
