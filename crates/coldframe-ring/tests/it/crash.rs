//! Power cuts at every operation, in every way, against what was acknowledged.

use std::sync::Arc;

use coldframe_ring::RingOptions;
use coldframe_ring::RingWal;
use coldframe_testkit::crash::{CrashStorage, Drops, Op, SECTOR_512, explore, planted};
use coldframe_walframe::ring::RING_START;

use super::cached::CachedRing;
use super::sample::{create, payload, records, region};
use super::world::{Creation, Ring};

// Spec: RING-5, RING-20, RING-22, RING-30
// Parity: F57
#[test]
fn synced_appends_survive_any_cut() {
    let world = Ring {
        bytes: 1024,
        options: RingOptions::SYNC_EACH,
        lie: None,
    };
    explore("ring, sync each", 6000, &world);
}

// Spec: RING-22, RING-31
// Parity: D64, F59
#[test]
fn unsynced_appends_leave_a_prefix_after_any_cut() {
    let world = Ring {
        bytes: 2048,
        options: RingOptions::ON_DEMAND,
        lie: None,
    };
    explore("ring, sync on demand", 6000, &world);
}

// Spec: RING-12, RING-40, RING-50, RING-51
// Parity: D60, F58, F63, F65
#[test]
fn wraps_checkpoints_and_growth_survive_any_cut() {
    // No round number: records straddle the end in every way.
    let world = Ring {
        bytes: 512 + 48,
        options: RingOptions::SYNC_EACH,
        lie: None,
    };
    explore("ring, wraps", 6000, &world);
}

// Spec: RING-2
#[test]
fn creation_leaves_no_log_or_an_empty_one() {
    explore("ring, creation", 1000, &Creation { lie: None });
}

// Spec: RING-20, RING-36
#[test]
fn what_was_found_after_a_failed_sync_survives_any_cut() {
    for (name, options) in [
        ("ring, page cache, sync each", RingOptions::SYNC_EACH),
        ("ring, page cache, on demand", RingOptions::ON_DEMAND),
    ] {
        let world = CachedRing {
            bytes: 9008,
            options,
            lazy: false,
        };
        explore(name, 12_000, &world);
    }
}

#[test]
fn planted_page_cache_bytes_taken_for_durable_are_found() {
    let world = CachedRing {
        bytes: 9008,
        options: RingOptions::ON_DEMAND,
        lazy: true,
    };
    planted("ring: page cache bytes taken for durable", 50_000, &world);
}

// Spec: RING-14, RING-22
// Parity: F59
#[test]
fn phantoms_of_a_dropped_tail_never_come_back() {
    // Unsynced records whose first is lost and whose later ones are whole, then equal ones anew.
    let image = create(2048).storage().to_vec();
    let storage = Arc::new(CrashStorage::new(image));
    let options = RingOptions::ON_DEMAND;
    let log = RingWal::open(Arc::clone(&storage), region(2048), options).unwrap();
    for number in 1..=4 {
        log.append(&payload(number, 32)).unwrap();
    }
    for image in storage.crash_states(SECTOR_512, 3, 5000) {
        let storage = Arc::new(CrashStorage::new(image));
        let log = RingWal::open(Arc::clone(&storage), region(2048), options).unwrap();
        let kept = records(&log).len() as u64;
        let new = log.append(&payload(77, 32)).unwrap();
        assert_eq!(new.get(), kept + 1);
        for again in storage.crash_states(SECTOR_512, 4, 50) {
            let log = super::sample::open(&again, 2048).unwrap();
            let found = records(&log);
            assert!(found.len() as u64 <= kept + 1, "an old record came back");
            if let Some(last) = found.get(kept as usize) {
                assert_eq!(last.1, payload(77, 32));
            }
        }
    }
}

/// Where the last write before a sync went.
fn last_write(ops: &[Op]) -> Option<u64> {
    match ops.last() {
        Some(Op::Write { offset, .. }) => Some(*offset),
        _ => None,
    }
}

fn is_control(offset: u64) -> bool {
    offset == 0 || offset == 4096
}

#[test]
fn planted_an_acknowledgement_before_the_sync_is_found() {
    let world = Ring {
        bytes: 1024,
        options: RingOptions::SYNC_EACH,
        lie: Some(|ops| !last_write(ops).is_some_and(is_control)),
    };
    planted("ring: acknowledged before the sync", 20_000, &world);
}

#[test]
fn planted_control_blocks_that_are_not_synced_are_found() {
    // Both slots are on their way at once, and both may be lost.
    let world = Ring {
        bytes: 560,
        options: RingOptions::SYNC_EACH,
        lie: Some(|ops| last_write(ops).is_some_and(is_control) && ops.len() > 12),
    };
    planted("ring: both control blocks on their way", 50_000, &world);
}

#[test]
fn planted_a_control_block_before_the_data_that_it_speaks_of_is_found() {
    // Growth copies records behind the old end, and the block that says so may overtake them.
    let world = Ring {
        bytes: 560,
        options: RingOptions::SYNC_EACH,
        lie: Some(|ops| last_write(ops).is_some_and(|at| at >= RING_START + 560)),
    };
    planted("ring: control block before the grown data", 50_000, &world);
}

#[test]
fn planted_a_log_that_is_declared_before_its_region_is_zero_is_found() {
    // The zeros are the first write, and the first sync is theirs.
    let lie: Option<Drops> = Some(|ops| ops.len() == 1);
    planted(
        "ring: control block before the zeros",
        5000,
        &Creation { lie },
    );
}
