//! Putting and getting chunks.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use bytes::Bytes;
use coldframe_chunkfile::CHUNK_BYTES_MAX;
use coldframe_chunks::{
    Block, Chunk, ChunkStore, Folder, LocalStore, Options, PackStore, StoreError,
};

use crate::backend::MemBackend;
use crate::support::{OPTIONS, bytes, chunk, id, mem, put, reopened};

// Spec: STORE-3, STORE-5
// Parity: F25
#[test]
fn what_was_put_is_got_by_another_process() {
    let (store, backend) = mem();
    let chunks: Vec<Chunk> = (0..50).map(chunk).collect();
    let count = store.put_many(&chunks).unwrap();
    assert_eq!((count.written, count.deduplicated), (50, 0));
    let other = reopened(&backend);
    for chunk in &chunks {
        assert_eq!(other.get(chunk.id()).unwrap(), chunk.bytes());
    }
    let ids: Vec<_> = chunks.iter().map(Chunk::id).collect();
    let got = other.get_many(&ids);
    assert!(
        got.iter()
            .zip(&chunks)
            .all(|(got, chunk)| got.as_ref().unwrap() == chunk.bytes())
    );
}

// Spec: STORE-4
// Parity: F25, F73
#[test]
fn chunks_are_kept_once() {
    let (store, backend) = mem();
    store.put(&chunk(1)).unwrap();
    let again = store.put_many(&[chunk(1), chunk(2), chunk(2)]).unwrap();
    assert_eq!((again.written, again.deduplicated), (1, 2));
    let other = reopened(&backend);
    assert_eq!(other.put(&chunk(2)).unwrap().deduplicated, 1);
    assert_eq!(backend.keys(Folder::Packs).len(), 2);
}

// Spec: STORE-5
// Parity: D33, D33b
#[test]
fn many_chunks_take_few_files_and_few_syncs() {
    let (store, backend) = mem();
    let chunks: Vec<Chunk> = (0..1000).map(chunk).collect();
    store.put_many(&chunks).unwrap();
    // 600,000 bytes in packs of 64 KiB.
    let packs = backend.keys(Folder::Packs).len();
    assert!((10..12).contains(&packs), "{packs} packs");
}

// Parity: D22, F27
#[test]
fn a_missing_chunk_is_an_error_that_names_it() {
    let (store, _) = mem();
    let error = store.get(id(9)).unwrap_err();
    assert!(matches!(error, StoreError::MissingChunk { id: missing } if missing == id(9)));
    assert!(error.is_missing() && !error.is_corrupt());
    assert_eq!(store.stat(id(9)).unwrap(), None);
    assert_eq!(store.has_many(&[id(9)]).unwrap(), [false]);
}

#[test]
fn what_another_process_adds_is_seen() {
    let (store, backend) = mem();
    reopened(&backend).put(&chunk(1)).unwrap();
    assert_eq!(store.get(id(1)).unwrap(), chunk(1).bytes());
    reopened(&backend).put(&chunk(2)).unwrap();
    assert!(store.has(id(2)).unwrap());
    reopened(&backend).put(&chunk(3)).unwrap();
    assert_eq!(store.has_many(&[id(3), id(4)]).unwrap(), [true, false]);
}

// Parity: F42
#[test]
fn listing_and_deleting() {
    let (store, backend) = mem();
    store
        .put_many(&(0..200).map(chunk).collect::<Vec<_>>())
        .unwrap();
    let list = |store: &PackStore<MemBackend>| {
        let mut ids = BTreeSet::new();
        let all = store.list(&mut |id, stat| {
            assert_eq!(stat.raw_len.get(), 600);
            ids.insert(id);
            ControlFlow::Continue(())
        });
        all.map(|()| ids).unwrap()
    };
    assert_eq!(list(&store), (0..200).map(id).collect());
    let mut seen = 0;
    let stopped = store.list(&mut |_, _| {
        seen += 1;
        ControlFlow::Break(())
    });
    assert_eq!((stopped.is_ok(), seen), (true, 1));
    assert_eq!(store.delete(&[id(3), id(150), id(999)]).unwrap(), 2);
    assert!(store.get(id(3)).unwrap_err().is_missing());
    let left: BTreeSet<_> = (0..200).filter(|n| ![3, 150].contains(n)).map(id).collect();
    assert_eq!(list(&store), left);
    let other = reopened(&backend);
    assert_eq!(list(&other), left);
    assert!(left.iter().all(|id| other.get(*id).is_ok()));
}

// Parity: F72
#[test]
fn lengths_are_bounded() {
    let (store, _) = mem();
    let empty = Chunk::new(Bytes::new()).unwrap_err();
    assert!(matches!(empty, StoreError::ChunkLen { len: 0, .. }));
    let max = CHUNK_BYTES_MAX as usize;
    assert!(Chunk::new(Bytes::from(vec![0; max + 1])).is_err());
    let largest = Chunk::new(Bytes::from(vec![7; max])).unwrap();
    store.put(&largest).unwrap();
    assert_eq!(store.get(largest.id()).unwrap(), largest.bytes());
}

// Spec: STORE-3
// Parity: D75
#[test]
fn bytes_that_are_not_the_chunk_are_refused() {
    let (store, backend) = mem();
    let wrong = Chunk::verify(id(2), Bytes::from(bytes(1))).unwrap_err();
    assert!(matches!(wrong, StoreError::WrongBytes { found, .. } if found == id(1)));
    let push = store.push().unwrap();
    let (one, two) = (bytes(1), bytes(2));
    let block = |bytes, expected| Block { bytes, expected };
    let blocks = [block(&one[..], Some(id(1))), block(&two[..], Some(id(1)))];
    assert!(matches!(
        push.put_blocks(&blocks),
        Err(StoreError::WrongBytes { .. })
    ));
    push.finish().unwrap();
    assert!(backend.keys(Folder::Packs).is_empty());
}

// Parity: F79
#[test]
fn a_push_reports_what_it_did() {
    let (store, _) = mem();
    let push = store.push().unwrap();
    assert!(!push.has(id(1)).unwrap());
    assert_eq!(put(&push, &[1, 2, 1]).unwrap(), [id(1), id(2), id(1)]);
    assert!(push.has(id(1)).unwrap());
    let count = push.count();
    assert_eq!(
        (count.written, count.deduplicated, count.raw_bytes),
        (2, 1, 1200)
    );
    assert_eq!(push.finish().unwrap(), count);
}

// Spec: STORE-14
// Parity: D69, D70, F75
#[test]
fn reads_fill_the_cache_and_its_bytes_are_bounded() {
    let options = Options {
        cache_bytes: 64 << 10,
        ..OPTIONS
    };
    let store = PackStore::create_at(MemBackend::default(), options).unwrap();
    store
        .put_many(&(0..1000).map(chunk).collect::<Vec<_>>())
        .unwrap();
    store.get(id(1)).unwrap();
    store.get(id(1)).unwrap();
    let count = store.cache_count();
    assert_eq!((count.hits, count.misses), (1, 1));
    for number in 0..1000 {
        store.get(id(number)).unwrap();
    }
    let count = store.cache_count();
    assert!(count.bytes > 0 && count.bytes <= 64 << 10, "{count:?}");
}

// Spec: STORE-1
#[test]
fn only_a_store_is_opened() {
    let dir = coldframe_testkit::scratch::on_disk();
    let error = LocalStore::open(dir.path()).unwrap_err();
    assert!(matches!(error, StoreError::NoStore { .. }));
    LocalStore::create(dir.path()).unwrap();
    LocalStore::create(dir.path())
        .unwrap()
        .put(&chunk(1))
        .unwrap();
    assert!(LocalStore::open(dir.path()).unwrap().has(id(1)).unwrap());
    let marker = dir.path().join("store");
    let mut bytes = std::fs::read(&marker).unwrap();
    bytes[20] ^= 1;
    std::fs::remove_file(&marker).unwrap();
    std::fs::write(&marker, bytes).unwrap();
    let error = LocalStore::open(dir.path()).unwrap_err();
    assert!(matches!(error, StoreError::BadStore { .. }));
}
