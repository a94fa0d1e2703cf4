//! Every interleaving and every allowed reordering of small programs, by loom.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p coldframe-fault --release --test loom \
//!   --target-dir target/loom`
//!
//! A page of guest memory is a relaxed atomic here, and its write protection another.
#![cfg(loom)]
#![allow(clippy::unwrap_used)]

use coldframe_fault::{BlockIndex, Claimed, Claims};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering::Relaxed};
use loom::thread;

const BLOCK: BlockIndex = BlockIndex::new(0);
const BEFORE: u64 = 1;
const AFTER: u64 = 2;

/// Copies the block if it is this caller's. True if its protection may be lifted.
fn copy(claims: &Claims, memory: &AtomicU64, image: &AtomicU64) -> bool {
    match claims.claim(BLOCK) {
        Claimed::Mine(claim) => {
            image.store(memory.load(Relaxed), Relaxed);
            claim.copied();
            true
        }
        Claimed::InProgress => false,
        Claimed::Copied | Claimed::Cancelled => true,
    }
}

#[test]
fn a_write_that_waits_for_the_copy_is_not_in_the_image() {
    loom::model(|| {
        let claims = Arc::new(Claims::new(1));
        let memory = Arc::new(AtomicU64::new(BEFORE));
        let image = Arc::new(AtomicU64::new(0));
        let copier = thread::spawn({
            let (claims, memory, image) = (claims.clone(), memory.clone(), image.clone());
            move || copy(&claims, &memory, &image)
        });
        // The guest writes to the block: the thread that answers the fault lifts the protection
        // only if it may, and the guest goes on.
        let lifted = copy(&claims, &memory, &image);
        if lifted {
            memory.store(AFTER, Relaxed);
        }
        copier.join().unwrap();
        assert_eq!(image.load(Relaxed), BEFORE);
    });
}

#[test]
fn of_two_copiers_one_copies() {
    loom::model(|| {
        let claims = Arc::new(Claims::new(1));
        let copies = Arc::new(AtomicU64::new(0));
        let one = |claims: &Claims, copies: &AtomicU64| {
            if let Claimed::Mine(claim) = claims.claim(BLOCK) {
                copies.fetch_add(1, Relaxed);
                claim.copied();
            }
        };
        let other = thread::spawn({
            let (claims, copies) = (claims.clone(), copies.clone());
            move || one(&claims, &copies)
        });
        one(&claims, &copies);
        other.join().unwrap();
        assert_eq!(copies.load(Relaxed), 1);
        assert!(claims.is_complete());
    });
}

#[test]
fn a_removal_beside_a_copy_cancels_or_comes_after_it() {
    loom::model(|| {
        let claims = Arc::new(Claims::new(1));
        let memory = Arc::new(AtomicU64::new(BEFORE));
        let image = Arc::new(AtomicU64::new(0));
        let copier = thread::spawn({
            let (claims, memory, image) = (claims.clone(), memory.clone(), image.clone());
            move || copy(&claims, &memory, &image)
        });
        claims.removed(BLOCK);
        // The event was read: the pages go.
        memory.store(0, Relaxed);
        copier.join().unwrap();
        assert!(claims.is_cancelled() || image.load(Relaxed) == BEFORE);
    });
}
