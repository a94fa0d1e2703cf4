//! Many chunks at once: read where they are hashed, shown where they are decompressed.

use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use coldframe_chunkfile::Compression;
use coldframe_chunks::{
    ChunkStore, Directory, Folder, LocalStore, Options, PackStore, Push, StoreError,
};
use coldframe_testkit::rng::Rng;
use coldframe_units::ChunkId;
use proptest::prelude::*;

use crate::backend::{MemBackend, Trouble};
use crate::faulty::{Call, Faulty};
use crate::support::{OPTIONS, bytes, chunk, id, mem, reopened};

const BLOCK: usize = 4096;

/// What each number was shown, sorted; one that is shown twice is there twice.
fn shown<S: ChunkStore>(store: &S, ids: &[ChunkId]) -> Vec<(usize, Result<Vec<u8>, String>)> {
    let all = Mutex::new(Vec::new());
    store.visit_many(ids, &|number, bytes| {
        let bytes = bytes.map(<[u8]>::to_vec).map_err(|error| error.to_string());
        all.lock().unwrap().push((number, bytes));
        ControlFlow::Continue(())
    });
    let mut all = all.into_inner().unwrap();
    all.sort();
    all
}

/// The same by the other way.
fn got<S: ChunkStore>(store: &S, ids: &[ChunkId]) -> Vec<(usize, Result<Vec<u8>, String>)> {
    let one = |id: &ChunkId| match store.get(*id) {
        Ok(bytes) => Ok(bytes.to_vec()),
        Err(error) => Err(error.to_string()),
    };
    ids.iter().map(one).enumerate().collect()
}

/// A block that compresses, does not, or is zero.
fn block(kind: u8, number: usize) -> Vec<u8> {
    match kind {
        0 => vec![0; BLOCK],
        1 => format!("{number:08}").repeat(BLOCK / 8).into_bytes(),
        _ => Rng::new(number as u64).bytes(BLOCK),
    }
}

fn put_read(push: &Push<MemBackend>, blocks: &[Vec<u8>]) -> Vec<Option<ChunkId>> {
    let lens: Vec<usize> = blocks.iter().map(Vec::len).collect();
    let read = |number: usize, room: &mut [u8]| {
        room.copy_from_slice(&blocks[number]);
        Ok::<(), StoreError>(())
    };
    push.put_read(&lens, read).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    // Spec: STORE-3, STORE-5
    #[test]
    fn what_was_read_in_is_shown_again_in_any_order_and_any_number_of_times(
        kinds in prop::collection::vec(0_u8..3, 1..80),
        picks in prop::collection::vec(0_usize..90, 0..120),
        compression in prop::sample::select(vec![
            Compression::None, Compression::Lz4, Compression::Zstd,
        ]),
        pack_bytes in prop::sample::select(vec![5_000_u32, 64 << 10, 1 << 20]),
        far in any::<bool>(),
    ) {
        let mut backend = MemBackend::default();
        backend.reads_at_once = if far { 6 } else { 1 };
        let options = Options { compression, pack_bytes, ..OPTIONS };
        let store = PackStore::create_at(backend.clone(), options).unwrap();
        let blocks: Vec<_> = kinds.iter().zip(0..).map(|(kind, at)| block(*kind, at)).collect();
        let push = store.push().unwrap();
        let ids = put_read(&push, &blocks);
        let zeros: Vec<bool> = kinds.iter().map(|kind| *kind == 0).collect();
        prop_assert_eq!(ids.iter().map(Option::is_none).collect::<Vec<_>>(), zeros);
        push.finish().unwrap();
        let store = PackStore::open_at(backend, options).unwrap();
        // Numbers past the end, and zeros, are chunks that are not there.
        let ids: Vec<ChunkId> = picks
            .iter()
            .map(|pick| ids.get(*pick).copied().flatten().unwrap_or(id(*pick as u64)))
            .collect();
        let shown = shown(&store, &ids);
        prop_assert_eq!(&shown, &got(&store, &ids));
        for (pick, (_, bytes)) in picks.iter().zip(&shown) {
            let expected = blocks.get(*pick).filter(|_| kinds[*pick] != 0);
            prop_assert_eq!(bytes.as_ref().ok(), expected);
        }
        let many = store.get_many(&ids).into_iter().map(|got| got.ok().map(|got| got.to_vec()));
        let shown = shown.into_iter().map(|(_, bytes)| bytes.ok());
        prop_assert!(many.eq(shown));
    }
}

// Spec: STORE-5
#[test]
fn packs_of_many_pieces_hold_what_was_put() {
    let dir = coldframe_testkit::scratch::on_disk();
    let options = Options {
        pack_bytes: 5 << 20,
        ..OPTIONS
    };
    let store = LocalStore::create(dir.path()).unwrap();
    drop(store);
    let open = || LocalStore::open_at(Directory::new(dir.path()).unwrap(), options).unwrap();
    let store = open();
    let push = store.push().unwrap();
    let lens = [100_000; 120];
    let read = |number: usize, room: &mut [u8]| {
        room.copy_from_slice(&Rng::new(number as u64).bytes(100_000));
        Ok::<(), StoreError>(())
    };
    let ids: Vec<_> = push.put_read(&lens, read).unwrap();
    push.finish().unwrap();
    let store = open();
    let packs = std::fs::read_dir(dir.path().join("packs")).unwrap();
    assert_eq!(packs.count(), 3);
    let ids: Vec<ChunkId> = ids.into_iter().flatten().collect();
    let shown = shown(&store, &ids);
    assert_eq!(shown.len(), 120);
    for (number, bytes) in shown {
        assert!(bytes.unwrap() == Rng::new(number as u64).bytes(100_000));
    }
    assert!(store.verify(&[]).unwrap().is_sound());
}

// Spec: STORE-5
#[test]
fn a_block_that_cannot_be_read_is_the_error_and_nothing_is_taken() {
    let (store, backend) = mem();
    let push = store.push().unwrap();
    let read = |number: usize, room: &mut [u8]| match number {
        13 => Err(StoreError::MissingChunk { id: id(13) }),
        _ => {
            room.fill(1);
            Ok(())
        }
    };
    let failed = push.put_read(&[600; 40], read);
    assert!(matches!(failed, Err(StoreError::MissingChunk { .. })));
    let empty = push.put_read(&[600, 0], read);
    assert!(matches!(empty, Err(StoreError::ChunkLen { len: 0, .. })));
    assert_eq!(push.finish().unwrap().written, 0);
    assert_eq!(backend.keys(Folder::Packs).len(), 0);
}

// Spec: STORE-12
#[test]
fn a_damaged_copy_is_an_error_of_its_own_chunk_alone() {
    let (store, backend) = mem();
    let numbers: Vec<u64> = (0..60).collect();
    let chunks: Vec<_> = numbers.iter().copied().map(chunk).collect();
    store.put_many(&chunks).unwrap();
    let pack = backend.keys(Folder::Packs).remove(0);
    // Header and 20 whole chunks come before it.
    backend.rot(&pack, |bytes| bytes[160 + 20 * 600 + 7] ^= 1);
    let store = reopened(&backend);
    let ids: Vec<ChunkId> = numbers.iter().copied().map(id).collect();
    let (sound, lost): (Vec<_>, Vec<_>) = shown(&store, &ids)
        .into_iter()
        .partition(|(_, bytes)| bytes.is_ok());
    assert_eq!((sound.len(), lost.len()), (59, 1));
    let (number, error) = &lost[0];
    assert!(
        error
            .as_ref()
            .unwrap_err()
            .contains(&ids[*number].to_string())
    );
    for (number, found) in sound {
        assert_eq!(found.unwrap(), bytes(number as u64));
    }
    // A pack that is cut in the middle of everything.
    backend.rot(&pack, |bytes| bytes.truncate(160 + 30 * 600));
    let all = shown(&store, &ids);
    assert_eq!(all.iter().filter(|(_, bytes)| bytes.is_ok()).count(), 29);
}

// Spec: STORE-3
#[test]
fn a_range_that_comes_back_short_or_wrong_is_never_shown() {
    let (store, backend) = mem();
    let ids: Vec<ChunkId> = (0..40).map(id).collect();
    store
        .put_many(&(0..40).map(chunk).collect::<Vec<_>>())
        .unwrap();
    let short = [Trouble::Short, Trouble::Flipped, Trouble::Zeros];
    for trouble in short {
        backend.trouble(trouble(Folder::Packs));
        for (number, found) in shown(&store, &ids) {
            assert!(found.is_err() || found == Ok(bytes(number as u64)));
        }
        backend.heal();
        let healed = reopened(&backend);
        assert!(shown(&healed, &ids).iter().all(|(_, found)| found.is_ok()));
    }
}

#[test]
fn a_visitor_that_breaks_off_is_left_alone() {
    let (store, _) = mem();
    store
        .put_many(&(0..400).map(chunk).collect::<Vec<_>>())
        .unwrap();
    let ids: Vec<ChunkId> = (0..500).map(id).collect();
    let calls = AtomicUsize::new(0);
    store.visit_many(&ids, &|_, _| {
        calls.fetch_add(1, Ordering::Relaxed);
        ControlFlow::Break(())
    });
    // One of each thread at most.
    let calls = calls.into_inner();
    assert!((1..=OPTIONS.threads).contains(&calls), "{calls}");
}

// A store that is far away is asked for neighbours at once.
// Spec: STORE-14
#[test]
fn neighbours_are_fetched_by_one_request() {
    let faulty = Faulty::default();
    let numbers: Vec<u64> = (0..90).collect();
    let chunks: Vec<_> = numbers.iter().copied().map(chunk).collect();
    faulty.store().put_many(&chunks).unwrap();
    let store = faulty.store();
    let before = faulty.count(Call::Get, "packs/");
    let ids: Vec<ChunkId> = numbers.iter().copied().map(id).collect();
    assert!(shown(&store, &ids).iter().all(|(_, found)| found.is_ok()));
    // 54,000 bytes in one pack.
    assert_eq!(faulty.count(Call::Get, "packs/") - before, 1);
}
