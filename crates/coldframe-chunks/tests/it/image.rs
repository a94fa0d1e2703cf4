//! Images through chains of indexes.

use bytes::Bytes;
use coldframe_chunkfile::{BaseId, IndexBuilder, IndexOrigin};
use coldframe_chunks::{
    ANCESTORS_MAX, Backend, BlockData, Chunk, Folder, Located, PackStore, Push, StoreError,
};
use coldframe_envelope::Producer;
use coldframe_units::{BLOCK_BYTES, ByteLen, ChunkId, RootHash};

use crate::backend::MemBackend;
use crate::support::mem;

fn block(number: u8) -> Chunk {
    Chunk::new(Bytes::from(vec![number; 65_536])).unwrap()
}

fn blocks(count: u64) -> ByteLen {
    ByteLen::new(count * BLOCK_BYTES)
}

const fn parent(root: RootHash, size: ByteLen) -> IndexOrigin {
    IndexOrigin::Parent { root, size }
}

/// An index of these rows: a chunk, or zero.
fn keep(
    push: &Push<MemBackend>,
    size: ByteLen,
    origin: IndexOrigin,
    rows: &[(u64, Option<ChunkId>)],
) -> Result<RootHash, StoreError> {
    let producer = Producer::new("test", "1").unwrap();
    let mut builder = IndexBuilder::new(size, origin, producer).unwrap();
    for (at, id) in rows {
        match id {
            Some(id) => builder.push_chunk(*at, *id).unwrap(),
            None => builder.push_zeros(*at, 1).unwrap(),
        }
    }
    push.put_root(&[&builder.finish().unwrap().into_file()])
}

fn bytes(number: u8) -> BlockData {
    BlockData::Bytes(block(number).bytes().clone())
}

// Spec: STORE-16
// Parity: D37, D67, F30, F70, F71, F74, M9
#[test]
fn the_nearest_index_that_says_anything_is_believed() {
    let (store, _) = mem();
    let push = store.push().unwrap();
    let chunks: Vec<Chunk> = (1..5).map(block).collect();
    push.put_chunks(&chunks).unwrap();
    let id = |number: u8| Some(block(number).id());
    let rows = [(0, id(1)), (1, id(2)), (2, id(3)), (3, None)];
    let old = keep(&push, blocks(4), IndexOrigin::None, &rows).unwrap();
    let middle = keep(
        &push,
        blocks(4),
        parent(old, blocks(4)),
        &[(1, None), (2, id(4))],
    )
    .unwrap();
    let rows = [(3, id(1)), (4, None)];
    let new = keep(&push, blocks(5), parent(middle, blocks(4)), &rows).unwrap();
    let image = store.image(new).unwrap();
    assert_eq!((image.ancestor_count(), image.base()), (2, None));
    let read: Vec<_> = (0..5).map(|at| image.read(at).unwrap()).collect();
    let zero = BlockData::Zero;
    assert_eq!(read, [bytes(1), zero.clone(), bytes(4), bytes(1), zero]);
    assert_eq!(
        image.locate(0).unwrap(),
        Located::Chunk(block(1).id(), blocks(1))
    );
    let error = image.read(5).unwrap_err();
    assert!(matches!(error, StoreError::PastEnd { block: 5, count: 5 }));
    assert_eq!(store.image(old).unwrap().read(1).unwrap(), bytes(2));
}

// Failure mode 2: a lost ancestor.
// Spec: STORE-16
// Parity: D68, F27, F30, F74, M2
#[test]
fn a_lost_ancestor_is_named_when_the_image_is_opened() {
    let (store, backend) = mem();
    let push = store.push().unwrap();
    push.put_chunks(&[block(1)]).unwrap();
    let rows = [(0, Some(block(1).id()))];
    let old = keep(&push, blocks(1), IndexOrigin::None, &rows).unwrap();
    let middle = keep(&push, blocks(1), parent(old, blocks(1)), &[]).unwrap();
    let new = keep(&push, blocks(1), parent(middle, blocks(1)), &[(0, None)]).unwrap();
    for key in backend.keys(Folder::Roots) {
        if matches!(key, coldframe_chunks::Key::Root(root, _) if root == old) {
            backend.remove(&key).unwrap();
        }
    }
    for root in [middle, new] {
        let error = store.image(root).unwrap_err();
        assert!(
            matches!(error, StoreError::MissingRoot { root } if root == old),
            "{error}"
        );
    }
}

// Spec: STORE-16
// Parity: F74
#[test]
fn a_parent_of_another_size_is_refused() {
    let (store, _) = mem();
    let push = store.push().unwrap();
    let old = keep(&push, blocks(1), IndexOrigin::None, &[(0, None)]).unwrap();
    let new = keep(&push, blocks(2), parent(old, blocks(2)), &[]).unwrap();
    let error = store.image(new).unwrap_err();
    assert!(matches!(error, StoreError::WrongParentSize { root, .. } if root == new));
}

// Spec: STORE-16
// Parity: D29, D29b, F30, F74
#[test]
fn a_chain_is_bounded() {
    let (store, _) = mem();
    let push = store.push().unwrap();
    let mut root = keep(&push, blocks(1), IndexOrigin::None, &[(0, None)]).unwrap();
    for depth in 0..=ANCESTORS_MAX {
        if depth % 200 == 0 {
            assert_eq!(store.image(root).unwrap().ancestor_count(), depth);
        }
        root = keep(&push, blocks(1), parent(root, blocks(1)), &[]).unwrap();
    }
    let error = store.image(root).unwrap_err();
    assert!(matches!(
        error,
        StoreError::ChainTooLong {
            limit: ANCESTORS_MAX,
            ..
        }
    ));
}

#[test]
fn what_no_index_names_is_the_base_images() {
    let (store, _): (PackStore<MemBackend>, _) = mem();
    let push = store.push().unwrap();
    push.put_chunks(&[block(1)]).unwrap();
    let (id, size) = (BaseId::from_bytes([7; 32]), blocks(3));
    let rows = [(1, Some(block(1).id()))];
    let old = keep(&push, size, IndexOrigin::Base { id, size }, &rows).unwrap();
    let new = keep(&push, size, parent(old, size), &[(2, None)]).unwrap();
    let image = store.image(new).unwrap();
    assert_eq!(image.base(), Some((id, size)));
    let read: Vec<_> = (0..3).map(|at| image.read(at).unwrap()).collect();
    assert_eq!(read, [BlockData::Base, bytes(1), BlockData::Zero]);
}

// Spec: CIDX-12
// Parity: D73
#[test]
fn a_chunk_of_another_length_than_its_block_is_refused() {
    let (store, _) = mem();
    let push = store.push().unwrap();
    push.put_chunks(&[block(1)]).unwrap();
    let rows = [(0, Some(block(1).id()))];
    let root = keep(&push, ByteLen::new(100), IndexOrigin::None, &rows).unwrap();
    let error = store.image(root).unwrap().read(0).unwrap_err();
    assert!(matches!(
        error,
        StoreError::WrongChunkLen {
            expected: 100,
            found: 65_536,
            ..
        }
    ));
}
