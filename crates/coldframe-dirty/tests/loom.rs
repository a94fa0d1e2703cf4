//! Every interleaving and every allowed reordering of small programs, by loom.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p coldframe-dirty --release --test loom \
//!   --target-dir target/loom`
//!
//! A page of guest memory is a relaxed atomic here: as weak as the hardware's plain stores.
#![cfg(loom)]
#![allow(clippy::unwrap_used)]

use coldframe_dirty::{AdaptiveBitmap, DirtyBitmap, DirtyPages};
use coldframe_units::{ByteLen, PageIndex, PageRun, PageSize, RamOffset};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use loom::thread;

const PAGE: PageIndex = PageIndex::new(1);

fn bitmap(pages: u64, page_size: u64) -> DirtyBitmap {
    let ram = ByteLen::new(pages * page_size);
    DirtyBitmap::new(ram, PageSize::new(page_size).unwrap()).unwrap()
}

/// The contract: a write and its mark race a take and its copy.
fn write_races_capture(mark: fn(&DirtyBitmap)) {
    loom::model(move || {
        let dirty = bitmap(2, 4096);
        let memory = Arc::new(AtomicU64::new(0));
        // The page is dirty already, so that the mark finds its bit set.
        dirty.mark_page(PAGE).unwrap();
        let writer = thread::spawn({
            let (dirty, memory) = (dirty.clone(), memory.clone());
            move || {
                memory.store(1, Relaxed);
                mark(&dirty);
            }
        });
        let token = dirty.take();
        let copy = memory.load(Relaxed);
        token.commit();
        writer.join().unwrap();
        assert!(copy == 1 || dirty.is_dirty(PAGE), "the write is in no copy");
    });
}

#[test]
fn a_page_written_beside_a_capture_is_copied_new_or_stays_dirty() {
    write_races_capture(|dirty| dirty.mark(RamOffset::new(4096), ByteLen::new(1)).unwrap());
    write_races_capture(|dirty| assert!(dirty.mark_page(PAGE).is_ok()));
    write_races_capture(|dirty| dirty.mark_words(PageIndex::new(0), &[0b10]).unwrap());
}

#[test]
fn a_first_mark_beside_a_take_is_taken_or_waits() {
    loom::model(|| {
        let dirty = bitmap(70, 4096);
        let marker = thread::spawn({
            let dirty = dirty.clone();
            // Two words: the second may be seen without the first.
            move || {
                dirty
                    .mark(RamOffset::new(63 * 4096), ByteLen::new(8192))
                    .unwrap()
            }
        });
        let token = dirty.take();
        marker.join().unwrap();
        for page in [63, 64].map(PageIndex::new) {
            assert!(token.pages().contains(page) != dirty.is_dirty(page));
        }
    });
}

// Parity: F15
#[test]
fn mark_take_and_rollback_lose_nothing() {
    loom::model(|| {
        let dirty = bitmap(3, 4096);
        dirty.mark_page(PageIndex::new(0)).unwrap();
        let marker = thread::spawn({
            let dirty = dirty.clone();
            move || {
                dirty.mark_page(PageIndex::new(1)).unwrap();
                dirty.mark_page(PageIndex::new(0)).unwrap();
            }
        });
        let taker = thread::spawn({
            let dirty = dirty.clone();
            move || dirty.take().rollback()
        });
        let mine = dirty.take();
        marker.join().unwrap();
        taker.join().unwrap();
        mine.rollback();
        assert_eq!(dirty.count(), 2);
    });
}

#[test]
fn a_write_seen_by_a_failed_capture_is_seen_by_the_next() {
    loom::model(|| {
        let dirty = bitmap(2, 4096);
        let memory = Arc::new(AtomicU64::new(0));
        let writer = thread::spawn({
            let (dirty, memory) = (dirty.clone(), memory.clone());
            move || {
                memory.store(1, Relaxed);
                dirty.mark_page(PAGE).unwrap();
            }
        });
        let failing = thread::spawn({
            let dirty = dirty.clone();
            move || dirty.take().rollback()
        });
        let token = dirty.take();
        if token.pages().contains(PAGE) {
            assert_eq!(memory.load(Relaxed), 1);
        }
        token.rollback();
        writer.join().unwrap();
        failing.join().unwrap();
        assert!(dirty.is_dirty(PAGE));
    });
}

#[test]
fn of_two_markers_one_is_told_of_the_transition() {
    loom::model(|| {
        let dirty = bitmap(2, 4096);
        let marker = thread::spawn({
            let dirty = dirty.clone();
            move || dirty.mark_page(PAGE).unwrap()
        });
        let mine = dirty.mark_page(PAGE).unwrap();
        assert!(mine != marker.join().unwrap());
    });
}

fn holds(pages: &DirtyPages, granule: PageRun) -> bool {
    (granule.start().get()..granule.end().get()).all(|p| pages.contains(PageIndex::new(p)))
}

/// Pages of 1 MiB, two to a block; a single fault makes a block hot.
fn adaptive() -> AdaptiveBitmap {
    AdaptiveBitmap::new(bitmap(2, 1 << 20), 0).unwrap()
}

// Parity: D13, F17
#[test]
fn every_page_opened_beside_a_step_down_is_marked() {
    loom::model(|| {
        let adaptive = adaptive();
        let vcpu = thread::spawn({
            let adaptive = adaptive.clone();
            move || [0, 1].map(|page| adaptive.mark_fault(PageIndex::new(page)).unwrap())
        });
        let stepped_down = adaptive.tick();
        let token = adaptive.bitmap().take();
        let opened = vcpu.join().unwrap();
        let mut dirty = token.pages().clone();
        dirty.union(&adaptive.bitmap().peek()).unwrap();
        assert!(opened.iter().all(|granule| holds(&dirty, *granule)));
        // A fault before the end of the window is what steps a block down.
        assert_eq!(
            stepped_down.is_empty(),
            opened[1].count() == 2 && !is_fine(&adaptive)
        );
    });
}

fn is_fine(adaptive: &AdaptiveBitmap) -> bool {
    adaptive.granule_of(PAGE).unwrap().count() == 1
}

#[test]
fn every_page_opened_beside_a_step_up_is_marked_and_may_be_rolled_back() {
    loom::model(|| {
        let adaptive = adaptive();
        adaptive.mark_fault(PAGE).unwrap();
        assert_eq!(adaptive.tick().len(), 1);
        assert!(adaptive.checkpoint().is_empty());
        adaptive.bitmap().take().commit();
        let vcpu = thread::spawn({
            let adaptive = adaptive.clone();
            move || adaptive.mark_fault(PAGE).unwrap()
        });
        let token = adaptive.bitmap().take();
        let stepped_up = adaptive.checkpoint();
        token.rollback();
        let opened = vcpu.join().unwrap();
        assert!(holds(&adaptive.bitmap().peek(), opened));
        assert_eq!(
            opened.count() == 2,
            !is_fine(&adaptive) && !stepped_up.is_empty()
        );
    });
}

#[test]
fn two_ticks_tell_of_a_step_down_once() {
    loom::model(|| {
        let adaptive = adaptive();
        adaptive.mark_fault(PAGE).unwrap();
        let done = Arc::new(AtomicBool::new(false));
        let other = thread::spawn({
            let adaptive = adaptive.clone();
            let done = done.clone();
            move || {
                done.store(true, Relaxed);
                adaptive.tick().len()
            }
        });
        let mine = adaptive.tick().len();
        assert_eq!(mine + other.join().unwrap(), 1);
        assert!(is_fine(&adaptive));
    });
}
