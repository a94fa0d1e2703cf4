//! A chain in a chunk store as a source.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use coldframe_chunks::{Chunk, ChunkStore as _, LocalStore};
use coldframe_fault::{BlockReader, BlockSource, Content, StoreSource, StoreSourceError};
use coldframe_mem::{FilePool, MemoryFile};
use coldframe_testkit::scratch;
use coldframe_units::BLOCK_BYTES;

use crate::chain::{History, PAGE, PAGES, block_len};

const BLOCKS: u64 = (PAGES * PAGE).div_ceil(BLOCK_BYTES);

fn file(path: &Path) -> MemoryFile {
    MemoryFile::open(path, &FilePool::default()).unwrap()
}

/// Header and tables of a memory file, as a store keeps them.
fn skeleton(path: &Path) -> Bytes {
    let file = file(path);
    let (_, tail) = file.tail().unwrap();
    [file.header(), tail.as_slice()].concat().into()
}

/// Puts all blocks of a memory file into the store.
fn push(path: &Path, store: &LocalStore) {
    let file = file(path);
    for plan in file.extents().unwrap().block_plans() {
        let mut bytes = Vec::new();
        for piece in plan.pieces() {
            match *piece {
                coldframe_memfile::Piece::Data { file_offset, len } => {
                    let start = bytes.len();
                    bytes.resize(start + usize::try_from(len.get()).unwrap(), 0);
                    file.read_at(file_offset, &mut bytes[start..]).unwrap();
                }
                coldframe_memfile::Piece::Zeros { len } => {
                    bytes.resize(bytes.len() + usize::try_from(len.get()).unwrap(), 0);
                }
            }
        }
        store.put(&Chunk::new(bytes.into()).unwrap()).unwrap();
    }
}

fn pushed(history: &History) -> (tempfile::TempDir, Arc<LocalStore>, Vec<Bytes>) {
    let dir = scratch::dir();
    let store = LocalStore::create(&dir.path().join("store")).unwrap();
    history.paths.iter().for_each(|path| push(path, &store));
    let skeletons = history.paths.iter().map(|path| skeleton(path)).collect();
    (dir, Arc::new(store), skeletons)
}

#[test]
fn every_block_of_a_chain_in_a_store_is_what_the_guest_had() {
    for (diffs, seed) in [(0, 21), (5, 22)] {
        let history = History::new(diffs, seed);
        let (_dir, store, skeletons) = pushed(&history);
        let source = StoreSource::open(skeletons, store).unwrap();
        assert_eq!(source.root(), history.source().layers().root());
        let mut reader = source.reader().unwrap();
        for block in 0..BLOCKS {
            let mut buf = vec![0xaa; block_len(block)];
            if reader.read(block, &mut buf).unwrap() == Content::Zero {
                buf.fill(0);
            }
            assert!(
                buf == history.expected(block * BLOCK_BYTES, buf.len()),
                "block {block}"
            );
        }
    }
}

#[test]
fn a_chunk_that_is_lost_is_named_and_the_others_are_read() {
    let history = History::new(0, 23);
    let (_dir, store, skeletons) = pushed(&history);
    let source = StoreSource::open(skeletons, Arc::clone(&store) as _).unwrap();
    let blocks = file(&history.paths[0]);
    let lost = blocks
        .blocks()
        .unwrap()
        .get(1)
        .unwrap()
        .unwrap()
        .stored_id();
    store.delete(&[lost]).unwrap();
    let mut reader = source.reader().unwrap();
    let error = reader.read(1, &mut vec![0; block_len(1)]).unwrap_err();
    assert!(
        matches!(
            error,
            StoreSourceError::Chunk {
                block: 1,
                number: 0,
                ..
            }
        ),
        "{error:?}"
    );
    reader.read(0, &mut vec![0; block_len(0)]).unwrap();
}

#[test]
fn what_is_no_chain_is_refused() {
    let (one, other) = (History::new(2, 24), History::new(1, 25));
    let (_dir, store, skeletons) = pushed(&one);
    let [full, first, second] = [0, 1, 2].map(|number| skeletons[number].clone());
    let foreign = skeleton(&other.paths[1]);
    let open = |skeletons: Vec<Bytes>| StoreSource::open(skeletons, Arc::clone(&store) as _);
    for chain in [
        vec![],
        vec![first.clone()],
        vec![full.clone(), full.clone()],
    ] {
        let error = open(chain).unwrap_err();
        assert!(
            matches!(error, StoreSourceError::NotAChain { .. }),
            "{error:?}"
        );
    }
    for chain in [vec![full.clone(), second], vec![full.clone(), foreign]] {
        let error = open(chain).unwrap_err();
        let StoreSourceError::Decode { number: 1, source } = error else {
            panic!("{error:?}");
        };
        assert!(source.is_wrong_parent());
    }
    open(vec![full, first]).unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn a_chain_in_a_store_is_thawed_lazily_and_a_lost_chunk_fails_its_block() {
    use coldframe_fault::{Lazy, LazyEvent};
    use coldframe_uffd::Mapping;

    use crate::lazy::{LONG, options, page, read_by_the_kernel};

    let Some(options) = options() else {
        return;
    };
    if page() > 4096 || options.origin == coldframe_uffd::Origin::UserModeOnly {
        return coldframe_testkit::require::skipped(
            "userfaultfd",
            "pages of 4 KiB and faults of the kernel are needed",
        );
    }
    let history = History::new(0, 26);
    let (_dir, store, skeletons) = pushed(&history);
    let blocks = file(&history.paths[0]);
    let lost = blocks
        .blocks()
        .unwrap()
        .get(0)
        .unwrap()
        .unwrap()
        .stored_id();
    store.delete(&[lost]).unwrap();
    let source = StoreSource::open(skeletons, store).unwrap();
    let regions = source.layout().regions().to_vec();
    let map =
        |region: &coldframe_units::GuestRegion| Arc::new(Mapping::anonymous(region.len()).unwrap());
    let memory: Vec<Arc<Mapping>> = regions.iter().map(map).collect();
    let (sender, events) = std::sync::mpsc::channel();
    let on_event = move |event| drop(sender.send(event));
    let lazy = Lazy::new(memory.clone(), source, options, on_event).unwrap();
    assert!(read_by_the_kernel(&memory[0], 0).is_err());
    let event = events.recv_timeout(LONG).unwrap();
    assert!(matches!(event, LazyEvent::BlockFailed { .. }), "{event:?}");
    let mut bytes = vec![0; usize::try_from(memory[1].len().get()).unwrap()];
    memory[1].read_at(0, &mut bytes);
    assert!(bytes == history.expected(memory[0].len().get(), bytes.len()));
    assert_eq!(lazy.failed().len(), 1);
}
