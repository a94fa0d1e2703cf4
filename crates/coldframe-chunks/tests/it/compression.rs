//! What is stored, and how.

use bytes::Bytes;
use coldframe_chunkfile::Compression;
use coldframe_chunks::{Chunk, ChunkStore, Options, PackStore};
use coldframe_testkit::rng::Rng;

use crate::backend::MemBackend;
use crate::support::{OPTIONS, reopened};

fn text() -> Chunk {
    let mut rng = Rng::new(7);
    let words: Vec<String> = (0..64)
        .map(|_| format!("{:x} ", rng.below(1 << 20)))
        .collect();
    let pick = (0..20_000).map(|_| words[usize::try_from(rng.below(64)).unwrap()].clone());
    let mut text = pick.collect::<String>().into_bytes();
    text.truncate(65_536);
    Chunk::new(Bytes::from(text)).unwrap()
}

fn noise() -> Chunk {
    Chunk::new(Bytes::from(Rng::new(1).bytes(65_536))).unwrap()
}

// Spec: STORE-6
// Parity: D73, F72
#[test]
fn each_compression_is_read_back_by_any_reader() {
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        let backend = MemBackend::default();
        let options = Options {
            compression,
            ..OPTIONS
        };
        let store = PackStore::create_at(backend.clone(), options).unwrap();
        let count = store.put_many(&[text(), noise()]).unwrap();
        let stat = store.stat(text().id()).unwrap().unwrap();
        assert_eq!(stat.raw_len.get(), 65_536);
        if compression == Compression::None {
            assert_eq!(stat.stored_len, stat.raw_len);
        } else {
            assert!(stat.stored_len.get() < 50_000, "{stat:?}");
        }
        // Noise is stored as it is.
        let stat = store.stat(noise().id()).unwrap().unwrap();
        assert_eq!(
            (stat.stored_len.get(), stat.compression),
            (65_536, Compression::None)
        );
        assert!(count.stored_bytes <= count.raw_bytes);
        let other = reopened(&backend);
        assert_eq!(other.get(text().id()).unwrap(), text().bytes());
        assert_eq!(other.get(noise().id()).unwrap(), noise().bytes());
    }
}

// Spec: STORE-4
// Parity: D75, F72, F73
#[test]
fn a_chunk_stored_with_another_compression_is_not_stored_again() {
    let backend = MemBackend::default();
    let options = Options {
        compression: Compression::Zstd,
        ..OPTIONS
    };
    let store = PackStore::create_at(backend.clone(), options).unwrap();
    store.put(&text()).unwrap();
    assert_eq!(reopened(&backend).put(&text()).unwrap().deduplicated, 1);
    assert_eq!(store.get(text().id()).unwrap(), text().bytes());
}
