//! What a checkpoint costs: as much as changed, whatever the size of the disk.

use std::path::Path;
use std::time::{Duration, Instant};

use coldframe_block::{BlockDevice, DeviceOptions, DeviceParts, create, open_log};
use coldframe_chunks::LocalStore;
use coldframe_storage::Overwrite;
use coldframe_units::ByteLen;

use crate::support::{BLOCK, PAGE, name, new_store, noise};

fn bytes_under(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
    let sizes = entries.map(|entry| match entry.file_type().unwrap().is_dir() {
        true => bytes_under(&entry.path()),
        false => entry.metadata().unwrap().len(),
    });
    sizes.sum()
}

// Spec: BLK-22
// Parity: F32
#[test]
fn a_checkpoint_of_a_tebibyte_with_a_hundred_changed_chunks_is_small_and_quick() {
    let dir = coldframe_testkit::scratch::on_disk();
    let place = dir.path().join("store");
    let store = LocalStore::create(&place).unwrap();
    let head = name("disk");
    create(&store, &head, ByteLen::new(1 << 40)).unwrap();
    let log = open_log(&dir.path().join("log"), ByteLen::new(64 << 20)).unwrap();
    let parts = DeviceParts {
        store,
        chunks: None,
        head,
        log,
        base: None,
    };
    let device = BlockDevice::open(parts, DeviceOptions::USUAL).unwrap();
    let stride = (1_u64 << 40) / 100 / BLOCK * BLOCK;
    let mut quickest = Duration::MAX;
    for round in 0..10 {
        for chunk in 0..100 {
            let at = chunk * stride + round * BLOCK;
            device
                .write_at(at, &noise(round * 100 + chunk, PAGE))
                .unwrap();
        }
        device.flush().unwrap();
        let before = bytes_under(&place);
        let started = Instant::now();
        let tag = name(&format!("c{round}"));
        let folded = device.checkpoint(&tag, Overwrite::Refuse).unwrap();
        quickest = quickest.min(started.elapsed());
        assert_eq!((folded.blocks, folded.chunks.written), (100, 100));
        let beside_chunks = bytes_under(&place) - before - folded.chunks.stored_bytes;
        assert!(
            beside_chunks < 64 << 10,
            "{beside_chunks} bytes beside the chunks"
        );
        if round == 0 {
            println!("{beside_chunks} bytes beside the chunks");
        }
    }
    println!("{quickest:?} for a checkpoint");
    // No measurement, but nothing that grows with a tebibyte takes less.
    assert!(quickest < Duration::from_secs(1), "{quickest:?}");
    device.close().unwrap();
}

// How long one takes is how often it goes to the store.
// Spec: BLK-22
#[test]
fn a_checkpoint_goes_to_the_store_a_fixed_number_of_times() {
    let dir = coldframe_testkit::scratch::on_disk();
    let (store, backend) = new_store();
    let head = name("disk");
    create(&store, &head, ByteLen::new(1 << 40)).unwrap();
    let parts = DeviceParts {
        store,
        chunks: None,
        head,
        log: open_log(&dir.path().join("log"), ByteLen::new(64 << 20)).unwrap(),
        base: None,
    };
    let device = BlockDevice::open(parts, DeviceOptions::USUAL).unwrap();
    let mut counts = Vec::new();
    for round in 0..4 {
        for at in 0..10 << round {
            let bytes = noise(round << 20 | at, PAGE);
            device.write_at(at * BLOCK, &bytes).unwrap();
        }
        device.flush().unwrap();
        backend.ledger_calls();
        let before = backend.calls();
        let tag = name(&format!("c{round}"));
        device.checkpoint(&tag, Overwrite::Refuse).unwrap();
        assert_eq!(
            backend.ledger_calls(),
            (3, 1),
            "reads and swaps of the ledger"
        );
        counts.push(backend.calls() - before);
    }
    println!("{counts:?} calls");
    // Those of later rounds also read chunks, where a page of one has changed.
    assert!(counts[0] <= 24, "{counts:?}");
    device.close().unwrap();
}
