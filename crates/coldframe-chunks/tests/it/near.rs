//! A cache on disk in front of a store that is far away.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use coldframe_chunkfile::{IndexBuilder, IndexOrigin};
use coldframe_chunks::{
    AnyBackend, BlockData, ChunkStore, DiskCache, Layer, Layers, PackStore, open,
};
use coldframe_envelope::Producer;
use coldframe_testkit::child;
use coldframe_units::ByteLen;

use crate::faulty::{Call, Fault, Faulty};
use crate::places::{BUCKET, QUICK, new_prefix, remote, s3s_endpoint};
use crate::support::{OPTIONS, bytes, chunk, id, name, push_image, put, tag_of};

const BOUND: u64 = 1 << 20;

fn cached(faulty: &Faulty, dir: &Path) -> PackStore<AnyBackend> {
    let cache = DiskCache::open(dir, BOUND).unwrap();
    faulty.store().with_cache(Arc::new(cache))
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let folders = fs::read_dir(dir).unwrap().flatten();
    let files = folders.flat_map(|folder| fs::read_dir(folder.path()).unwrap().flatten());
    files.map(|file| file.path()).collect()
}

// Spec: STORE-14
// Parity: D69
#[test]
fn what_was_fetched_once_is_not_fetched_again_even_after_a_restart() {
    let dir = coldframe_testkit::scratch::on_disk();
    let faulty = Faulty::default();
    faulty.store().put_many(&[chunk(1), chunk(2)]).unwrap();
    let fetched = || faulty.count(Call::Get, "packs/");
    let store = cached(&faulty, dir.path());
    let before = fetched();
    assert_eq!(store.get(id(1)).unwrap(), bytes(1));
    assert_eq!(fetched(), before + 1);
    assert_eq!(store.get(id(1)).unwrap(), bytes(1));
    assert_eq!(fetched(), before + 1);
    drop(store);
    let store = cached(&faulty, dir.path());
    let before = fetched();
    assert_eq!(store.get(id(1)).unwrap(), bytes(1));
    assert_eq!(fetched(), before);
    // The service is gone: what is near is still there.
    faulty.spoil(Call::Get, "packs/", u64::MAX, Fault::Refused);
    assert_eq!(store.get(id(1)).unwrap(), bytes(1));
    assert!(store.get(id(2)).is_err());
}

// Failure mode 8: a poisoned cache.
// Spec: STORE-14
// Parity: M8
#[test]
fn a_poisoned_entry_is_fetched_again_and_healed() {
    let dir = coldframe_testkit::scratch::on_disk();
    let faulty = Faulty::default();
    faulty.store().put(&chunk(1)).unwrap();
    let store = cached(&faulty, dir.path());
    store.get(id(1)).unwrap();
    for poison in [&b""[..], b"short", &[0; 600], &[1; 5 << 20]] {
        fs::write(&files(dir.path())[0], poison).unwrap();
        assert_eq!(store.get(id(1)).unwrap(), bytes(1));
        assert_eq!(fs::read(&files(dir.path())[0]).unwrap(), bytes(1));
    }
}

// Failure mode 2: it works until the cache is evicted.
// Spec: STORE-14
// Parity: M2
#[test]
fn everything_is_read_again_after_the_whole_cache_was_lost() {
    let dir = coldframe_testkit::scratch::on_disk();
    let faulty = Faulty::default();
    let store = cached(&faulty, dir.path());
    push_image(&store, "a", &[1, 2, 3]).unwrap();
    assert!((1..4).all(|number| store.get(id(number)).is_ok()));
    fs::remove_dir_all(dir.path()).unwrap();
    let store = cached(&faulty, dir.path());
    assert!((1..4).all(|number| store.get(id(number)).is_ok()));
    assert!(store.verify(&[]).unwrap().is_sound());
}

// A verification that looked at the cache would find nothing.
// Spec: STORE-12
#[test]
fn a_verification_reads_the_store_and_not_the_cache() {
    let dir = coldframe_testkit::scratch::on_disk();
    let faulty = Faulty::default();
    let store = cached(&faulty, dir.path());
    store.put(&chunk(1)).unwrap();
    store.get(id(1)).unwrap();
    faulty.spoil(Call::Get, "packs/", u64::MAX, Fault::Flipped);
    assert!(!store.verify(&[]).unwrap().is_sound());
    assert!(store.get(id(1)).is_ok());
}

// Spec: STORE-14, STORE-16
// Parity: F71
#[test]
fn an_image_is_read_through_the_cache() {
    let dir = coldframe_testkit::scratch::on_disk();
    let faulty = Faulty::default();
    let store = cached(&faulty, dir.path());
    let push = store.push().unwrap();
    let block = vec![9; 65_536];
    let blocks = [coldframe_chunks::Block {
        bytes: &block,
        expected: None,
    }];
    let ids = push.put_blocks(&blocks).unwrap();
    let producer = Producer::new("test", "1").unwrap();
    let mut index =
        IndexBuilder::new(ByteLen::new(2 * 65_536), IndexOrigin::None, producer).unwrap();
    index.push_chunk(0, ids[0]).unwrap();
    index.push_zeros(1, 1).unwrap();
    let index = index.finish().unwrap().into_file();
    let root = push.put_root(&[&index]).unwrap();
    push.tag(&name("a"), None, tag_of(root)).unwrap();
    push.finish().unwrap();
    let image = store.image(root).unwrap();
    let read = || match image.read(0).unwrap() {
        BlockData::Bytes(bytes) => bytes,
        other => panic!("{other:?}"),
    };
    assert_eq!(read(), block);
    assert_eq!(image.read(1).unwrap(), BlockData::Zero);
    faulty.spoil(Call::Get, "packs/", u64::MAX, Fault::Refused);
    assert_eq!(read(), block);
}

const CHILD: &str = "COLDFRAME_CHUNKS_TEST_CACHE";

/// In a child process: reads everything through the shared cache, again and again.
#[test]
fn child_that_reads_through_a_cache() {
    let Ok(dir) = std::env::var(CHILD) else {
        return;
    };
    let url = std::env::var("COLDFRAME_CHUNKS_TEST_STORE").unwrap();
    let cache = Arc::new(DiskCache::open(dir.as_ref(), 20_000).unwrap());
    let store = open(&url, OPTIONS).unwrap();
    let layers = Layers::new(vec![Layer::cache(cache)], Arc::new(store));
    for round in 0..6_u64 {
        for number in 0..60 {
            let number = (number * 7 + round) % 60;
            assert_eq!(layers.get(id(number)).unwrap(), bytes(number));
        }
    }
}

// Spec: STORE-14
// Parity: M10
#[test]
fn two_processes_share_a_cache_that_is_too_small_for_either() {
    let dir = coldframe_testkit::scratch::on_disk();
    let prefix = new_prefix();
    let place = remote(s3s_endpoint(), &prefix, QUICK);
    let store = PackStore::create_at(place, OPTIONS).unwrap();
    let push = store.push().unwrap();
    put(&push, &(0..60).collect::<Vec<_>>()).unwrap();
    push.finish().unwrap();
    let children = [0, 1].map(|_| {
        child::command(std::env::current_exe().unwrap())
            .args(["--exact", "near::child_that_reads_through_a_cache"])
            .env(CHILD, dir.path())
            .env(
                "COLDFRAME_CHUNKS_TEST_STORE",
                format!("s3://{BUCKET}/{prefix}"),
            )
            .env("AWS_ENDPOINT_URL", s3s_endpoint())
            .env("AWS_ALLOW_HTTP", "true")
            .env("AWS_ACCESS_KEY_ID", "AK")
            .env("AWS_SECRET_ACCESS_KEY", "SK")
            .spawn()
            .unwrap()
    });
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let kept: u64 = files(dir.path())
        .iter()
        .map(|path| path.metadata().unwrap().len())
        .sum();
    assert!(kept <= 20_000 + 2 * 20_000 / 16 + 1200, "{kept}");
    assert!(kept > 0);
}
