//! Any order of steps by several processes, against a map of what must be there.

use std::collections::{BTreeMap, BTreeSet};

use coldframe_chunks::{AnyBackend, Backend, ChunkStore, Folder, Key, PackStore, Push};
use proptest::prelude::*;

use crate::backend::MemBackend;
use crate::faulty::Faulty;
use crate::places::QUICK;
use crate::support::{AT_ONCE, OPTIONS, bytes, chunk, id, index_of, name, put, tag_of, untag};

/// A place that processes come to, and in which bits rot.
trait World {
    type Place: Backend;

    /// What a process that starts now sees.
    fn reopened(&self) -> PackStore<Self::Place>;

    fn packs(&self) -> Vec<Key> {
        let listed = self.reopened().backend().list(Folder::Packs).unwrap();
        let mut keys: Vec<Key> = listed.into_iter().map(|file| file.key).collect();
        keys.sort();
        keys
    }

    fn flip(&self, key: &Key, at: usize);
}

impl World for MemBackend {
    type Place = Self;

    fn reopened(&self) -> PackStore<Self> {
        PackStore::create_at(self.clone(), OPTIONS).unwrap()
    }

    fn flip(&self, key: &Key, at: usize) {
        self.rot(key, |bytes| bytes[at] ^= 1);
    }
}

/// Object storage in memory.
impl World for Faulty {
    type Place = AnyBackend;

    fn reopened(&self) -> PackStore<AnyBackend> {
        self.store_with(QUICK, OPTIONS)
    }

    fn flip(&self, key: &Key, at: usize) {
        use object_store::ObjectStoreExt as _;
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().unwrap();
        runtime.block_on(async {
            let path = object_store::path::Path::from(format!("p/{key}"));
            let found = self.inner.get(&path).await.unwrap();
            let mut bytes = found.bytes().await.unwrap().to_vec();
            bytes[at] ^= 1;
            self.inner.put(&path, bytes.into()).await.unwrap();
        });
    }
}

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

struct Writer<B: Backend> {
    store: PackStore<B>,
    push: Option<Push<B>>,
    numbers: Vec<u64>,
}

impl<B: Backend> Writer<B> {
    fn new(world: &impl World<Place = B>) -> Self {
        let (store, push) = (world.reopened(), None);
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

fn run<W: World>(step: &Step, world: &W, writers: &mut [Writer<W::Place>], model: &mut Model) {
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
                untag(&world.reopened(), &tag_name(*tag));
            }
        }
        Step::Collect => {
            world.reopened().collect(AT_ONCE, &[]).unwrap();
        }
        Step::Orphan(number) => {
            world.reopened().put(&chunk(*number)).unwrap();
        }
        Step::Reopen(at) => writers[*at] = Writer::new(world),
        Step::RotAndHeal(which) => rot_and_heal(world, *which),
    }
}

fn rot_and_heal(world: &impl World, which: u8) {
    let packs = world.packs();
    if packs.is_empty() {
        return;
    }
    let pack = &packs[usize::from(which) % packs.len()];
    world.flip(pack, 160 + usize::from(which));
    world.reopened().verify(&[]).unwrap();
    let store = world.reopened();
    for number in 0..12 {
        if store.get(id(number)).is_err_and(|error| error.is_corrupt()) {
            world.reopened().put(&chunk(number)).unwrap();
        }
    }
}

fn check(world: &impl World, model: &Model) {
    let store = world.reopened();
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

/// Runs the steps, everything checked after each; at the end only what is tagged is left.
fn hold<W: World>(world: &W, steps: &[Step]) {
    let mut writers: Vec<Writer<W::Place>> = (0..3).map(|_| Writer::new(world)).collect();
    let mut model = Model::new();
    for step in steps {
        run(step, world, &mut writers, &mut model);
        check(world, &model);
    }
    drop(writers);
    let store = world.reopened();
    store.collect(AT_ONCE, &[]).unwrap();
    store.collect(AT_ONCE, &[]).unwrap();
    check(world, &model);
    let live: BTreeSet<u64> = model.values().flatten().copied().collect();
    let done = store.collect(AT_ONCE, &[]).unwrap();
    assert_eq!(done.live_chunks, live.len() as u64);
    assert_eq!(done.waiting, 0);
    if model.is_empty() {
        assert!(world.packs().is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 96,
        failure_persistence: None,
        ..Default::default()
    })]

    // Spec: STORE-11
    // Parity: F41
    #[test]
    fn no_order_of_pushes_and_collections_loses_what_is_tagged(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        hold(&MemBackend::default(), &steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 24,
        failure_persistence: None,
        ..Default::default()
    })]

    // Spec: STORE-11, STORE-24
    #[test]
    fn no_order_of_pushes_and_collections_loses_what_is_tagged_in_object_storage(
        steps in prop::collection::vec(step(), 1..40),
    ) {
        hold(&Faulty::default(), &steps);
    }
}
