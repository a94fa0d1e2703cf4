//! Blocks that step down to pages and back up.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use coldframe_dirty::{AdaptiveBitmap, BLOCK_SIZE, DirtyBitmap, DirtyError};
use coldframe_units::{ByteLen, PageSize};

use crate::{page, plain, run};

/// Three blocks of 128 pages of 16 KiB, the last block cut to 8 pages.
fn adaptive(faults_per_window: u32) -> AdaptiveBitmap {
    let ram = ByteLen::new(2 * BLOCK_SIZE.bytes() + 8 * 0x4000 - 1);
    let bitmap = DirtyBitmap::new(ram, PageSize::SIZE_16K).unwrap();
    AdaptiveBitmap::new(bitmap, faults_per_window).unwrap()
}

fn heat(adaptive: &AdaptiveBitmap, index: u64, faults: u32) {
    for _ in 0..faults {
        adaptive.mark_fault(page(index)).unwrap();
    }
}

#[test]
fn a_fault_in_a_coarse_block_marks_and_opens_the_whole_block() {
    let adaptive = adaptive(2);
    assert_eq!(adaptive.mark_fault(page(200)), Ok(run(128, 128)));
    assert_eq!(adaptive.mark_fault(page(263)), Ok(run(256, 8)));
    assert_eq!(plain(adaptive.bitmap().runs()), [(128, 136)]);
}

// Parity: F17
#[test]
fn a_hot_block_steps_down_once_and_is_then_marked_by_page() {
    let adaptive = adaptive(2);
    heat(&adaptive, 130, 3);
    heat(&adaptive, 0, 2);
    assert_eq!(adaptive.tick(), [run(128, 128)]);
    assert_eq!(adaptive.granule_of(page(130)), Ok(run(130, 1)));
    assert_eq!(adaptive.granule_of(page(0)), Ok(run(0, 128)));
    // The marks from before the switch are all still there.
    assert_eq!(plain(adaptive.bitmap().runs()), [(0, 256)]);
    adaptive.bitmap().take().commit();
    assert_eq!(adaptive.mark_fault(page(130)), Ok(run(130, 1)));
    assert_eq!(plain(adaptive.bitmap().runs()), [(130, 1)]);
    heat(&adaptive, 130, 3);
    assert_eq!(adaptive.tick(), []);
}

#[test]
fn faults_of_different_windows_do_not_add_up() {
    let adaptive = adaptive(2);
    for _ in 0..5 {
        heat(&adaptive, 1, 2);
        assert_eq!(adaptive.tick(), []);
    }
}

// Parity: D17, F17
#[test]
fn a_cool_block_steps_back_up_at_a_checkpoint_and_a_hot_one_stays_down() {
    let adaptive = adaptive(2);
    heat(&adaptive, 0, 3);
    heat(&adaptive, 130, 3);
    assert_eq!(adaptive.tick().len(), 2);
    // Hot since the last checkpoint, both of them: both stay.
    assert_eq!(adaptive.checkpoint(), []);
    heat(&adaptive, 130, 3);
    assert_eq!(adaptive.tick(), []);
    assert_eq!(adaptive.checkpoint(), [run(0, 128)]);
    assert_eq!(adaptive.granule_of(page(5)), Ok(run(0, 128)));
    assert_eq!(adaptive.granule_of(page(130)), Ok(run(130, 1)));
    assert_eq!(adaptive.checkpoint(), [run(128, 128)]);
    assert_eq!(adaptive.checkpoint(), []);
}

#[test]
fn a_hot_window_that_has_not_ended_counts_at_a_checkpoint() {
    let adaptive = adaptive(2);
    heat(&adaptive, 0, 3);
    assert_eq!(adaptive.tick().len(), 1);
    assert_eq!(adaptive.checkpoint(), []);
    heat(&adaptive, 0, 3);
    assert_eq!(adaptive.checkpoint(), []);
}

#[test]
fn a_switch_neither_takes_nor_loses_marks() {
    let adaptive = adaptive(0);
    adaptive.mark_fault(page(3)).unwrap();
    let token = adaptive.bitmap().take();
    assert_eq!(adaptive.tick(), [run(0, 128)]);
    assert_eq!(adaptive.mark_fault(page(9)), Ok(run(9, 1)));
    assert_eq!(adaptive.checkpoint(), []);
    assert_eq!(adaptive.tick(), []);
    assert_eq!(adaptive.checkpoint(), []);
    assert_eq!(adaptive.checkpoint(), [run(0, 128)]);
    assert_eq!(plain(adaptive.bitmap().runs()), [(9, 1)]);
    token.rollback();
    assert_eq!(plain(adaptive.bitmap().runs()), [(0, 128)]);
}

// Parity: D13, F17
#[test]
fn no_opened_page_is_lost_while_blocks_switch_under_eight_threads() {
    let adaptive = adaptive(1);
    let done = AtomicBool::new(false);
    let opened: Vec<_> = thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let _ = adaptive.tick();
                let _ = adaptive.checkpoint();
            }
        });
        let threads: Vec<_> = (0..8_u64)
            .map(|thread| {
                let adaptive = &adaptive;
                scope.spawn(move || {
                    let count = if cfg!(miri) { 30 } else { 1000 };
                    let faults = (0..count).map(|i| page((i * 31 + thread * 17) % 264));
                    faults
                        .map(|fault| adaptive.mark_fault(fault).unwrap())
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        let opened = threads.into_iter().flat_map(|t| t.join().unwrap());
        let opened = opened.collect();
        done.store(true, Ordering::Relaxed);
        opened
    });
    let dirty = adaptive.bitmap().peek();
    for granule in opened {
        for index in granule.start().get()..granule.end().get() {
            assert!(dirty.contains(page(index)), "page {index} was opened");
        }
    }
}

#[test]
fn pages_outside_the_ram_and_pages_as_large_as_a_block_are_refused() {
    let small = adaptive(1);
    small.mark_fault(page(264)).unwrap_err();
    small.granule_of(page(u64::MAX)).unwrap_err();
    assert_eq!(small.bitmap().count(), 0);
    let bitmap = DirtyBitmap::new(ByteLen::new(1 << 30), BLOCK_SIZE).unwrap();
    let refused = AdaptiveBitmap::new(bitmap, 1).unwrap_err();
    assert!(matches!(refused, DirtyError::PageNotBelowBlock { .. }));
}
