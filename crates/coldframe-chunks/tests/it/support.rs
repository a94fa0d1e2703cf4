//! Shared by the tests: chunks, stores, indexes, tags.

use std::time::Duration;

use bytes::Bytes;
use coldframe_chunkfile::{Compression, IndexBuilder, IndexOrigin, Tag, TagKind};
use coldframe_chunks::{
    Backend, Block, Chunk, CollectOptions, Options, PackStore, Push, StoreError, TagName,
};
use coldframe_envelope::Producer;
use coldframe_testkit::rng::Rng;
use coldframe_units::{BLOCK_BYTES, ByteLen, ChunkId, RootHash};

use crate::backend::MemBackend;

pub const OPTIONS: Options = Options {
    compression: Compression::Lz4,
    pack_bytes: 64 << 10,
    threads: 2,
    cache_bytes: 0,
};

/// Without grace, and only packs that are all garbage, or half.
pub const AT_ONCE: CollectOptions = CollectOptions {
    grace: Duration::ZERO,
    garbage_percent: 50,
    dry_run: false,
};

/// 600 bytes that do not compress, the same for the same number.
pub fn bytes(number: u64) -> Vec<u8> {
    Rng::new(number).bytes(600)
}

pub fn chunk(number: u64) -> Chunk {
    Chunk::new(Bytes::from(bytes(number))).unwrap()
}

pub fn id(number: u64) -> ChunkId {
    chunk(number).id()
}

pub fn mem() -> (PackStore<MemBackend>, MemBackend) {
    let backend = MemBackend::default();
    let store = PackStore::create_at(backend.clone(), OPTIONS).unwrap();
    (store, backend)
}

/// What a process that starts now sees.
pub fn reopened(backend: &MemBackend) -> PackStore<MemBackend> {
    PackStore::open_at(backend.clone(), OPTIONS).unwrap()
}

pub fn name(text: &str) -> TagName {
    text.parse().unwrap()
}

/// A full index of an image whose blocks are these chunks.
pub fn index_of(ids: &[ChunkId]) -> Vec<u8> {
    let size = ByteLen::new(ids.len() as u64 * BLOCK_BYTES);
    index_with(size, IndexOrigin::None, ids.iter().copied().zip(0..))
}

pub fn index_with(
    size: ByteLen,
    origin: IndexOrigin,
    rows: impl Iterator<Item = (ChunkId, u64)>,
) -> Vec<u8> {
    let producer = Producer::new("test", "1").unwrap();
    let mut builder = IndexBuilder::new(size, origin, producer).unwrap();
    for (id, block) in rows {
        builder.push_chunk(block, id).unwrap();
    }
    builder.finish().unwrap().into_file()
}

pub fn put<B: Backend>(push: &Push<B>, numbers: &[u64]) -> Result<Vec<ChunkId>, StoreError> {
    let chunks: Vec<Vec<u8>> = numbers.iter().map(|number| bytes(*number)).collect();
    let blocks = chunks.iter().map(|bytes| Block {
        bytes,
        expected: None,
    });
    push.put_blocks(&blocks.collect::<Vec<_>>())
}

pub const fn tag_of(root: RootHash) -> Tag {
    let kind = TagKind::Index;
    Tag {
        kind,
        root,
        disk: None,
        log: None,
    }
}

/// Chunks, their index and a tag, in one push.
pub fn push_image<B: Backend>(
    store: &PackStore<B>,
    tag: &str,
    numbers: &[u64],
) -> Result<RootHash, StoreError> {
    let push = store.push()?;
    let ids = put(&push, numbers)?;
    let root = push.put_root(&[&index_of(&ids)])?;
    let before = store.tag(&name(tag))?;
    push.tag(&name(tag), before, tag_of(root))?;
    push.finish()?;
    Ok(root)
}

pub fn untag<B: Backend>(store: &PackStore<B>, tag: &str) {
    let before = store.tag(&name(tag)).unwrap().unwrap();
    store.remove_tag(&name(tag), before).unwrap();
}
