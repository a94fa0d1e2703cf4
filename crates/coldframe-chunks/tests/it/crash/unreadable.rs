//! Every file of a store in turn cannot be read, in every way, while everything is done with the
//! store: nothing needed is deleted, everything else is read, and what went wrong names the file.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::time::Duration;

use coldframe_chunkfile::{IndexOrigin, Ledger};
use coldframe_chunks::{
    ChunkStore, CollectOptions, Collected, Finding, Key, Located, PackStore, StoreError, TagName,
    Verified,
};
use coldframe_envelope::Producer;
use coldframe_testkit::rng::Rng;
use coldframe_testkit::unreadable::{Ailment, World, explore, planted};
use coldframe_units::RootHash;

use crate::ailing::Ailing;
use crate::backend::{Files, MemBackend};
use crate::support::{
    AT_ONCE, OPTIONS, bytes, chunk, id, index_with, name, push_image, put, tag_of, untag,
};

/// The root that a tag names, and the numbers of the chunks below it.
type Model = BTreeMap<TagName, (RootHash, Vec<u64>)>;

struct Filled {
    files: Files,
    model: Model,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Get,
    Tags,
    VerifyTables,
    Verify,
    Stat,
    Collect,
    /// A collection that may give up whatever tags need.
    GiveUp,
    /// One that keeps what is young, twice: what the first condemned, the second deletes.
    CollectOld,
    /// One that writes anew each pack with any garbage.
    Compact,
    /// Chunks that nobody needs, from the packs that have them.
    Delete,
    Push,
    Swap,
    Untag,
    /// All tags of a family, then a collection.
    Prune,
    Export,
}

impl Operation {
    /// Those that delete.
    const DELETING: [Self; 7] = [
        Self::Collect,
        Self::GiveUp,
        Self::CollectOld,
        Self::Compact,
        Self::Delete,
        Self::Untag,
        Self::Prune,
    ];
}

#[derive(Default)]
struct Stores {
    /// A planted bug: what cannot be read is taken for absent.
    forgives: bool,
    /// A planted bug: only listings tell which files there are, for the ledger names none.
    believes_listings: bool,
}

/// An image with a parent of which two blocks are as they were.
fn push_child(store: &PackStore<MemBackend>, parent: RootHash, numbers: &[u64]) -> RootHash {
    let push = store.push().unwrap();
    let ids = put(&push, numbers).unwrap();
    let size = store.index(parent).unwrap().size();
    let origin = IndexOrigin::Parent { root: parent, size };
    let root = push
        .put_root(&[&index_with(size, origin, ids.into_iter().zip(0..))])
        .unwrap();
    push.tag(&name("child"), None, tag_of(root)).unwrap();
    push.finish().unwrap();
    root
}

fn draw(rng: &mut Rng) -> Filled {
    let backend = MemBackend::default();
    let open = || PackStore::create_at(backend.clone(), OPTIONS).unwrap();
    let (store, other) = (open(), open());
    let mut some = |count: u64| -> Vec<u64> { (0..count).map(|_| rng.below(20)).collect() };
    let mut model = Model::new();
    for tag in ["one", "two", "three"] {
        let numbers = some(4);
        let root = push_image(&store, tag, &numbers).unwrap();
        model.insert(name(tag), (root, numbers));
    }
    let (parent, mut below) = model[&name("one")].clone();
    let numbers = some(2);
    let root = push_child(&store, parent, &numbers);
    below.extend(numbers);
    model.insert(name("child"), (root, below));
    // Further copies: both begin before either is done.
    let twice = some(2);
    let (push, later) = (store.push().unwrap(), other.push().unwrap());
    put(&push, &twice).unwrap();
    put(&later, &twice).unwrap();
    push.finish().unwrap();
    later.finish().unwrap();
    // Garbage: condemned and waiting, and not yet condemned.
    push_image(&store, "gone", &[30, 31]).unwrap();
    untag(&store, "gone");
    let early = store.push().unwrap();
    store.collect(AT_ONCE, &[]).unwrap();
    drop(early);
    store.put_many(&[chunk(40), chunk(41)]).unwrap();
    Filled {
        files: backend.files(),
        model,
    }
}

/// All that an error says.
fn text_of(error: &StoreError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn is_named(key: &Key, text: &str) -> bool {
    match key {
        Key::Pack(file) => text.contains(&file.to_string()),
        Key::Root(root, _) => text.contains(&root.to_string()),
        Key::Tag(name) => text.contains(name.as_str()),
        Key::Ledger | Key::Store => text.contains(&key.to_string()),
    }
}

/// What is to be expected of a case.
struct Case<'a> {
    filled: &'a Filled,
    key: &'a Key,
    ailment: Ailment,
}

impl Case<'_> {
    fn is_error(&self) -> bool {
        matches!(self.ailment, Ailment::Errno(_))
    }

    /// Whether nothing but the sick pack has a chunk.
    fn is_only_there(&self, number: u64) -> bool {
        let needle = bytes(number);
        let mut packs = self.filled.files.iter().filter(|(key, file)| {
            matches!(key, Key::Pack(_)) && file.windows(needle.len()).any(|part| part == needle)
        });
        packs.all(|(key, _)| key == self.key)
    }

    fn is_only_copy(&self, root: RootHash) -> bool {
        // What a listing leaves out is found by the name that the ledger has.
        if self.ailment == Ailment::LeftOut {
            return false;
        }
        let mut copies = self.filled.files.keys();
        let is_other = |key: &Key| matches!(key, Key::Root(r, _) if *r == root && key != self.key);
        matches!(self.key, Key::Root(sick, _) if *sick == root) && !copies.any(is_other)
    }

    /// Whether what the tag names can be reached without the sick file.
    fn is_tag_hurt(&self, tag: &TagName) -> bool {
        let (root, numbers) = &self.filled.model[tag];
        let parent = self.filled.model[&name("one")].0;
        let by_parent = *tag == name("child") && self.is_only_copy(parent);
        let lacks = |number: &u64| self.is_only_there(*number);
        by_parent || self.is_only_copy(*root) || numbers.iter().any(lacks)
    }

    #[track_caller]
    fn allows(&self, is_affected: bool, error: &StoreError) {
        let text = text_of(error);
        assert!(is_affected, "{text}");
        // Of what is left out of a list nobody knows the name.
        let is_known = self.ailment != Ailment::LeftOut;
        assert!(!is_known || is_named(self.key, &text), "not named: {text}");
    }

    fn get(&self, store: &PackStore<Ailing>) {
        let numbers: BTreeSet<u64> = (self.filled.model.values())
            .flat_map(|(_, numbers)| numbers.clone())
            .collect();
        for number in numbers {
            match store.get(id(number)) {
                Ok(read) => assert_eq!(read, bytes(number)),
                Err(error) => self.allows(self.is_only_there(number), &error),
            }
        }
    }

    fn export(&self, store: &PackStore<Ailing>) {
        for (tag, (root, _)) in &self.filled.model {
            let is_hurt = self.is_tag_hurt(tag);
            let image = match store.image(*root) {
                Ok(image) => image,
                Err(error) => {
                    self.allows(is_hurt, &error);
                    continue;
                }
            };
            for block in 0..image.index().block_count() {
                let read = image.locate(block).and_then(|located| match located {
                    Located::Chunk(id, _) => store.get(id).map(drop),
                    _ => Ok(()),
                });
                if let Err(error) = read {
                    self.allows(is_hurt, &error);
                }
            }
        }
    }

    fn tags(&self, store: &PackStore<Ailing>) {
        let found = store.read_tags().unwrap();
        for tag in self.filled.model.keys() {
            let is_sick = *self.key == Key::Tag(tag.clone());
            match found.get(tag) {
                Some(Ok(found)) => assert_eq!(found.root, self.filled.model[tag].0),
                Some(Err(error)) => self.allows(is_sick, error),
                None => panic!("tag {tag} is taken for absent"),
            }
            if !is_sick {
                assert!(store.tag(tag).unwrap().is_some());
            }
        }
    }

    fn verified(&self, verified: &Verified) {
        for tag in verified.hurt_tags.keys() {
            assert!(self.is_tag_hurt(tag), "{tag} is hurt: {verified:?}");
        }
        let is_tagged = |root: &RootHash| {
            let mut tagged = self.filled.model.values();
            tagged.any(|(tagged, _)| tagged == root) && self.is_only_copy(*root)
        };
        let must_tell = match self.key {
            Key::Pack(_) | Key::Tag(_) => self.ailment != Ailment::LeftOut,
            Key::Root(root, _) => is_tagged(root),
            _ => self.is_error(),
        };
        let texts = verified.findings.iter().map(|finding| match finding {
            Finding::Pack { error, pack } => format!("{pack}: {}", text_of(error)),
            Finding::Chunk { error, .. } | Finding::Ledger { error } => text_of(error),
            Finding::Root { root, error } => format!("{root}: {}", text_of(error)),
            Finding::Tag { name, error } => format!("{name}: {}", text_of(error)),
            other => format!("{other:?}"),
        });
        let texts: Vec<String> = texts.collect();
        let is_told = texts.iter().any(|text| is_named(self.key, text));
        assert!(is_told || !must_tell, "not named: {texts:#?}");
    }

    fn collect(&self, store: &PackStore<Ailing>) {
        let before = &self.filled.files;
        let collected = store.collect(AT_ONCE, &[]);
        let after = store.backend().inner.files();
        let is_there = |key: &Key| after.contains_key(key);
        let has_garbage = |key: &&Key| !is_there(key) || *key == self.key;
        match (collected, self.key) {
            (Ok(_), Key::Pack(_) | Key::Root(..)) | (Ok(_), Key::Tag(_) | Key::Ledger) => {
                let must_fail = self.is_error()
                    && match self.key {
                        Key::Tag(_) | Key::Ledger => true,
                        Key::Root(root, _) => {
                            let mut tagged = self.filled.model.values();
                            tagged.any(|(tagged, _)| tagged == root) && self.is_only_copy(*root)
                        }
                        _ => false,
                    };
                assert!(!must_fail, "it went on");
                // What was garbage is gone, but for what could not be read.
                let orphans = before.keys().filter(|key| self.is_garbage(key));
                let left: Vec<&Key> = orphans.filter(|key| !has_garbage(key)).collect();
                assert!(left.is_empty(), "garbage stays: {left:?}");
            }
            (Err(error), Key::Pack(_)) => panic!("garbage stays: {}", text_of(&error)),
            (Err(error), _) => self.stopped(store, &error),
            (Ok(_), Key::Store) => {}
        }
    }

    /// Nothing was deleted before the error.
    fn stopped(&self, store: &PackStore<Ailing>, error: &StoreError) {
        self.allows(true, error);
        let after = store.backend().inner.files();
        let before = self.filled.files.keys();
        let gone: Vec<&Key> = before.filter(|key| !after.contains_key(key)).collect();
        assert!(gone.is_empty(), "deleted before it stopped: {gone:?}");
    }

    fn collect_with(&self, store: &PackStore<Ailing>, options: CollectOptions, gives_up: bool) {
        let roots = self.filled.model.values().map(|(root, _)| *root);
        let given_up = if gives_up {
            roots.collect()
        } else {
            BTreeSet::new()
        };
        let mut done = Collected::default();
        if let Err(error) = store.collect_into(options, &[], &given_up, &mut done) {
            self.stopped(store, &error);
        }
    }

    fn delete(&self, store: &PackStore<Ailing>) {
        if let Err(error) = store.delete(&[id(30), id(40)]) {
            self.allows(true, &error);
        }
    }

    fn prune(&self, store: &PackStore<Ailing>, model: &mut Model) {
        for tag in ["two", "three"] {
            let tag = name(tag);
            let found = match store.tags() {
                Ok(found) => found,
                // As the verb does: with a tag that cannot be read nothing is removed.
                Err(error) => return self.allows(true, &error),
            };
            match store.remove_tag(&tag, found[&tag]) {
                Ok(()) => drop(model.remove(&tag)),
                Err(error) => self.allows(*self.key == Key::Tag(tag.clone()), &error),
            }
        }
        for _ in 0..2 {
            let _ = store.collect(AT_ONCE, &[]);
        }
    }

    /// A pack that nothing needs any part of.
    fn is_garbage(&self, key: &Key) -> bool {
        let (Key::Pack(_), file) = (key, &self.filled.files[key]) else {
            return false;
        };
        let has = |number: &u64| {
            let needle = bytes(*number);
            file.windows(needle.len()).any(|part| part == needle)
        };
        !(0..20).any(|number| has(&number))
    }

    /// Names something new, or another thing by a tag that is there.
    fn push(&self, store: &PackStore<Ailing>, tag: &str, model: &mut Model) {
        let numbers = vec![2, 3, 50];
        let is_sick = *self.key == Key::Tag(name(tag));
        match push_image(store, tag, &numbers) {
            Ok(root) => drop(model.insert(name(tag), (root, numbers))),
            Err(error) => {
                self.allows(is_sick || *self.key == Key::Ledger, &error);
                // Whether it had its effect is told by the tag.
                let healthy = MemBackend::with_files(store.backend().inner.files());
                let found = PackStore::open_at(healthy, OPTIONS)
                    .unwrap()
                    .tag(&name(tag));
                let before = model.get(&name(tag)).map(|(root, _)| *root);
                assert_eq!(found.unwrap().map(|tag| tag.root), before);
            }
        }
    }

    fn untag(&self, store: &PackStore<Ailing>, model: &mut Model) {
        let tag = name("two");
        let is_sick = *self.key == Key::Tag(tag.clone());
        let removed = store.tag(&tag).and_then(|found| {
            let found = found.ok_or(StoreError::MissingTag { name: tag.clone() })?;
            store.remove_tag(&tag, found)
        });
        match removed {
            Ok(()) => drop(model.remove(&tag)),
            Err(error) => self.allows(is_sick, &error),
        }
    }
}

/// All that is tagged is there, byte for byte.
fn check_whole(backend: &MemBackend, model: &Model) {
    let store = PackStore::open_at(backend.clone(), OPTIONS).unwrap();
    let tags = store.tags().unwrap();
    let roots = tags.iter().map(|(name, tag)| (name, tag.root));
    let expected = model.iter().map(|(name, (root, _))| (name, *root));
    assert!(roots.eq(expected), "{tags:?}");
    for (_, numbers) in model.values() {
        for number in numbers {
            assert_eq!(store.get(id(*number)).unwrap(), bytes(*number));
        }
    }
    let verified = store.verify(&[]).unwrap();
    assert!(verified.is_sound(), "{verified:?}");
}

impl World for Stores {
    type Place = Filled;
    type Thing = Key;
    type Operation = Operation;

    fn draw(&self, rng: &mut Rng) -> Filled {
        draw(rng)
    }

    fn things(&self, place: &Filled) -> Vec<Key> {
        place.files.keys().cloned().collect()
    }

    fn operations(&self) -> Vec<Operation> {
        use Operation::{Export, Get, Push, Stat, Swap, Tags, Verify, VerifyTables};
        if self.believes_listings {
            return Operation::DELETING.to_vec();
        }
        let mut all = vec![Get, Tags, VerifyTables, Verify, Stat, Push, Swap, Export];
        all.extend(Operation::DELETING);
        all
    }

    fn check(&self, filled: &Filled, key: &Key, ailment: Ailment, operation: Operation) {
        let backend = MemBackend::with_files(filled.files.clone());
        if self.believes_listings {
            forget_files(&backend);
        }
        let mut place = Ailing::new(backend.clone());
        place.forgives = self.forgives;
        place.spoil(key, ailment);
        let case = Case {
            filled,
            key,
            ailment,
        };
        let mut model = filled.model.clone();
        match place.store() {
            Err(error) => {
                assert_eq!(*key, Key::Store, "{}", text_of(&error));
                assert!(!case.is_error() || is_named(key, &text_of(&error)));
            }
            Ok(store) => match operation {
                Operation::Get => case.get(&store),
                Operation::Tags => case.tags(&store),
                Operation::VerifyTables => case.verified(&store.verify_tables(&[]).unwrap()),
                Operation::Verify => case.verified(&store.verify(&[]).unwrap()),
                Operation::Stat => drop(store.stat_all(&[]).unwrap()),
                Operation::Collect => case.collect(&store),
                Operation::GiveUp => case.collect_with(&store, AT_ONCE, true),
                Operation::CollectOld => {
                    for _ in 0..2 {
                        case.collect_with(&store, OLD, false);
                    }
                }
                Operation::Compact => case.collect_with(&store, ANY_GARBAGE, false),
                Operation::Delete => case.delete(&store),
                Operation::Prune => case.prune(&store, &mut model),
                Operation::Push => case.push(&store, "new", &mut model),
                Operation::Swap => case.push(&store, "three", &mut model),
                Operation::Untag => case.untag(&store, &mut model),
                Operation::Export => case.export(&store),
            },
        }
        place.heal();
        check_whole(&backend, &model);
    }
}

/// As writers of earlier versions leave the ledger.
fn forget_files(backend: &MemBackend) {
    backend.rot(&Key::Ledger, |bytes| {
        let mut ledger = Ledger::decode(bytes).unwrap();
        ledger.files.clear();
        *bytes = ledger.encode(Producer::new("test", "1").unwrap()).unwrap();
    });
}

const OLD: CollectOptions = CollectOptions {
    grace: Duration::from_nanos(1),
    ..AT_ONCE
};

const ANY_GARBAGE: CollectOptions = CollectOptions {
    garbage_percent: 0,
    ..AT_ONCE
};

// Spec: STORE-3, STORE-10, STORE-11, STORE-45, CRASH-11
#[test]
fn whatever_cannot_be_read_nothing_needed_goes_and_the_rest_goes_on() {
    explore("chunks: unreadable file", 1, &Stores::default());
}

#[test]
fn a_place_that_takes_an_error_for_absence_is_found() {
    let bug = Stores {
        forgives: true,
        ..Stores::default()
    };
    let violation = planted("chunks: an error taken for absence", 10_000, &bug);
    println!("{}: {}", violation.case, violation.message);
}

// What a collector that goes by listings alone loses: the file that was left out is given up.
#[test]
fn a_collector_that_takes_what_is_not_listed_for_deleted_is_found() {
    let bug = Stores {
        believes_listings: true,
        ..Stores::default()
    };
    let violation = planted("chunks: a listing believed", 10_000, &bug);
    println!("{}: {}", violation.case, violation.message);
    assert!(violation.case.contains("LeftOut"), "{}", violation.case);
}
