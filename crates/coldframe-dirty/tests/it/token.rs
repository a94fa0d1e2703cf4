//! Take, commit and roll back.

use std::thread;

use coldframe_dirty::{DirtyBitmap, DirtyError};

use crate::{bitmap, page, plain};

fn marked(indexes: &[u64]) -> DirtyBitmap {
    let dirty = bitmap(4096 * 1000);
    for index in indexes {
        dirty.mark_page(page(*index)).unwrap();
    }
    dirty
}

#[test]
fn take_leaves_the_bitmap_clean_and_commit_keeps_it_so() {
    let dirty = marked(&[3, 4, 900]);
    let token = dirty.take();
    assert_eq!(plain(token.pages().runs()), [(3, 2), (900, 1)]);
    assert_eq!(dirty.count(), 0);
    token.commit();
    assert_eq!(dirty.count(), 0);
}

// Parity: F15
#[test]
fn rollback_puts_back_what_was_taken_and_keeps_what_was_marked_since() {
    let dirty = marked(&[3, 4, 900]);
    let token = dirty.take();
    assert_eq!(dirty.mark_page(page(4)), Ok(true));
    assert_eq!(dirty.mark_page(page(5)), Ok(true));
    token.rollback();
    assert_eq!(plain(dirty.runs()), [(3, 3), (900, 1)]);
}

#[test]
fn commit_keeps_what_was_marked_since_the_take() {
    let dirty = marked(&[3, 4]);
    let token = dirty.take();
    dirty.mark_page(page(4)).unwrap();
    token.commit();
    assert_eq!(plain(dirty.runs()), [(4, 1)]);
}

// Parity: D14
#[test]
fn an_early_return_puts_the_pages_back() {
    fn failing_capture(dirty: &DirtyBitmap) -> Result<(), DirtyError> {
        let token = dirty.take();
        dirty.mark_page(page(u64::MAX))?;
        token.commit();
        Ok(())
    }
    let dirty = marked(&[1, 2]);
    failing_capture(&dirty).unwrap_err();
    assert_eq!(plain(dirty.runs()), [(1, 2)]);
}

#[test]
fn tokens_of_several_takes_end_in_any_order() {
    let dirty = marked(&[1]);
    let first = dirty.take();
    dirty.mark_page(page(2)).unwrap();
    let second = dirty.take();
    dirty.mark_page(page(3)).unwrap();
    let third = dirty.take();
    second.rollback();
    third.commit();
    first.rollback();
    assert_eq!(plain(dirty.runs()), [(1, 2)]);
}

#[test]
fn a_token_outlives_its_handle_and_moves_to_another_thread() {
    let dirty = marked(&[8]);
    let (other, token) = (dirty.clone(), dirty.take());
    drop(dirty);
    thread::spawn(move || token.rollback()).join().unwrap();
    assert_eq!(plain(other.runs()), [(8, 1)]);
}

// Parity: D14
#[test]
fn a_panicking_publisher_puts_the_pages_back() {
    let dirty = marked(&[8]);
    let token = dirty.take();
    let publisher = thread::spawn(move || {
        let _token = token;
        std::panic::resume_unwind(Box::new("the disk is gone"));
    });
    publisher.join().unwrap_err();
    assert_eq!(dirty.count(), 1);
}

#[test]
fn marks_between_many_takes_are_each_taken_once() {
    let dirty = bitmap(4096 * 1000);
    let count: u64 = if cfg!(miri) { 300 } else { 100_000 };
    let (transitions, taken) = thread::scope(|scope| {
        let marker = scope.spawn(|| {
            let marks = (0..count).map(|i| page(i * 7 % 1000));
            marks.filter(|p| dirty.mark_page(*p).unwrap()).count() as u64
        });
        let mut taken = 0;
        while !marker.is_finished() {
            let token = dirty.take();
            taken += token.pages().count();
            token.commit();
        }
        (marker.join().unwrap(), taken)
    });
    assert_eq!(transitions, taken + dirty.count());
}
