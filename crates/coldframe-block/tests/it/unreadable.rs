//! Blocks, pages of indexes and pages of the log that cannot be read: whatever is lost, folds and
//! writes go on, what is known stays known, and nothing stands in for what is not.

use std::sync::Arc;

use coldframe_block::{
    BaseFile, BlockDevice, BlockError, ImportMode, Record, Shrink, import, usage,
};
use coldframe_chunks::{Chunk, ChunkStore, CollectOptions, Finding, Folder, PackStore, StoreError};
use coldframe_ring::{RingOptions, RingWal};
use coldframe_storage::{MemStorage, Storage};
use coldframe_units::{ByteLen, FileOffset};

use crate::backend::Trouble;
use crate::support::{
    BLOCK, CALM, MIB, MemDevice, PAGE, Rig, STORE, all, all_of, assert_same, name, new_log,
    new_store, noise, parts, read, region,
};

fn chunk(bytes: Vec<u8>) -> Chunk {
    Chunk::new(bytes::Bytes::from(bytes)).unwrap()
}

/// A disk of `blocks` blocks of noise, each of its own seed, which is its number.
fn filled(blocks: u64, log_bytes: u64) -> Rig {
    let rig = Rig::new(blocks * BLOCK, log_bytes, CALM);
    let device = rig.open();
    for block in 0..blocks {
        device
            .write_at(block * BLOCK, &noise(block, BLOCK))
            .unwrap();
        if block % 8 == 7 {
            device.fold().unwrap();
        }
    }
    device.close().unwrap();
    rig
}

fn lose(rig: &Rig, block: u64) {
    let lost = rig.store.delete(&[chunk(noise(block, BLOCK)).id()]);
    assert_eq!(lost.unwrap(), 1);
}

fn put_back(rig: &Rig, block: u64) {
    let store = PackStore::open_at(rig.backend.clone(), STORE).unwrap();
    store.put(&chunk(noise(block, BLOCK))).unwrap();
}

#[track_caller]
fn unreadable(device: &MemDevice, offset: u64) -> StoreError {
    let error = device.read_at(offset, &mut [0; 9]).unwrap_err();
    let BlockError::Read { block, source } = error else {
        panic!("{error:?}");
    };
    assert_eq!(block, offset / BLOCK);
    source
}

// Spec: BLK-22, BLK-23
#[test]
fn a_lost_chunk_leaves_folds_as_cheap_and_the_chain_as_short_as_ever() {
    let rig = filled(8, MIB);
    lose(&rig, 2);
    let mut device = rig.open();
    let mut sizes = Vec::new();
    for seed in 0..24 {
        device
            .write_at(5 * BLOCK, &noise(100 + seed, PAGE))
            .unwrap();
        sizes.push(device.fold().unwrap().index_bytes);
        assert!(device.stat().ancestors <= CALM.ancestors_max);
        if seed == 10 {
            drop(device);
            device = rig.open();
        }
    }
    let whole = sizes.iter().max().unwrap();
    let whole = sizes.iter().filter(|size| *size == whole).count();
    assert!((4..8).contains(&whole), "{whole} of 24 are whole");
    let lost = chunk(noise(2, BLOCK)).id();
    assert!(
        matches!(unreadable(&device, 2 * BLOCK), StoreError::MissingChunk { id } if id == lost)
    );
    assert_eq!(read(&device, 3 * BLOCK, BLOCK), noise(3, BLOCK));
    put_back(&rig, 2);
    assert_eq!(read(&device, 2 * BLOCK, BLOCK), noise(2, BLOCK));
}

/// Flips a bit of the row of a block in every index; doing so again heals it.
fn rot_row(rig: &Rig, block: u64) -> usize {
    let id = chunk(noise(block, BLOCK)).id();
    let mut rotten = 0;
    for key in rig.backend.keys(Folder::Roots) {
        rig.backend.rot(&key, |file| {
            // The last byte of an id is flipped: the row is still found by the first ones.
            let found = file
                .windows(31)
                .position(|part| part == &id.as_bytes()[..31]);
            if let Some(at) = found {
                file[at + 31] ^= 1;
                rotten += 1;
            }
        });
    }
    rotten
}

// Spec: BLK-22, BLK-23
#[test]
fn a_damaged_page_of_an_index_stays_in_the_chain_and_is_never_zeros() {
    let rig = filled(8, MIB);
    assert!(rot_row(&rig, 2) > 0);
    let mut device = rig.open();
    for seed in 0..40 {
        device
            .write_at(5 * BLOCK, &noise(100 + seed, BLOCK))
            .unwrap();
        device
            .write_at(6 * BLOCK + PAGE, &noise(200 + seed, PAGE))
            .unwrap();
        device.fold().unwrap();
        let ancestors = device.stat().ancestors;
        assert!(ancestors <= 2 * CALM.ancestors_max + 2, "{ancestors}");
        if seed % 9 == 8 {
            drop(device);
            device = rig.open();
        }
    }
    for block in [0, 2, 7] {
        let source = unreadable(&device, block * BLOCK);
        assert!(
            matches!(source, StoreError::DamagedRoot { .. }),
            "{source:?}"
        );
    }
    assert_eq!(read(&device, 5 * BLOCK, BLOCK), noise(139, BLOCK));
    assert_eq!(read(&device, 6 * BLOCK + PAGE, PAGE), noise(239, PAGE));
    // No block of it is told to be zero, and asking is no error.
    let told = |offset, is_zero: bool| assert!(!is_zero, "{offset}");
    device
        .extents(0, 8 * BLOCK, &mut |len, is_zero| {
            told(len, is_zero);
            true
        })
        .unwrap();
    // Written whole it is sound, and when the page is, so is all of it.
    device.write_at(0, &noise(300, BLOCK)).unwrap();
    device.discard(7 * BLOCK, BLOCK).unwrap();
    for _ in 0..5 {
        device.write_at(0, &noise(300, PAGE)).unwrap();
        device.fold().unwrap();
    }
    assert_eq!(read(&device, 0, PAGE), noise(300, PAGE));
    assert_eq!(read(&device, 7 * BLOCK, BLOCK), vec![0; BLOCK as usize]);
    rot_row(&rig, 2);
    assert_eq!(read(&device, 2 * BLOCK, BLOCK), noise(2, BLOCK));
    let mut last = noise(6, BLOCK);
    last[PAGE as usize..2 * PAGE as usize].copy_from_slice(&noise(239, PAGE));
    assert_eq!(read(&device, 6 * BLOCK, BLOCK), last);
    // With nothing unreadable the chain is whole again.
    for seed in 0..8 {
        device.write_at(0, &noise(400 + seed, PAGE)).unwrap();
        device.fold().unwrap();
    }
    assert!(device.stat().ancestors <= CALM.ancestors_max);
}

// Spec: BLK-23, BLK-24
#[test]
fn a_full_log_of_blocks_in_part_that_cannot_be_read_is_relieved() {
    let blocks = 24;
    let rig = filled(blocks, 256 << 10);
    let mut device = rig.open();
    // What the store had of every block is lost (before all else: a fold in the background would
    // make whole blocks of it), and it takes nothing.
    (0..blocks).for_each(|block| lose(&rig, block));
    rig.backend.trouble(Trouble::Full);
    let written = (0..blocks * 16)
        .map(|n| (n % blocks) * BLOCK + (n / blocks) * PAGE)
        .take_while(|at| device.write_at(*at, &noise(1000 + at, PAGE)).is_ok());
    let written: Vec<u64> = written.collect();
    assert!(written.len() > blocks as usize);
    assert!(
        device
            .write_at(0, &noise(1, PAGE))
            .unwrap_err()
            .is_out_of_space()
    );
    rig.backend.heal();
    for round in 0..3 {
        device.fold().unwrap();
        for at in &written {
            assert_eq!(
                read(&device, *at, PAGE),
                noise(1000 + at, PAGE),
                "page at {at}"
            );
        }
        unreadable(&device, 15 * PAGE);
        if round == 1 {
            drop(device);
            device = rig.open();
        }
    }
    // Any write is taken: pages, whole blocks, zeros; more than the log has room for.
    for n in 0..300 {
        let at = (n % blocks) * BLOCK + 15 * PAGE;
        device.write_at(at, &noise(n, PAGE)).unwrap();
    }
    device.write_at(BLOCK, &noise(77, BLOCK)).unwrap();
    device.discard(2 * BLOCK, BLOCK).unwrap();
    device.close().unwrap();
    let device = rig.open();
    assert_eq!(read(&device, BLOCK, BLOCK), noise(77, BLOCK));
    assert_eq!(read(&device, 2 * BLOCK, BLOCK), vec![0; BLOCK as usize]);
    assert_eq!(
        read(&device, 3 * BLOCK, PAGE),
        noise(1000 + 3 * BLOCK, PAGE)
    );
    // What comes back is under what was written.
    (0..blocks).for_each(|block| put_back(&rig, block));
    let mut expected = noise(5, BLOCK);
    for at in written.iter().filter(|at| **at / BLOCK == 5) {
        let page = (at % BLOCK) as usize;
        expected[page..][..PAGE as usize].copy_from_slice(&noise(1000 + at, PAGE));
    }
    expected[15 * PAGE as usize..].copy_from_slice(&noise(293, PAGE));
    assert_same(&read(&device, 5 * BLOCK, BLOCK), &expected, "healed");
    let bytes = all(&device);
    device.close().unwrap();
    assert_same(&all_of(&rig.image("disk")), &bytes, "the index");
}

// Spec: BLK-24
#[test]
fn parts_are_kept_by_the_collector_and_become_a_chunk_when_all_can_be_read() {
    let rig = filled(4, MIB);
    lose(&rig, 1);
    let device = rig.open();
    device.write_at(BLOCK + 3 * PAGE, &noise(50, PAGE)).unwrap();
    device.write_zeroes(BLOCK + 9 * PAGE, 2 * PAGE).unwrap();
    device.fold().unwrap();
    device.write_at(BLOCK + 4 * PAGE, &noise(51, PAGE)).unwrap();
    device.fold().unwrap();
    let at_once = CollectOptions {
        grace: std::time::Duration::ZERO,
        garbage_percent: 1,
        dry_run: false,
    };
    for _ in 0..3 {
        rig.store.collect(at_once, &[]).unwrap();
    }
    drop(device);
    let device = rig.open();
    let check = |device: &MemDevice| {
        assert_eq!(read(device, BLOCK + 3 * PAGE, PAGE), noise(50, PAGE));
        assert_eq!(read(device, BLOCK + 4 * PAGE, PAGE), noise(51, PAGE));
        assert_eq!(
            read(device, BLOCK + 9 * PAGE, 2 * PAGE),
            [0; 2 * PAGE as usize]
        );
    };
    check(&device);
    assert!(matches!(
        unreadable(&device, BLOCK),
        StoreError::MissingChunk { .. }
    ));
    let image = rig.image("disk");
    assert!(image.read_at(BLOCK, &mut [0; 9]).unwrap_err().is_corrupt());
    let mut page = vec![0; PAGE as usize];
    image.read_at(BLOCK + 3 * PAGE, &mut page).unwrap();
    assert_eq!(page, noise(50, PAGE));
    let usage = coldframe_block::usage(&rig.store, image.root()).unwrap();
    assert_eq!((usage.data_blocks, usage.zero_blocks), (4, 0));
    let out = MemStorage::new();
    let export = |image, out: &MemStorage| coldframe_block::export(image, out, &mut |_| {});
    assert!(export(&image, &out).unwrap_err().is_corrupt());
    put_back(&rig, 1);
    check(&device);
    assert_eq!(
        read(&device, BLOCK + 5 * PAGE, PAGE),
        noise(1, BLOCK)[5 * 4096..6 * 4096]
    );
    for seed in 0..5 {
        device.write_at(3 * BLOCK, &noise(90 + seed, PAGE)).unwrap();
        device.fold().unwrap();
    }
    // From now on its old chunk is not needed.
    lose(&rig, 1);
    check(&device);
    let bytes = all(&device);
    let (image, out) = (rig.image("disk"), MemStorage::new());
    export(&image, &out).unwrap();
    assert_same(&out.to_vec(), &bytes, "exported");
}

// Spec: BLK-13, BLK-24
#[test]
fn a_disk_is_cut_and_grown_through_blocks_that_cannot_be_read() {
    let steps: [&[u64]; 5] = [
        &[3 * BLOCK + 10 * PAGE],
        &[3 * BLOCK + 10 * PAGE + 77, 4 * BLOCK],
        &[3 * BLOCK + 12 * PAGE, 3 * BLOCK + 5, 3 * BLOCK + 9 * PAGE],
        &[3 * BLOCK + 1, 5 * BLOCK, 3 * BLOCK + 100],
        &[2 * BLOCK, 4 * BLOCK],
    ];
    for sizes in steps {
        for is_folded in [false, true] {
            let rig = filled(4, MIB);
            lose(&rig, 3);
            let mut device = rig.open();
            device.write_at(3 * BLOCK, &noise(60, PAGE)).unwrap();
            for size in sizes {
                device.resize(ByteLen::new(*size), Shrink::Allow).unwrap();
                if is_folded {
                    device.fold().unwrap();
                }
            }
            device.write_at(0, &noise(61, PAGE)).unwrap();
            device.fold().unwrap();
            drop(device);
            device = rig.open();
            let size = *sizes.last().unwrap();
            assert_eq!(device.size().get(), size);
            // What is known: a page written, and zeros where the disk was shortest.
            let shortest = *sizes.iter().min().unwrap();
            let mut expected = [noise(3, BLOCK), vec![0; BLOCK as usize]].concat();
            expected[..PAGE as usize].copy_from_slice(&noise(60, PAGE));
            expected[shortest.saturating_sub(3 * BLOCK) as usize..].fill(0);
            expected.truncate(size.saturating_sub(3 * BLOCK) as usize);
            put_back(&rig, 3);
            let found = read(&device, 3 * BLOCK, size - 3 * BLOCK);
            assert_same(&found, &expected, &format!("{sizes:?}"));
        }
    }
}

// Spec: BLK-24
#[test]
fn a_cut_block_that_cannot_be_read_is_healed_by_writing_it() {
    let rig = filled(4, MIB);
    lose(&rig, 3);
    let device = rig.open();
    let size = 3 * BLOCK + 10 * PAGE;
    device.resize(ByteLen::new(size), Shrink::Allow).unwrap();
    device.fold().unwrap();
    unreadable(&device, 3 * BLOCK);
    device.write_at(3 * BLOCK, &noise(70, 10 * PAGE)).unwrap();
    device.fold().unwrap();
    assert_eq!(read(&device, 3 * BLOCK, 10 * PAGE), noise(70, 10 * PAGE));
    for n in 0..1000 {
        device.write_at(n % 40 * PAGE, &noise(n, PAGE)).unwrap();
    }
}

// Spec: BLK-44
#[test]
fn zeros_behind_the_end_of_a_disk_that_was_cut_are_replayed() {
    let rig = Rig::new(12 * PAGE, MIB, CALM);
    let device = rig.open();
    device.write_at(0, &noise(1, 12 * PAGE)).unwrap();
    device
        .resize(ByteLen::new(10 * PAGE), Shrink::Allow)
        .unwrap();
    device.write_at(PAGE, &noise(2, PAGE)).unwrap();
    drop(device);
    let log = RingWal::open(Arc::clone(&rig.log), region(MIB), RingOptions::ON_DEMAND).unwrap();
    for (at, len) in [(9 * PAGE, 3 * PAGE), (10 * PAGE, PAGE), (11 * PAGE, PAGE)] {
        let mut payload = Vec::new();
        Record::Zero { at, len }.encode(&mut payload);
        log.append(&payload).unwrap();
    }
    log.close().unwrap();
    let device = rig.open();
    assert_eq!(
        read(&device, 8 * PAGE, 2 * PAGE)[PAGE as usize..],
        [0; PAGE as usize]
    );
    device
        .resize(ByteLen::new(12 * PAGE), Shrink::Allow)
        .unwrap();
    assert_eq!(read(&device, 9 * PAGE, 3 * PAGE), [0; 3 * PAGE as usize]);
    device.fold().unwrap();
}

// Spec: BLK-24
#[test]
fn a_disk_shrunk_and_grown_back_over_a_lost_block_opens_again() {
    for sizes in [&[10, 12][..], &[10], &[10, 12, 10]] {
        let rig = Rig::new(12 * PAGE, MIB, CALM);
        let device = rig.open();
        device.write_at(0, &noise(1, 12 * PAGE)).unwrap();
        device.close().unwrap();
        rig.store
            .delete(&[chunk(noise(1, 12 * PAGE)).id()])
            .unwrap();
        let device = rig.open();
        device.write_at(PAGE, &noise(2, PAGE)).unwrap();
        for pages in sizes {
            device
                .resize(ByteLen::new(pages * PAGE), Shrink::Allow)
                .unwrap();
        }
        device.fold().unwrap();
        drop(device);
        let device = rig.open();
        assert_eq!(read(&device, PAGE, PAGE), noise(2, PAGE));
        unreadable(&device, 0);
        if sizes.len() == 2 {
            assert_eq!(read(&device, 10 * PAGE, 2 * PAGE), [0; 2 * PAGE as usize]);
        }
    }
}

// Spec: BLK-2, BLK-24
#[test]
fn a_page_damaged_in_the_log_is_lost_in_the_index_and_nothing_else_is() {
    let rig = Rig::new(8 * BLOCK, MIB, CALM);
    let device = rig.open();
    device.write_at(0, &noise(1, 2 * BLOCK)).unwrap();
    let page = noise(1, 2 * BLOCK)[(5 * PAGE) as usize..][..PAGE as usize].to_vec();
    let log = rig.log.to_vec();
    let at = log
        .windows(64)
        .position(|bytes| bytes == &page[..64])
        .unwrap() as u64;
    rig.log
        .write_at(FileOffset::new(at + 77), &[page[77] ^ 4])
        .unwrap();
    device.fold().unwrap();
    let check = |device: &MemDevice| {
        let source = unreadable(device, 5 * PAGE + 9);
        assert!(
            matches!(source, StoreError::LostPages { block: 0 }),
            "{source:?}"
        );
        assert_eq!(
            read(device, 0, 5 * PAGE),
            noise(1, 2 * BLOCK)[..5 * PAGE as usize]
        );
        let rest = &noise(1, 2 * BLOCK)[6 * PAGE as usize..];
        assert_same(
            &read(device, 6 * PAGE, 2 * BLOCK - 6 * PAGE),
            rest,
            "others",
        );
    };
    check(&device);
    drop(device);
    let lost = |count: u64| {
        for verified in [rig.store.verify_tables(&[]), rig.store.verify(&[])] {
            let verified = verified.unwrap();
            assert_eq!(verified.is_sound(), count == 0, "{verified:?}");
            assert_eq!(verified.hurt_tags.values().sum::<u64>(), count);
            let told = verified.findings.iter();
            let told = told.filter(|finding| matches!(finding, Finding::Pages { pages: 1, .. }));
            assert_eq!(told.count() as u64, count);
        }
        let stat = rig.store.stat_all(&[]).unwrap();
        assert_eq!(stat.findings.len() as u64, count);
        assert_eq!(
            stat.tags.values().map(|tag| tag.lost_blocks).sum::<u64>(),
            count
        );
        let root = rig.store.tags().unwrap().values().next().unwrap().root;
        assert_eq!(usage(&rig.store, root).unwrap().lost_blocks, count);
    };
    lost(1);
    let device = rig.open();
    check(&device);
    for seed in 0..8 {
        device.write_at(6 * BLOCK, &noise(seed, PAGE)).unwrap();
        device.fold().unwrap();
    }
    check(&device);
    device.write_at(5 * PAGE, &page).unwrap();
    device.fold().unwrap();
    assert_eq!(read(&device, 0, 2 * BLOCK), noise(1, 2 * BLOCK));
    lost(0);
}

/// A lazily imported disk, and a device over it.
struct Lazy {
    dir: tempfile::TempDir,
    store: PackStore<crate::backend::MemBackend>,
    backend: crate::backend::MemBackend,
    log: Arc<MemStorage>,
}

impl Lazy {
    fn new(blocks: u64) -> Self {
        let dir = coldframe_testkit::scratch::on_disk();
        let path = dir.path().join("flat.img");
        std::fs::write(&path, noise(1, blocks * BLOCK)).unwrap();
        let (store, backend) = new_store();
        import(&store, &path, &name("disk"), ImportMode::Lazy, &mut |_| {}).unwrap();
        let log = new_log(MIB);
        Self {
            dir,
            store,
            backend,
            log,
        }
    }

    fn open(&self) -> MemDevice {
        let mut parts = parts(&self.store, "disk", Arc::clone(&self.log)).unwrap();
        let path = self.dir.path().join("flat.img");
        parts.base = Some(Arc::new(BaseFile::open(&path).unwrap()));
        BlockDevice::open(parts, CALM).unwrap()
    }
}

// Spec: BLK-21, BLK-23
#[test]
fn an_index_of_ours_that_the_tag_points_to_is_accepted_whatever_answer_was_lost() {
    let mut lost = 0;
    for call in 1..60 {
        let lazy = Lazy::new(10);
        let device = lazy.open();
        read(&device, 0, 10);
        device.write_at(7 * BLOCK, &noise(2, PAGE)).unwrap();
        lazy.backend.trouble(Trouble::Fail(call, true));
        let first = device.fold();
        lazy.backend.heal();
        if first.is_ok() {
            continue;
        }
        lost += 1;
        // The next index is another one.
        read(&device, 8 * BLOCK, 10);
        device.write_at(7 * BLOCK, &noise(3, PAGE)).unwrap();
        device.write_at(6 * BLOCK, &noise(4, PAGE)).unwrap();
        let expected = all(&device);
        let folded = device.fold().unwrap();
        let image = lazy.store.tag(&name("disk")).unwrap().unwrap();
        assert_eq!(image.root, folded.root, "call {call}");
        assert_same(&all(&device), &expected, "the device");
        device.write_at(0, &noise(5, PAGE)).unwrap();
        drop(device);
        let device = lazy.open();
        assert_eq!(read(&device, 0, PAGE), noise(5, PAGE));
        assert_same(
            &all(&device)[PAGE as usize..],
            &expected[PAGE as usize..],
            "opened",
        );
        device.fold().unwrap();
    }
    assert!(lost > 2, "{lost} answers were lost");
}

// Spec: BLK-31, BLK-32
#[test]
fn a_flat_image_that_cannot_be_read_holds_no_fold_up() {
    let lazy = Lazy::new(10);
    let device = lazy.open();
    read(&device, 0, 10);
    let path = lazy.dir.path().join("flat.img");
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(5 * BLOCK).unwrap();
    for seed in 0..20 {
        device
            .write_at(7 * BLOCK + PAGE, &noise(seed, PAGE))
            .unwrap();
        device
            .write_at(2 * BLOCK, &noise(seed + 50, BLOCK))
            .unwrap();
        device.fold().unwrap();
        assert!(device.stat().ancestors <= 2 * CALM.ancestors_max + 2);
    }
    assert_eq!(read(&device, 7 * BLOCK + PAGE, PAGE), noise(19, PAGE));
    assert_eq!(read(&device, 2 * BLOCK, BLOCK), noise(69, BLOCK));
    assert_eq!(
        read(&device, 0, BLOCK),
        noise(1, 10 * BLOCK)[..BLOCK as usize]
    );
    let error = device.read_at(7 * BLOCK, &mut [0; 9]).unwrap_err();
    assert!(matches!(error, BlockError::BaseChanged { .. }), "{error:?}");
    // Shorter than the flat image: no index can name that, so it stays an ancestor.
    device
        .resize(ByteLen::new(8 * BLOCK), Shrink::Allow)
        .unwrap();
    for seed in 0..20 {
        device.write_at(2 * BLOCK, &noise(seed, PAGE)).unwrap();
        device.fold().unwrap();
        assert!(device.stat().ancestors <= 2 * CALM.ancestors_max + 2);
    }
}

// Spec: BLK-23, BLK-25
#[test]
fn a_call_that_fails_again_and_again_uses_up_no_log() {
    let mut failed = Vec::new();
    for call in 1..24 {
        let rig = Rig::new(MIB, 96 << 10, CALM);
        let device = rig.open();
        rig.backend.trouble(Trouble::Full);
        let full = (0..).find_map(|n| device.write_at(n * PAGE, &noise(n, PAGE)).err());
        assert!(full.unwrap().is_out_of_space());
        rig.backend.heal();
        let used = device.stat().log.used.get();
        let mut times = 0;
        for _ in 0..60 {
            rig.backend.trouble(Trouble::Fail(call, false));
            let is_done = device.fold().is_ok();
            rig.backend.heal();
            if is_done {
                break;
            }
            times += 1;
            // A *base* record, once.
            assert!(device.stat().log.used.get() <= used + 512);
        }
        failed.push(times);
        let bytes = all(&device);
        device.fold().unwrap();
        device.write_at(0, &noise(7, PAGE)).unwrap();
        assert_same(&all_of(&rig.image("disk"))[..], &bytes, "folded");
    }
    assert!(failed.contains(&60), "folds failed so often: {failed:?}");
}

// Spec: BLK-25
#[test]
fn what_cannot_be_read_can_be_discarded_in_part() {
    let rig = filled(8, MIB);
    lose(&rig, 2);
    lose(&rig, 5);
    let device = rig.open();
    // Within one page: there is nothing to do. Over some: the whole ones are known afterwards.
    device.discard(2 * BLOCK + 7, 100).unwrap();
    device.discard(2 * BLOCK + 100, 3 * PAGE).unwrap();
    device.discard(5 * BLOCK - 9, 2 * PAGE).unwrap();
    for _ in 0..2 {
        unreadable(&device, 2 * BLOCK);
        assert_eq!(
            read(&device, 2 * BLOCK + PAGE, 2 * PAGE),
            [0; 2 * PAGE as usize]
        );
        unreadable(&device, 2 * BLOCK + 3 * PAGE);
        assert_eq!(read(&device, 5 * BLOCK, PAGE), [0; PAGE as usize]);
        unreadable(&device, 5 * BLOCK + PAGE);
        // A page that is discarded in part has all that it had.
        assert_eq!(read(&device, 4 * BLOCK, BLOCK), noise(4, BLOCK));
        device.fold().unwrap();
    }
    // To the disk's end, wherever that is.
    device
        .resize(ByteLen::new(8 * BLOCK - 77), Shrink::Allow)
        .unwrap();
    device.discard(7 * BLOCK + 1, BLOCK - 78).unwrap();
    let mut last = noise(7, BLOCK);
    last.truncate(BLOCK as usize - 77);
    last[PAGE as usize..].fill(0);
    assert_eq!(read(&device, 7 * BLOCK, BLOCK - 77), last);
}
