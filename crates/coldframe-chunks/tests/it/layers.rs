//! Stores in front of stores.

use std::fs;
use std::ops::ControlFlow;
use std::sync::Arc;

use coldframe_chunks::{ChunkStore, DiskCache, Folder, Layer, Layers};

use crate::backend::Trouble;
use crate::support::{chunk, id, mem};

fn cached(remote: Arc<dyn ChunkStore>, cache: &Arc<DiskCache>) -> Layers {
    Layers::new(vec![Layer::cache(cache.clone())], remote)
}

// Spec: STORE-14
// Parity: F75
#[test]
fn a_cache_answers_after_the_first_read_and_after_a_restart() {
    let dir = coldframe_testkit::scratch::on_disk();
    let (remote, backend) = mem();
    remote
        .put_many(&(0..4).map(chunk).collect::<Vec<_>>())
        .unwrap();
    let cache = Arc::new(DiskCache::open(dir.path(), 1 << 20).unwrap());
    let layers = cached(Arc::new(remote.clone()), &cache);
    assert_eq!(layers.get(id(1)).unwrap(), chunk(1).bytes());
    backend.trouble(Trouble::Short(Folder::Packs));
    assert_eq!(layers.get(id(1)).unwrap(), chunk(1).bytes());
    assert_eq!(cache.count(), (1, 1));
    assert!(layers.get(id(2)).unwrap_err().is_corrupt());
    drop((layers, cache));
    let cache = Arc::new(DiskCache::open(dir.path(), 1 << 20).unwrap());
    let layers = cached(Arc::new(remote), &cache);
    assert!(layers.get(id(1)).is_ok());
    backend.heal();
    assert!(layers.get(id(2)).is_ok());
    assert!(layers.get(id(9)).unwrap_err().is_missing());
}

fn files(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let folders = fs::read_dir(dir).unwrap().flatten();
    let files = folders.flat_map(|folder| fs::read_dir(folder.path()).unwrap().flatten());
    files.map(|file| file.path()).collect()
}

// Failure mode 8: a poisoned cache.
// Spec: STORE-14
// Parity: F75, M8
#[test]
fn a_poisoned_cache_heals_itself() {
    let dir = coldframe_testkit::scratch::on_disk();
    let (remote, _) = mem();
    remote.put(&chunk(1)).unwrap();
    let cache = Arc::new(DiskCache::open(dir.path(), 1 << 20).unwrap());
    let layers = cached(Arc::new(remote), &cache);
    layers.get(id(1)).unwrap();
    for poison in [&b""[..], b"short", &[0; 600], &[1; 5 << 20]] {
        fs::write(&files(dir.path())[0], poison).unwrap();
        assert_eq!(layers.get(id(1)).unwrap(), chunk(1).bytes());
        assert_eq!(
            fs::read(&files(dir.path())[0]).unwrap(),
            crate::support::bytes(1)
        );
    }
}

// Failure mode 7: a bound that counts what others wrote.
// Spec: STORE-14
// Parity: D70, F75
#[test]
fn a_cache_is_bounded_whoever_writes_to_it() {
    let dir = coldframe_testkit::scratch::on_disk();
    let bound = 60_000;
    let caches = [0, 1].map(|_| DiskCache::open(dir.path(), bound).unwrap());
    fs::create_dir_all(dir.path().join("00")).unwrap();
    fs::write(dir.path().join("00/orphan"), vec![0; 20_000]).unwrap();
    for number in 0..400 {
        caches[usize::try_from(number % 2).unwrap()]
            .put(&chunk(number))
            .unwrap();
        let total: u64 = files(dir.path())
            .iter()
            .map(|path| path.metadata().unwrap().len())
            .sum();
        assert!(total <= bound + 2 * bound / 16 + 600, "{total}");
    }
    let mut listed = 0;
    let all = caches[0].list(&mut |_, stat| {
        assert_eq!(stat.raw_len.get(), 600);
        listed += 1;
        ControlFlow::Continue(())
    });
    all.unwrap();
    assert!(listed > 40, "{listed}");
    // What was used last is there.
    assert!(caches[1].get(id(399)).is_ok());
    assert_eq!(caches[0].delete(&[id(399), id(999)]).unwrap(), 1);
    assert!(!caches[1].has(id(399)).unwrap());
}

// Failure mode 7: a cache on a full disk.
// Spec: STORE-14
// Parity: M7
#[test]
fn a_cache_that_cannot_be_written_is_only_slow() {
    let (remote, _) = mem();
    remote.put(&chunk(1)).unwrap();
    let (near, full) = mem();
    full.trouble(Trouble::Full);
    let layers = Layers::new(vec![Layer::cache(Arc::new(near))], Arc::new(remote));
    assert_eq!(layers.get(id(1)).unwrap(), chunk(1).bytes());
}

// Spec: STORE-14
// Parity: F42
#[test]
fn a_chain_reads_through_what_is_missing_or_damaged() {
    let (near, backend) = mem();
    let (far, _) = mem();
    near.put_many(&[chunk(1), chunk(2)]).unwrap();
    far.put_many(&[chunk(2), chunk(3)]).unwrap();
    let pack = backend.keys(Folder::Packs)[0].clone();
    backend.rot(&pack, |bytes| bytes[160 + 600] ^= 1);
    let near = Arc::new(near);
    let layers = Layers::new(vec![Layer::cache(near.clone())], Arc::new(far.clone()));
    for number in 1..4 {
        assert_eq!(layers.get(id(number)).unwrap(), chunk(number).bytes());
    }
    // The damaged copy was healed by the good one.
    assert_eq!(near.get(id(2)).unwrap(), chunk(2).bytes());
    assert_eq!(near.get(id(3)).unwrap(), chunk(3).bytes());
    layers.put(&chunk(4)).unwrap();
    assert!(far.has(id(4)).unwrap() && !near.has(id(4)).unwrap());
    assert!(layers.has(id(4)).unwrap() && !layers.has(id(5)).unwrap());
    let mut ids = Vec::new();
    let all = layers.list(&mut |id, _| {
        ids.push(id);
        ControlFlow::Continue(())
    });
    all.unwrap();
    assert_eq!(ids.len(), 4);
    assert_eq!(layers.delete(&[id(2)]).unwrap(), 1);
    assert!(layers.get(id(2)).unwrap_err().is_missing());
}
