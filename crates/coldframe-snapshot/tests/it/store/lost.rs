//! What is lost or damaged is named, with its snapshot, and nothing gets a final name.

use std::error::Error;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::PathBuf;

use coldframe_chunks::{ChunkStore, LocalStore, StoreError};
use coldframe_snapshot::store::{SnapshotTracer, TransferError};
use coldframe_snapshot::{Chain, MEMORY};
use coldframe_units::{ChunkId, RootHash};

use super::{assert_equal, chain_in, name, new_store, published, pull, push, reopened};
use crate::support::Home;

/// All chunks that only the full snapshot has, in no order.
fn chunks(store: &LocalStore) -> Vec<ChunkId> {
    let mut ids = Vec::new();
    store
        .list(&mut |id, _| {
            ids.push(id);
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    ids
}

#[track_caller]
fn assert_names(error: &TransferError, chain: &Chain, id: ChunkId) {
    assert!(error.is_wanting(), "{error:?}");
    let text = format!("{error}: {}", error.source().unwrap());
    assert!(text.contains(&id.to_string()), "{text}");
    let ids = chain.links().iter().map(|link| link.id().to_string());
    assert!(ids.into_iter().any(|id| text.contains(&id)), "{text}");
}

// Spec: STORE-3, STORE-21
// Parity: F27
#[test]
fn each_chunk_that_is_lost_is_named_with_its_snapshot_and_heals() {
    let home = Home::new();
    let (chain, store) = (chain_in(&home), new_store(&home));
    let root = push(&chain, &store, "two").unwrap().root;
    for (number, id) in chunks(&store).into_iter().enumerate() {
        let out = home.at(&format!("out-{number}"));
        assert_eq!(store.delete(&[id]).unwrap(), 1);
        let error = pull(&store, root, &out).unwrap_err();
        assert_names(&error, &chain, id);
        for path in published(&out) {
            crate::support::assert_sound(&path);
        }
        assert!(published(&out).len() < 3);
        let verified = store.verify(&[&SnapshotTracer]).unwrap();
        assert_eq!(verified.hurt_tags.get(&name("two")), Some(&1));
        assert_eq!(push(&chain, &store, "two").unwrap().put.written, 1);
        assert_equal(&chain, &pull(&store, root, &out).unwrap());
    }
}

/// Flips a bit of a file of the store.
fn rot(path: &std::path::Path, at: u64) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

// Spec: STORE-3, STORE-12, STORE-21
// Parity: F26
#[test]
fn a_chunk_that_is_damaged_is_named_with_its_snapshot_and_heals() {
    let home = Home::new();
    let chain = chain_in(&home);
    let root = push(&chain, &new_store(&home), "two").unwrap().root;
    let pack = fs::read_dir(home.at("store/packs"))
        .unwrap()
        .next()
        .unwrap();
    rot(&pack.unwrap().path(), 200);
    let store = reopened(&home);
    let out = home.at("out");
    let error = pull(&store, root, &out).unwrap_err();
    let id = match &error {
        TransferError::Block { source, .. } => match **source {
            StoreError::DamagedChunk { id, .. } => id,
            ref other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    assert_names(&error, &chain, id);
    let store = reopened(&home);
    let verified = store.verify(&[&SnapshotTracer]).unwrap();
    assert_eq!(verified.findings.len(), 1);
    assert_eq!(
        push(&chain, &reopened(&home), "two").unwrap().put.written,
        1
    );
    assert_equal(&chain, &pull(&reopened(&home), root, &out).unwrap());
}

/// The copies of a file in the store.
fn copies(home: &Home, root: RootHash) -> Vec<PathBuf> {
    let entries = fs::read_dir(home.at("store/roots")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let has_root = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with(&root.to_string())
    };
    paths.filter(has_root).collect()
}

/// A pull fails and says `what`, a verification finds it, a push heals it.
#[track_caller]
fn check_lost(home: &Home, chain: &Chain, what: &str) {
    let root = chain.youngest().root();
    let out = home.at("out");
    let error = pull(&reopened(home), root, &out).unwrap_err();
    assert!(error.is_wanting(), "{error:?}");
    assert!(error.to_string().contains(what), "no {what} in {error}");
    assert!(published(&out).len() < chain.links().len());
    let verify = || reopened(home).verify_tables(&[&SnapshotTracer]).unwrap();
    assert!(!verify().is_sound());
    push(chain, &reopened(home), "two").unwrap();
    assert!(verify().is_sound());
    assert_equal(chain, &pull(&reopened(home), root, &out).unwrap());
    fs::remove_dir_all(&out).unwrap();
}

// Spec: STORE-19, STORE-20, STORE-21
// Parity: D71
#[test]
fn each_file_that_is_lost_or_damaged_is_named_and_heals() {
    let home = Home::new();
    let chain = chain_in(&home);
    push(&chain, &new_store(&home), "two").unwrap();
    for link in chain.links() {
        let manifest = link.manifest();
        let id = link.id().to_string();
        for (root, what) in [
            (link.root(), link.root().to_string()),
            (manifest.memory.root, format!("memory of snapshot {id}")),
            (manifest.state.unwrap().root, "state of snapshot".into()),
        ] {
            let len = fs::metadata(&copies(&home, root)[0]).unwrap().len();
            for at in [0, 20, 170, len - 1] {
                for copy in copies(&home, root) {
                    rot(&copy, at);
                }
                check_lost(&home, &chain, &what);
                // The damaged copies have had their day.
                copies(&home, root).iter().skip(1).for_each(|copy| {
                    fs::remove_file(copy).unwrap();
                });
            }
            for copy in copies(&home, root) {
                fs::remove_file(copy).unwrap();
            }
            check_lost(&home, &chain, &what);
        }
    }
}

// Spec: STORE-20
#[test]
fn a_damaged_block_on_this_side_is_not_sent() {
    let home = Home::new();
    let (chain, store) = (chain_in(&home), new_store(&home));
    rot(&home.at("full").join(MEMORY), (2 << 20) + 65_536 + 9);
    fs::set_permissions(
        home.at("full").join(MEMORY),
        fs::Permissions::from_mode(0o400),
    )
    .unwrap();
    match push(&chain, &store, "two").unwrap_err() {
        TransferError::DamagedBlock { path, block, .. } => {
            assert_eq!((path, block), (home.at("full").join(MEMORY), 1));
        }
        other => panic!("{other:?}"),
    }
    assert!(store.tags().unwrap().is_empty());
    assert!(store.roots().unwrap().is_empty());
    assert!(store.verify(&[]).unwrap().is_sound());
}
