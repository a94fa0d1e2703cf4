//! Garbage collection, one step at a time.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use coldframe_chunkfile::IndexOrigin;
use coldframe_chunks::{
    Backend as _, ChunkStore, CollectOptions, Collected, Finding, Folder, Key, LocalStore,
    PackStore, StoreError,
};
use coldframe_storage::StorageError;
use coldframe_testkit::alloc::alloc_peak;
use coldframe_units::{BLOCK_BYTES, ByteLen};

use crate::backend::{MemBackend, Trouble};
use crate::support::{
    AT_ONCE, OPTIONS, chunk, id, index_of, index_with, mem, name, push_image, put, reopened,
    tag_of, untag,
};

// Spec: STORE-10, STORE-11
// Parity: D37, F41
#[test]
fn what_no_tag_needs_is_deleted_and_the_rest_is_kept() {
    let (store, backend) = mem();
    push_image(&store, "a", &[1, 2, 3]).unwrap();
    push_image(&store, "b", &[3, 4, 5]).unwrap();
    store.put(&chunk(6)).unwrap();
    let nothing = store.collect(AT_ONCE, &[]).unwrap();
    assert_eq!((nothing.live_chunks, nothing.deleted_packs), (5, 1));
    untag(&store, "b");
    let done = store.collect(AT_ONCE, &[]).unwrap();
    assert_eq!(
        (done.live_chunks, done.deleted_packs, done.deleted_roots),
        (3, 1, 1)
    );
    assert!(done.deleted_bytes > 1200);
    for store in [store, reopened(&backend)] {
        assert!((1..4).all(|number| store.get(id(number)).is_ok()));
        assert!((4..7).all(|number| store.get(id(number)).is_err()));
        assert!(store.verify(&[]).unwrap().is_sound());
    }
    let again = reopened(&backend).collect(AT_ONCE, &[]).unwrap();
    assert_eq!(
        (again.condemned_packs, again.deleted_packs, again.waiting),
        (0, 0, 0)
    );
}

// Spec: STORE-10
// Parity: F41
#[test]
fn a_dry_run_says_what_would_be_done_and_does_nothing() {
    let (store, backend) = mem();
    store.put(&chunk(1)).unwrap();
    let files = backend.files();
    let dry = CollectOptions {
        dry_run: true,
        ..AT_ONCE
    };
    let done = store.collect(dry, &[]).unwrap();
    assert_eq!((done.condemned_packs, done.deleted_packs), (1, 0));
    assert_eq!(backend.files(), files);
}

// Spec: STORE-10
#[test]
fn what_is_young_is_kept_with_all_that_it_needs() {
    let (store, _) = mem();
    let root = push_image(&store, "a", &[1]).unwrap();
    untag(&store, "a");
    store.put(&chunk(2)).unwrap();
    let grace = CollectOptions {
        grace: Duration::from_secs(1),
        ..AT_ONCE
    };
    let done = store.collect(grace, &[]).unwrap();
    assert_eq!(
        (done.live_chunks, done.condemned_packs, done.condemned_roots),
        (1, 0, 0)
    );
    assert!(store.has_root(root).unwrap() && store.has(id(2)).unwrap());
}

// Spec: STORE-13
#[test]
fn a_pack_that_is_half_garbage_is_written_anew() {
    let (store, backend) = mem();
    let push = store.push().unwrap();
    let ids = put(&push, &(0..50).collect::<Vec<_>>()).unwrap();
    let root = push.put_root(&[&index_of(&ids[..20])]).unwrap();
    push.tag(&name("a"), None, tag_of(root)).unwrap();
    push.finish().unwrap();
    let before = store.stat_all(&[]).unwrap();
    let done = store.collect(AT_ONCE, &[]).unwrap();
    assert_eq!((done.compacted_packs, done.deleted_packs), (1, 1));
    let after = store.stat_all(&[]).unwrap();
    assert_eq!((before.chunks, after.chunks), (50, 20));
    assert!(after.pack_bytes < before.pack_bytes / 2);
    assert!(
        reopened(&backend)
            .get_many(&ids[..20])
            .iter()
            .all(Result::is_ok)
    );
    // Less garbage than asked for is left.
    let push = store.push().unwrap();
    let root = push.put_root(&[&index_of(&ids[..15])]).unwrap();
    push.tag(&name("a"), store.tag(&name("a")).unwrap(), tag_of(root))
        .unwrap();
    push.finish().unwrap();
    let done = store.collect(AT_ONCE, &[]).unwrap();
    assert_eq!(
        (done.compacted_packs, done.deleted_packs, done.deleted_roots),
        (0, 0, 1)
    );
}

// Spec: STORE-13
#[test]
fn many_small_packs_become_few() {
    let (store, backend) = mem();
    let ids: Vec<_> = (0..40).map(id).collect();
    for number in 0..40 {
        store.put(&chunk(number)).unwrap();
    }
    let push = store.push().unwrap();
    let root = push.put_root(&[&index_of(&ids)]).unwrap();
    push.tag(&name("a"), None, tag_of(root)).unwrap();
    push.finish().unwrap();
    assert_eq!(backend.keys(Folder::Packs).len(), 40);
    store.collect(AT_ONCE, &[]).unwrap();
    assert_eq!(backend.keys(Folder::Packs).len(), 1);
    let done = store.collect(AT_ONCE, &[]).unwrap();
    assert_eq!(done.condemned_packs, 0);
    assert!(reopened(&backend).get_many(&ids).iter().all(Result::is_ok));
}

// Failure mode 1: the collector deletes what a writer has just deduplicated against.
// Spec: STORE-11
// Parity: F41, M1
#[test]
fn an_orphan_that_a_writer_has_found_is_kept_until_the_writer_is_done() {
    let (store, backend) = mem();
    store.put_many(&[chunk(1), chunk(2)]).unwrap();
    let writer = reopened(&backend);
    let push = writer.push().unwrap();
    let ids = put(&push, &[1, 2]).unwrap();
    assert_eq!((push.count().written, push.count().deduplicated), (0, 2));
    let done = store.collect(AT_ONCE, &[]).unwrap();
    assert_eq!(
        (done.condemned_packs, done.deleted_packs, done.waiting),
        (1, 0, 1)
    );
    let root = push.put_root(&[&index_of(&ids)]).unwrap();
    push.tag(&name("a"), None, tag_of(root)).unwrap();
    push.finish().unwrap();
    let done = store.collect(AT_ONCE, &[]).unwrap();
    assert_eq!(
        (done.deleted_packs, done.acquitted, done.waiting),
        (0, 1, 0)
    );
    assert!(reopened(&backend).get_many(&ids).iter().all(Result::is_ok));
    assert_eq!(backend.leases_held(), 0);
}

// Spec: STORE-11
#[test]
fn a_writer_that_comes_after_the_verdict_writes_anew() {
    let (store, backend) = mem();
    store.put(&chunk(1)).unwrap();
    let early = store.push().unwrap();
    assert_eq!(store.collect(AT_ONCE, &[]).unwrap().waiting, 1);
    let writer = reopened(&backend);
    let push = writer.push().unwrap();
    // To be read, but not to be relied upon.
    assert!(writer.has(id(1)).unwrap());
    assert!(!push.has(id(1)).unwrap());
    let ids = put(&push, &[1]).unwrap();
    assert_eq!(push.count().written, 1);
    drop(early);
    assert_eq!(store.collect(AT_ONCE, &[]).unwrap().deleted_packs, 1);
    let root = push.put_root(&[&index_of(&ids)]).unwrap();
    push.tag(&name("a"), None, tag_of(root)).unwrap();
    push.finish().unwrap();
    store.collect(AT_ONCE, &[]).unwrap();
    assert!(reopened(&backend).get(id(1)).is_ok());
}

// Spec: STORE-11
#[test]
fn a_file_that_is_condemned_is_kept_anew_and_not_named() {
    let (store, backend) = mem();
    let root = push_image(&store, "a", &[1]).unwrap();
    untag(&store, "a");
    let early = store.push().unwrap();
    assert_eq!(store.collect(AT_ONCE, &[]).unwrap().waiting, 2);
    let push = store.push().unwrap();
    let error = push.tag(&name("b"), None, tag_of(root)).unwrap_err();
    assert!(matches!(error, StoreError::MissingRoot { .. }));
    let ids = put(&push, &[1]).unwrap();
    assert_eq!(push.put_root(&[&index_of(&ids)]).unwrap(), root);
    assert_eq!(backend.keys(Folder::Roots).len(), 2);
    push.tag(&name("b"), None, tag_of(root)).unwrap();
    push.finish().unwrap();
    drop(early);
    let done = store.collect(AT_ONCE, &[]).unwrap();
    assert_eq!((done.deleted_packs, done.deleted_roots), (1, 1));
    let other = reopened(&backend);
    assert!(other.index(root).is_ok() && other.get(id(1)).is_ok());
}

// Failure mode 11: an incomplete list.
// Spec: STORE-11
// Parity: M11
#[test]
fn a_list_that_leaves_tags_out_once_deletes_nothing() {
    let (store, backend) = mem();
    push_image(&store, "a", &[1, 2]).unwrap();
    backend.trouble(Trouble::EmptyList(Folder::Tags));
    let done = store.collect(AT_ONCE, &[]).unwrap();
    assert_eq!(
        (done.condemned_packs, done.deleted_packs, done.acquitted),
        (0, 0, 0)
    );
    assert!(reopened(&backend).get(id(1)).is_ok());
    assert!(store.push().unwrap().has(id(1)).unwrap());
}

// Spec: STORE-11
#[test]
fn one_collects_at_a_time() {
    let (store, backend) = mem();
    let held = coldframe_chunks::Backend::exclusive(&backend).unwrap();
    assert!(matches!(store.collect(AT_ONCE, &[]), Err(StoreError::Busy)));
    drop(held);
    store.collect(AT_ONCE, &[]).unwrap();
}

#[test]
fn a_push_that_is_dropped_leaves_only_garbage() {
    let (store, backend) = mem();
    let push = store.push().unwrap();
    put(&push, &(0..300).collect::<Vec<_>>()).unwrap();
    drop(push);
    assert!(!backend.keys(Folder::Packs).is_empty());
    store.collect(AT_ONCE, &[]).unwrap();
    assert!(backend.keys(Folder::Packs).is_empty());
    assert_eq!(backend.leases_held(), 0);
}

#[test]
fn a_damaged_chunk_that_is_needed_is_not_thrown_away() {
    let (store, backend) = mem();
    push_image(&store, "a", &[1, 2]).unwrap();
    let pack = backend.keys(Folder::Packs)[0].clone();
    backend.rot(&pack, |bytes| bytes[170] ^= 1);
    let store: PackStore<MemBackend> = PackStore::open_at(backend.clone(), OPTIONS).unwrap();
    assert!(!store.verify(&[]).unwrap().is_sound());
    store.collect(AT_ONCE, &[]).unwrap();
    assert_eq!(backend.keys(Folder::Packs), [pack]);
}

// Spec: STORE-15
// Parity: F73, F79
#[test]
fn the_statistics_tell_shared_from_exclusive() {
    let (store, _) = mem();
    push_image(&store, "a", &[1, 2, 2]).unwrap();
    push_image(&store, "b", &[2, 3]).unwrap();
    store.put(&chunk(9)).unwrap();
    let stat = store.stat_all(&[]).unwrap();
    assert_eq!(
        (stat.chunks, stat.raw_bytes, stat.stored_bytes),
        (4, 2400, 2400)
    );
    let block = 65_536;
    assert_eq!(stat.logical_bytes(), 5 * block);
    let a = stat.tags[&name("a")];
    assert_eq!(
        (a.logical_bytes, a.unique_bytes, a.exclusive_bytes),
        (3 * block, 1200, 600)
    );
    assert_eq!((stat.packs, stat.roots), (3, 2));
    assert_eq!(stat.shared_bytes, 600);
}

// Spec: STORE-10
#[test]
fn what_cannot_be_swept_stops_the_collection_before_it_deletes() {
    let (home, store) = local_with_garbage();
    // A directory that cannot be listed, whoever asks.
    let wal = home.path().join("wal");
    std::fs::write(&wal, "").unwrap();
    let before = tree(home.path());
    for dry_run in [true, false] {
        let options = CollectOptions { dry_run, ..AT_ONCE };
        let mut done = Collected::default();
        let ended = store.collect_into(options, &[], &BTreeSet::new(), &mut done);
        let Err(StoreError::Storage { source }) = ended else {
            panic!("{ended:?}");
        };
        let names_it = matches!(&source, StorageError::Open { path, .. } if *path == wal);
        assert!(names_it, "{source:?}");
        assert!(!done.has_deleted(), "{done:?}");
    }
    // It is a collector all the same.
    std::fs::remove_file(home.path().join("collector")).unwrap();
    assert_eq!(tree(home.path()), before);
    std::fs::remove_file(wal).unwrap();
    assert!(store.collect(AT_ONCE, &[]).unwrap().has_deleted());
}

// Spec: STORE-10
#[test]
fn a_dry_run_makes_no_file_in_a_directory() {
    let (home, store) = local_with_garbage();
    std::fs::remove_file(home.path().join("collector")).ok();
    let before = tree(home.path());
    let dry = CollectOptions {
        dry_run: true,
        ..AT_ONCE
    };
    assert_eq!(store.collect(dry, &[]).unwrap().condemned_packs, 1);
    assert_eq!(tree(home.path()), before);
}

fn local_with_garbage() -> (tempfile::TempDir, LocalStore) {
    let home = coldframe_testkit::scratch::dir();
    let store = LocalStore::create(home.path()).unwrap();
    push_image(&store, "kept", &[1]).unwrap();
    push_image(&store, "gone", &[2]).unwrap();
    untag(&store, "gone");
    (home, store)
}

/// Every file below a directory.
fn tree(dir: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(tree(&path));
        }
        found.insert(path);
    }
    found
}

// Spec: STORE-11
#[test]
fn what_was_deleted_before_an_error_is_told() {
    let mut was_partial = false;
    for call in 1.. {
        let (store, backend) = mem();
        push_image(&store, "gone", &[2]).unwrap();
        untag(&store, "gone");
        let count = || [Folder::Packs, Folder::Roots].map(|folder| backend.keys(folder).len());
        let before = count();
        backend.trouble(Trouble::Fail(call, false));
        let mut done = Collected::default();
        let ended = store.collect_into(AT_ONCE, &[], &BTreeSet::new(), &mut done);
        let gone = [done.deleted_packs as usize, done.deleted_roots as usize];
        let left = count();
        let expected = [before[0] - left[0], before[1] - left[1]];
        assert_eq!(gone, expected, "call {call}");
        if ended.is_ok() {
            break;
        }
        was_partial |= done.has_deleted();
    }
    assert!(was_partial, "some call fails after the first deletion");
}

// Spec: STORE-43, STORE-44
#[test]
fn an_index_whose_parent_is_lost_wedges_no_collection_for_good() {
    let (store, backend) = mem();
    let parent = push_image(&store, "disk", &[1, 2]).unwrap();
    push_image(&store, "gone", &[7]).unwrap();
    untag(&store, "gone");
    let lost = backend.keys(Folder::Roots);
    let lost = lost
        .into_iter()
        .find(|key| matches!(key, Key::Root(root, _) if *root == parent));
    backend.remove(&lost.unwrap()).unwrap();

    let push = store.push().unwrap();
    let new = put(&push, &[3]).unwrap();
    let size = ByteLen::new(2 * BLOCK_BYTES);
    let origin = IndexOrigin::Parent { root: parent, size };
    let index = index_with(size, origin, new.iter().copied().zip(0..));
    let child = push.put_successor(&index, &new).unwrap();
    let before = store.tag(&name("disk")).unwrap();
    push.tag(&name("disk"), before, tag_of(child)).unwrap();
    push.finish().unwrap();

    // A listing may lack the parent, so it is not taken for lost by itself.
    let error = store.collect(AT_ONCE, &[]).unwrap_err();
    assert!(matches!(error, StoreError::LostFile { key: Key::Root(root, _) } if root == parent));
    let verified = store.verify(&[]).unwrap();
    assert!(matches!(&verified.findings[..], [Finding::Root { root, .. }] if *root == parent));
    assert_eq!(verified.hurt_tags, [(name("disk"), 1)].into());

    let mut done = Collected::default();
    let given_up = BTreeSet::from([parent]);
    let ended = store.collect_into(AT_ONCE, &[], &given_up, &mut done);
    ended.unwrap();
    assert!(done.deleted_packs >= 1, "{done:?}");
    assert_eq!(store.get(id(3)).unwrap(), chunk(3).bytes());
    assert!(store.get(id(7)).unwrap_err().is_missing());
}

// Spec: STORE-43
#[test]
fn a_file_that_is_given_up_and_can_be_read_is_kept() {
    let (store, backend) = mem();
    let root = push_image(&store, "disk", &[1, 2]).unwrap();
    let mut done = Collected::default();
    let given_up = BTreeSet::from([root]);
    store
        .collect_into(AT_ONCE, &[], &given_up, &mut done)
        .unwrap();
    assert!(!done.has_deleted(), "{done:?}");
    // One that cannot be read now is none that is lost: no failure of a single call costs a chunk.
    for call in 1.. {
        backend.heal();
        backend.trouble(Trouble::Fail(call, false));
        let ended = store.collect_into(AT_ONCE, &[], &given_up, &mut done);
        assert_eq!(backend.keys(Folder::Packs).len(), 1, "call {call}");
        if ended.is_ok() {
            break;
        }
    }
}

// Spec: STORE-15
#[test]
fn the_memory_of_the_statistics_grows_with_chunks_and_not_with_tags() {
    let peak_of = |tags: u64| {
        let (store, _) = mem();
        let mut numbers: Vec<u64> = (0..256).collect();
        for tag in 0..tags {
            // No two of them have the same index.
            numbers[0] = 1000 + tag;
            push_image(&store, &format!("t{tag}"), &numbers).unwrap();
        }
        let (stat, peak) = alloc_peak(|| store.stat_all(&[]).unwrap());
        assert_eq!(stat.tags.len() as u64, tags);
        peak
    };
    let (one, many) = (peak_of(1), peak_of(200));
    println!("{one} bytes for one tag, {many} for 200");
    // The chunks of each tag, by their ids alone, would be twice as much.
    let is_of_tags = one + 200 * 4096;
    assert!(many < is_of_tags, "{one} bytes for one tag, {many} for 200");
}
