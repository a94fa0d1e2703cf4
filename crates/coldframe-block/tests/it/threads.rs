//! Many threads on one device.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use coldframe_block::DeviceOptions;
use coldframe_storage::Overwrite;
use coldframe_testkit::rng::Rng;

use crate::support::{BLOCK, MIB, PAGE, Rig, all, all_of, assert_same, name, read};

const OPTIONS: DeviceOptions = DeviceOptions {
    dirty_bytes_max: 1 << 20,
    ancestors_max: 4,
    read_ahead_blocks: 0,
    ..DeviceOptions::USUAL
};

/// A page that says who wrote it, and when.
fn page(writer: u64, turn: u64) -> Vec<u8> {
    let mut page = [writer.to_le_bytes(), turn.to_le_bytes()].concat();
    page.resize(PAGE as usize, (writer * 31 + turn) as u8);
    page
}

fn turn_of(bytes: &[u8], writer: u64) -> u64 {
    let turn = u64::from_le_bytes(bytes[8..16].try_into().unwrap());
    assert!(bytes == page(writer, turn) || turn == 0, "a page is torn");
    turn
}

// Spec: BLK-11
// Parity: D32, F39
#[test]
fn writers_of_neighbouring_pages_and_readers_and_checkpoints_do_not_harm_each_other() {
    // Every block has pages of all writers: whoever reads, changes and writes a block would lose.
    const WRITERS: u64 = 4;
    const TURNS: u64 = 120;
    // The log is small: what is read lies where others write soon.
    let rig = Rig::new(64 * BLOCK, 256 << 10, OPTIONS);
    let device = rig.open();
    let done = AtomicBool::new(false);
    let turns: Vec<AtomicU64> = (0..WRITERS).map(|_| AtomicU64::new(0)).collect();
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (device, turns) = (&device, &turns);
                scope.spawn(move || {
                    for turn in 1..=TURNS {
                        for block in 0..16 {
                            let at = block * 4 * BLOCK + writer * PAGE;
                            device.write_at(at, &page(writer, turn)).unwrap();
                            assert_eq!(read(device, at, PAGE), page(writer, turn));
                        }
                        turns[writer as usize].store(turn, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            let mut rng = Rng::new(1);
            while !done.load(Ordering::SeqCst) {
                let writer = rng.below(WRITERS);
                let before = turns[writer as usize].load(Ordering::SeqCst);
                let at = rng.below(16) * 4 * BLOCK + writer * PAGE;
                let found = turn_of(&read(&device, at, PAGE), writer);
                assert!(
                    found >= before,
                    "an older turn came back: {found} after {before}"
                );
            }
        });
        scope.spawn(|| {
            let mut number = 0;
            while !done.load(Ordering::SeqCst) {
                let tag = name(&format!("c{}", number % 3));
                let before: Vec<u64> = turns.iter().map(|t| t.load(Ordering::SeqCst)).collect();
                device.checkpoint(&tag, Overwrite::Replace).unwrap();
                let bytes = all_of(&rig.image(tag.as_str()));
                for writer in 0..WRITERS {
                    let found = turn_of(&bytes[(writer * PAGE) as usize..][..4096], writer);
                    assert!(found >= before[writer as usize]);
                }
                number += 1;
                device.flush().unwrap();
            }
            assert!(number > 0);
        });
        for writer in writers {
            writer.join().unwrap();
        }
        done.store(true, Ordering::SeqCst);
    });
    let bytes = all(&device);
    for writer in 0..WRITERS {
        for block in 0..16 {
            let at = (block * 4 * BLOCK + writer * PAGE) as usize;
            assert_eq!(bytes[at..at + 4096], page(writer, TURNS));
        }
    }
    drop(device);
    assert_same(&all(&rig.open()), &bytes, "opened again");
}

// Spec: BLK-11
// Parity: F39
#[test]
fn parts_of_one_page_written_by_many_are_all_there() {
    let rig = Rig::new(BLOCK, MIB, OPTIONS);
    let device = rig.open();
    std::thread::scope(|scope| {
        for writer in 0..8_u8 {
            let device = &device;
            scope.spawn(move || {
                for turn in 0..64_u64 {
                    let at = turn * 512 + u64::from(writer) * 64;
                    device.write_at(at, &[writer + 1; 64]).unwrap();
                }
            });
        }
    });
    let bytes = all(&device);
    for (at, byte) in bytes[..64 * 512].iter().enumerate() {
        assert_eq!(usize::from(*byte), at / 64 % 8 + 1, "at {at}");
    }
}

// Parity: D32
#[test]
fn writers_that_fill_the_log_at_once_all_get_through() {
    let options = DeviceOptions {
        dirty_bytes_max: 1 << 30,
        ancestors_max: 4,
        read_ahead_blocks: 0,
        ..DeviceOptions::USUAL
    };
    let rig = Rig::new(8 * MIB, 128 << 10, options);
    let device = rig.open();
    std::thread::scope(|scope| {
        for writer in 0..8_u64 {
            let device = &device;
            scope.spawn(move || {
                for turn in 0..40 {
                    let at = writer * MIB + turn % 8 * 8 * PAGE;
                    device
                        .write_at(at, &page(writer, turn + 1).repeat(8))
                        .unwrap();
                }
            });
        }
    });
    for writer in 0..8 {
        assert_eq!(
            read(&device, writer * MIB + 56 * PAGE, PAGE),
            page(writer, 40)
        );
    }
    assert!(device.stat().folds > 0);
}
