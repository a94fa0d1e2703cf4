//! What a device does with ranges: bounds, pages, zeros, sizes, checkpoints.

use coldframe_block::{BlockError, DeviceOptions, Shrink};
use coldframe_storage::Overwrite;
use coldframe_units::ByteLen;

use crate::support::{BLOCK, CALM, MIB, PAGE, Rig, all, all_of, assert_same, name, noise, read};

fn extents(device: &crate::support::MemDevice, at: u64, len: u64) -> Vec<(u64, bool)> {
    let mut found = Vec::new();
    let told = device.extents(at, len, &mut |len, is_zero| {
        found.push((len, is_zero));
        true
    });
    told.unwrap();
    found
}

// Spec: BLK-1
#[test]
fn what_a_fold_brings_down_while_extents_are_told_is_not_told_as_zero() {
    let rig = Rig::new(4 * BLOCK, MIB, CALM);
    let device = rig.open();
    device.write_at(0, &noise(1, PAGE)).unwrap();
    device.write_at(2 * BLOCK, &noise(2, BLOCK)).unwrap();
    let mut found = Vec::new();
    let told = device.extents(0, 4 * BLOCK, &mut |len, is_zero| {
        if found.is_empty() {
            // What the index said of the rest of the disk is outdated from here on.
            device.fold().unwrap();
        }
        found.push((len, is_zero));
        true
    });
    told.unwrap();
    let (data, rest) = (PAGE, 2 * BLOCK - PAGE);
    let whole = [(data, false), (rest, true), (BLOCK, false), (BLOCK, true)];
    assert_eq!(found, whole);
}

// Spec: BLK-1
// Parity: D26, F35
#[test]
fn what_reaches_past_the_end_is_refused_and_nothing_of_it_is_done() {
    let rig = Rig::new(3 * PAGE + 5, MIB, CALM);
    let device = rig.open();
    let size = 3 * PAGE + 5;
    let mut buf = [0; 10];
    for offset in [size - 9, size, u64::MAX - 3, u64::MAX] {
        let read = device.read_at(offset, &mut buf).unwrap_err();
        let written = device.write_at(offset, &[7; 10]).unwrap_err();
        let zeroed = device.write_zeroes(offset, 10).unwrap_err();
        for error in [read, written, zeroed] {
            assert!(matches!(error, BlockError::PastEnd { size: s, .. } if s == size));
            assert!(error.is_out_of_space() && error.is_misuse());
        }
    }
    assert!(all(&device).iter().all(|byte| *byte == 0));
    device.write_at(size - 10, &[7; 10]).unwrap();
    device.write_at(size, &[]).unwrap();
    assert_eq!(read(&device, size - 11, 11), [&[0][..], &[7; 10]].concat());
}

// Spec: BLK-11
// Parity: D33b
#[test]
fn small_writes_need_no_block_from_the_store() {
    let rig = Rig::new(MIB, 8 * MIB, CALM);
    let device = rig.open();
    device.write_at(0, &noise(1, MIB)).unwrap();
    device.fold().unwrap();
    drop(device);
    let device = rig.open();
    let before = rig.backend.calls();
    for page in 0..256 {
        device.write_at(page * PAGE, &noise(page, PAGE)).unwrap();
    }
    assert_eq!(
        rig.backend.calls(),
        before,
        "whole pages are not read first"
    );
    device.write_at(5, b"part of a page").unwrap();
    assert_eq!(
        rig.backend.calls(),
        before,
        "a page that was changed is not read from it either"
    );
    let held = device.stat().dirty_bytes;
    assert!((1..32 << 10).contains(&held), "{held} bytes for 256 pages");
}

// Spec: BLK-12
// Parity: F37
#[test]
fn zeros_take_no_space_and_hide_what_was_there() {
    let rig = Rig::new(64 * MIB, MIB, CALM);
    let device = rig.open();
    device.write_at(BLOCK, &noise(1, 4 * BLOCK)).unwrap();
    device.fold().unwrap();
    device.write_zeroes(BLOCK + 100, 3 * BLOCK).unwrap();
    let expected = [
        (BLOCK, true),
        (PAGE, false),
        (3 * BLOCK - PAGE, true),
        (BLOCK, false),
        (59 * BLOCK, true),
    ];
    assert_eq!(extents(&device, 0, 64 * BLOCK), expected);
    assert_eq!(
        read(&device, BLOCK + 100, 3 * BLOCK),
        vec![0; 3 * BLOCK as usize]
    );
    let was = noise(1, 4 * BLOCK);
    assert_eq!(read(&device, BLOCK, 100), was[..100]);
    let behind = read(&device, 4 * BLOCK + 100, BLOCK - 100);
    assert_same(&behind, &was[3 * BLOCK as usize + 100..], "behind");
    let folded = device.fold().unwrap();
    assert_eq!(folded.chunks.written, 2, "two blocks are left in part");
    assert_eq!(
        read(&device, BLOCK + 100, 3 * BLOCK),
        vec![0; 3 * BLOCK as usize]
    );
}

// Spec: BLK-12
// Parity: D37b, F30
#[test]
fn a_block_that_becomes_zero_is_told_from_one_that_is_inherited() {
    let rig = Rig::new(4 * BLOCK, MIB, CALM);
    let device = rig.open();
    device.write_at(0, &noise(1, 4 * BLOCK)).unwrap();
    device.fold().unwrap();
    // Zeros that the guest writes are found out too, and become no chunk.
    device.write_at(BLOCK, &vec![0; BLOCK as usize]).unwrap();
    device.discard(2 * BLOCK, BLOCK).unwrap();
    let folded = device.fold().unwrap();
    assert_eq!((folded.blocks, folded.chunks.written), (2, 0));
    let expected = [(BLOCK, false), (2 * BLOCK, true), (BLOCK, false)];
    assert_eq!(extents(&device, 0, 4 * BLOCK), expected);
    assert_same(&all_of(&rig.image("disk")), &all(&device), "the index");
}

// Parity: F37
#[test]
fn trimming_what_is_zero_already_costs_nothing() {
    let rig = Rig::new(1 << 40, MIB, CALM);
    let device = rig.open();
    let before = device.stat();
    for part in 0..8 {
        device.discard(part * (4 << 30), 4 << 30).unwrap();
    }
    assert_eq!(device.stat(), before);
    device.write_at(1 << 39, b"x").unwrap();
    device.discard(0, 1 << 40).unwrap();
    let stat = device.stat();
    assert!(stat.dirty_bytes < 1024, "{stat:?}");
    assert_eq!(read(&device, 1 << 39, 1), [0]);
    assert_eq!(device.fold().unwrap().chunks.written, 0);
}

// Spec: BLK-13
// Parity: D30, F33
#[test]
fn a_disk_grows_with_zeros_and_shrinks_only_when_told_to() {
    let rig = Rig::new(BLOCK + 100, MIB, CALM);
    let device = rig.open();
    let data = noise(1, BLOCK + 100);
    device.write_at(0, &data).unwrap();
    device.resize(ByteLen::ZERO, Shrink::Refuse).unwrap();
    assert_eq!(device.size().get(), BLOCK + 100, "0 keeps the size");
    let smaller = device.resize(ByteLen::new(50), Shrink::Refuse).unwrap_err();
    assert!(matches!(smaller, BlockError::Shrink { size: s, asked: 50 } if s == BLOCK + 100));
    let huge = device
        .resize(ByteLen::new(u64::MAX), Shrink::Allow)
        .unwrap_err();
    assert!(matches!(huge, BlockError::TooLarge { .. }));
    for fold_first in [false, true] {
        device.write_at(0, &data).unwrap();
        if fold_first {
            device.fold().unwrap();
        }
        device.resize(ByteLen::new(5000), Shrink::Allow).unwrap();
        device
            .resize(ByteLen::new(BLOCK + 100), Shrink::Refuse)
            .unwrap();
        let mut expected = data[..5000].to_vec();
        expected.resize(BLOCK as usize + 100, 0);
        assert_same(
            &all(&device),
            &expected,
            "nothing of the old end comes back",
        );
        device.fold().unwrap();
        assert_same(&all_of(&rig.image("disk")), &expected, "nor from the index");
    }
}

// Spec: BLK-22
// Parity: D29b, F32
#[test]
fn a_checkpoint_stays_as_it_is_while_writing_goes_on() {
    let rig = Rig::new(MIB, MIB, CALM);
    let device = rig.open();
    let mut states = Vec::new();
    for number in 0..8 {
        device
            .write_at(number * 5000, &noise(number, 5000))
            .unwrap();
        device
            .checkpoint(&name(&format!("c{number}")), Overwrite::Refuse)
            .unwrap();
        states.push(all(&device));
        assert!(
            device.stat().ancestors <= CALM.ancestors_max,
            "the chain is bounded"
        );
    }
    for (number, state) in states.iter().enumerate() {
        assert_same(
            &all_of(&rig.image(&format!("c{number}"))),
            state,
            "a checkpoint",
        );
    }
    let taken = device
        .checkpoint(&name("c0"), Overwrite::Refuse)
        .unwrap_err();
    assert!(matches!(taken, BlockError::Exists { .. }));
    // Over its own ancestor, and over its own head.
    device.write_at(0, b"newer").unwrap();
    device.checkpoint(&name("c0"), Overwrite::Replace).unwrap();
    device.checkpoint(&name("disk"), Overwrite::Refuse).unwrap();
    assert_same(&all_of(&rig.image("c0")), &all(&device), "replaced");
    assert_same(&all_of(&rig.image("c1")), &states[1], "c1 keeps its blocks");
}

// Parity: D33b
#[test]
fn memory_is_bounded_by_bringing_changes_into_the_store() {
    let max = 16 << 10;
    let options = DeviceOptions {
        dirty_bytes_max: max,
        ancestors_max: 32,
        read_ahead_blocks: 0,
        ..CALM
    };
    let rig = Rig::new(16 * MIB, 4 * MIB, options);
    let device = rig.open();
    let mut most = 0;
    for page in 0..2048 {
        device
            .write_at(page * 2 * PAGE, &noise(page, PAGE))
            .unwrap();
        most = most.max(device.stat().dirty_bytes);
    }
    assert!(most <= max + 1024, "{most} bytes were held");
    let stat = device.stat();
    assert!(
        stat.folds > 4 && stat.log.checkpointed.get() > 1000,
        "{stat:?}"
    );
    for page in 0..2048 {
        assert_eq!(read(&device, page * 2 * PAGE, PAGE), noise(page, PAGE));
    }
}

#[test]
fn a_log_that_is_too_small_is_refused() {
    let rig = Rig::new(MIB, 8240, CALM);
    let error = rig.try_open().unwrap_err();
    assert!(matches!(error, BlockError::LogTooSmall { .. }));
}

fn streamed(read_ahead_blocks: u64) -> u64 {
    let options = DeviceOptions {
        read_ahead_blocks,
        ..CALM
    };
    let rig = Rig::new(64 * BLOCK, 16 * MIB, options);
    let device = rig.open();
    device.write_at(0, &noise(1, 64 * BLOCK)).unwrap();
    device.close().unwrap();
    let device = rig.open();
    let bytes = noise(1, 64 * BLOCK);
    for part in 0..128 {
        let at = part * BLOCK / 2;
        assert_same(
            &read(&device, at, BLOCK / 2),
            &bytes[at as usize..][..32 << 10],
            "read",
        );
        std::thread::yield_now();
    }
    device.stat().read_ahead_chunks
}

// Parity: F76
#[test]
fn blocks_are_read_ahead_of_a_stream_unless_switched_off() {
    assert_eq!(streamed(0), 0);
    // How far depends on the threads' turns; over some rounds it happens.
    assert!((0..50).any(|_| streamed(4) > 0));
}

// Spec: BLK-12, BLK-20
#[test]
fn a_device_of_more_than_16_mib_is_the_same_everywhere_and_after_opening_again() {
    let size = 40 * MIB + 3 * PAGE;
    let rig = Rig::new(size, 8 * MIB, CALM);
    let device = rig.open();
    let mut model = vec![0; size as usize];
    let put = |device: &crate::support::MemDevice, model: &mut [u8], at: u64, bytes: &[u8]| {
        device.write_at(at, bytes).unwrap();
        model[at as usize..][..bytes.len()].copy_from_slice(bytes);
    };
    // Around each multiple of 16 MiB, at both ends, and longer than one record may be.
    for (seed, at) in (0..).zip([
        0,
        16 * MIB - 5,
        16 * MIB + PAGE,
        32 * MIB - PAGE,
        size - 777,
    ]) {
        put(&device, &mut model, at, &noise(seed, 777));
    }
    put(&device, &mut model, 15 * MIB + 100, &noise(9, 2 * MIB));
    device.flush().unwrap();
    assert!(all(&device) == model);
    device.fold().unwrap();
    put(&device, &mut model, 31 * MIB, &noise(10, PAGE));
    device.flush().unwrap();
    drop(device);
    let device = rig.open();
    assert!(all(&device) == model, "the log and the index");
    let told: u64 = extents(&device, 0, size).iter().map(|(len, _)| len).sum();
    assert_eq!(told, size);
    device.write_zeroes(PAGE, size - 2 * PAGE).unwrap();
    model[PAGE as usize..(size - PAGE) as usize].fill(0);
    assert!(all(&device) == model);
    device.close().unwrap();
    assert!(all_of(&rig.image("disk")) == model);
}
