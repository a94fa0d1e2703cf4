//! Chains of snapshots in a chunk store.

mod broken;
mod flaky;
mod garbage;
mod lost;
mod move_tags;
mod near;
mod races;
mod round;

use std::fs;
use std::path::{Path, PathBuf};

use coldframe_chunkfile::Compression;
use coldframe_chunks::{Backend, Directory, LocalStore, Options, PackStore, TagName};
use coldframe_snapshot::store::{self, Move, Progress, Pulled, Pushed, TransferError};
use coldframe_snapshot::{Chain, MANIFEST, MEMORY, STATE, Snapshot};
use coldframe_testkit::rng::Rng;
use coldframe_units::RootHash;
use vm_memory::{Bytes, GuestAddress};

use crate::support::{Home, PAGE, Vm, open_chain};

/// Small packs, so that a push has many.
const OPTIONS: Options = Options {
    compression: Compression::Lz4,
    pack_bytes: 128 << 10,
    threads: 2,
    cache_bytes: 0,
};

fn name(text: &str) -> TagName {
    text.parse().unwrap()
}

/// Fills a page with bytes that do not compress, and are in no other page.
fn scribble(vm: &Vm, page: u64, seed: u64) {
    let bytes = Rng::new(seed << 32 | page).bytes(4096);
    let at = GuestAddress(page * PAGE);
    vm.memory.write_slice(&bytes, at).unwrap();
}

/// A chain `full`, `one`, `two` in `home`: blocks whole, in part, with zero pages between, of
/// nothing but zeros; and pages that became zero.
fn chain_in(home: &Home) -> Chain {
    let mut vm = Vm::new(256);
    for page in (0..64).chain(80..84).chain(130..180) {
        scribble(&vm, page, 1);
    }
    vm.fill(90, 7);
    let full = vm.full(&home.at("full"));
    for page in [3, 5, 81, 200] {
        scribble(&vm, page, 2);
    }
    vm.fill(6, 0);
    let one = vm.diff(&home.at("one"), &full);
    (160..176).for_each(|page| scribble(&vm, page, 3));
    vm.fill(130, 0);
    (144..160).for_each(|page| vm.fill(page, 0));
    vm.diff(&home.at("two"), &one);
    open_chain(&home.at("two")).unwrap()
}

fn new_store(home: &Home) -> LocalStore {
    let directory = Directory::new(&home.at("store")).unwrap();
    directory.prepare().unwrap();
    PackStore::create_at(directory, OPTIONS).unwrap()
}

/// As a process that starts now sees it.
fn reopened(home: &Home) -> LocalStore {
    let directory = Directory::new(&home.at("store")).unwrap();
    PackStore::open_at(directory, OPTIONS).unwrap()
}

fn push<B: Backend>(
    chain: &Chain,
    store: &PackStore<B>,
    tag: &str,
) -> Result<Pushed, TransferError> {
    store::push(chain, store, &name(tag), Move::Forward, &mut |_| ())
}

fn pull<B: Backend>(
    store: &PackStore<B>,
    root: RootHash,
    dir: &Path,
) -> Result<Pulled, TransferError> {
    store::pull(store, root, dir, &[], &mut |_: &Progress| ())
}

/// The bytes of all files of a snapshot.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let names = [MANIFEST, MEMORY, STATE].map(String::from);
    let files = names.map(|name| {
        let bytes = fs::read(dir.join(&name)).unwrap();
        (name, bytes)
    });
    files.into()
}

#[track_caller]
fn assert_equal(chain: &Chain, pulled: &Pulled) {
    let links: Vec<&Snapshot> = pulled.links.iter().map(|link| &link.snapshot).collect();
    assert_eq!(links.len(), chain.links().len());
    for (ours, theirs) in chain.links().iter().zip(links) {
        assert_eq!(ours.root(), theirs.root());
        assert!(files(ours.path()) == files(theirs.path()), "files differ");
    }
}

/// What has a final name under `dir`.
fn published(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    let paths = entries.map(|entry| entry.unwrap().path());
    let has_final_name = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        !name.starts_with('.')
    };
    paths.filter(has_final_name).collect()
}
