//! Chunk stores as their users have them: push, pull, and the verbs below `store`.

mod broken;
mod damage;
mod full;
mod garbage;
mod place;
mod prune;
mod round;
mod shuru;
mod usage;

use std::fs;
use std::path::{Path, PathBuf};

use coldframe_testkit::rng::Rng;
use serde_json::Value;

use crate::support::{Home, Outcome, coldframe, command, names};

/// Bytes of a block, and of the chunk that it becomes.
const BLOCK: usize = 64 << 10;

/// A store in `home`.
#[track_caller]
fn new_store(home: &Home) -> PathBuf {
    let store = home.at("store");
    coldframe(&[&"store", &"init", &"--store", &store]).done();
    store
}

/// So many blocks that do not compress, and are like no others.
fn noise(seed: u64, blocks: usize) -> Vec<u8> {
    Rng::new(seed).bytes(blocks * BLOCK)
}

/// A full snapshot of this memory.
#[track_caller]
fn frozen(home: &Home, name: &str, memory: &[u8]) -> PathBuf {
    let (raw, snapshot) = (home.at(&format!("{name}.mem")), home.at(name));
    fs::write(&raw, memory).unwrap();
    coldframe(&[&"import", &"raw", &raw, &"-o", &snapshot]).done();
    fs::remove_file(raw).unwrap();
    snapshot
}

/// `push`, as JSON.
fn push(snapshot: &Path, store: &Path, more: &[&str]) -> Outcome {
    let mut push = command(&[&"push", &snapshot, &"--store", &store, &"--json"]);
    push.args(more).output().unwrap().into()
}

/// `pull`, as JSON.
fn pull(name: &str, store: &Path, dir: &Path, more: &[&str]) -> Outcome {
    let mut pull = command(&[&"pull", &name, &"--store", &store, &"-o", &dir, &"--json"]);
    pull.args(more).output().unwrap().into()
}

/// A verb below `store`, as JSON.
fn store_verb(verb: &str, store: &Path, more: &[&str]) -> Outcome {
    let mut verb = command(&[&"store", &verb, &"--store", &store, &"--json"]);
    verb.args(more).output().unwrap().into()
}

#[track_caller]
fn assert_sound_store(store: &Path) {
    let verified = store_verb("verify", store, &["--deep"]).done().json();
    assert_eq!(verified["verdict"], "sound", "{verified:#}");
}

/// The files of a folder of the store that have their final name.
fn files(store: &Path, folder: &str) -> Vec<PathBuf> {
    let folder = store.join(folder);
    let finished = names(&folder)
        .into_iter()
        .filter(|name| !name.starts_with('.'));
    finished.map(|name| folder.join(name)).collect()
}

/// The bytes of every file of two snapshots are the same.
#[track_caller]
fn assert_equal(one: &Path, other: &Path) {
    assert_eq!(names(one), names(other));
    for name in names(one) {
        let read = |dir: &Path| fs::read(dir.join(&name)).unwrap();
        assert!(read(one) == read(other), "{name} of {}", other.display());
    }
}

/// The path of the snapshot that a pull reports.
fn pulled_path(report: &Value) -> PathBuf {
    PathBuf::from(report["path"].as_str().unwrap())
}
