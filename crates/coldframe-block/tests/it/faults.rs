//! Logs and stores that fail: a typed error, nothing lost, and on it goes when they are healed.

use std::sync::Arc;

use coldframe_block::{BlockError, DeviceOptions};
use coldframe_storage::{MemStorage, Overwrite};
use coldframe_testkit::fault::{Call, EIO, Fault, FaultStorage};

use crate::backend::Trouble;
use crate::support::{
    BLOCK, CALM, MIB, PAGE, Rig, all, all_of, assert_same, name, noise, open, read,
};

// Spec: BLK-10
// Parity: D27, F38
#[test]
fn a_log_that_cannot_be_written_or_synced_ends_acknowledging_and_loses_nothing_flushed() {
    for call in [Call::Write, Call::Sync] {
        let rig = Rig::new(MIB, MIB, CALM);
        let log = Arc::new(FaultStorage::new(Arc::clone(&rig.log), &[]));
        let device = open(&rig.store, Arc::clone(&log), CALM).unwrap();
        device.write_at(0, &noise(1, PAGE)).unwrap();
        device.flush().unwrap();
        let counts = log.counts();
        let nth = if call == Call::Write {
            counts.writes
        } else {
            counts.syncs
        };
        log.inject(Fault::Nth {
            call,
            nth,
            errno: EIO,
        });
        let failed = device
            .write_at(PAGE, &noise(2, PAGE))
            .and_then(|()| device.flush());
        assert!(matches!(failed, Err(BlockError::Log { .. })));
        assert!(
            matches!(device.flush(), Err(BlockError::Log { .. })),
            "and it stays so"
        );
        assert!(device.write_at(0, b"x").is_err());
        assert_eq!(read(&device, 0, PAGE), noise(1, PAGE), "reading goes on");
        drop(device);
        let device = open(&rig.store, log, CALM).unwrap();
        assert_eq!(read(&device, 0, PAGE), noise(1, PAGE));
        device.write_at(PAGE, &noise(3, PAGE)).unwrap();
        device.flush().unwrap();
    }
}

// Spec: BLK-23
// Parity: D34b
#[test]
fn a_full_store_is_an_error_once_log_and_memory_are_full_and_nothing_is_lost() {
    let by_memory = DeviceOptions {
        dirty_bytes_max: 8 << 10,
        ..CALM
    };
    for (options, log_bytes) in [(by_memory, 4 * MIB), (CALM, 512 << 10)] {
        let rig = Rig::new(4 * MIB, log_bytes, options);
        let device = rig.open();
        rig.backend.trouble(Trouble::Full);
        let fill = |device: &crate::support::MemDevice, mut written| {
            let error = loop {
                match device.write_at(written * PAGE, &noise(written, PAGE)) {
                    Ok(()) => written += 1,
                    Err(error) => break error,
                }
            };
            assert!(error.is_out_of_space(), "{error:?}");
            written
        };
        let written = fill(&device, 0);
        assert!((16..1000).contains(&written), "{written} pages were taken");
        device.flush().unwrap();
        let check = |device: &crate::support::MemDevice, written| {
            for page in 0..written {
                assert_eq!(read(device, page * PAGE, PAGE), noise(page, PAGE));
            }
        };
        check(&device, written);
        drop(device);
        let device = rig.open();
        check(&device, written);
        // A block that was in two layers is in one now, and leaves room for as much.
        let more = fill(&device, written);
        assert!(more <= written + BLOCK / PAGE, "{more} after {written}");
        let written = more;
        rig.backend.heal();
        device
            .write_at(written * PAGE, &noise(written, PAGE))
            .unwrap();
        let bytes = all(&device);
        device.close().unwrap();
        assert_same(&all_of(&rig.image("disk")), &bytes, "freed");
    }
}

// Spec: BLK-23
// Parity: D25, D34b
#[test]
fn whichever_call_of_the_store_fails_in_a_checkpoint_nothing_is_lost() {
    let mut failures = 0;
    for has_effect in [false, true] {
        for call in 1..40 {
            let rig = Rig::new(MIB, MIB, CALM);
            let device = rig.open();
            device.write_at(3 * PAGE, &noise(1, 3 * BLOCK)).unwrap();
            device.write_zeroes(BLOCK, BLOCK).unwrap();
            let frozen = all(&device);
            rig.backend.trouble(Trouble::Fail(call, has_effect));
            let tag = name("monday");
            let first = device.checkpoint(&tag, Overwrite::Refuse);
            rig.backend.heal();
            device.write_at(0, &noise(2, PAGE)).unwrap();
            let bytes = all(&device);
            if first.is_err() {
                failures += 1;
                assert_same(&bytes[PAGE as usize..], &frozen[PAGE as usize..], "kept");
                // Killed at this moment, and opened again.
                let again = Rig {
                    log: Arc::new(MemStorage::from_vec(rig.log.to_vec())),
                    store: rig.store.clone(),
                    backend: rig.backend.clone(),
                    ..rig
                };
                assert_same(&all(&again.open()), &bytes, "killed after the failure");
            } else {
                assert_same(&all_of(&rig.image("monday")), &frozen, "the checkpoint");
            }
            device
                .checkpoint(&name("tuesday"), Overwrite::Refuse)
                .unwrap();
            assert_same(&all_of(&rig.image("tuesday")), &bytes, "the next");
            assert_same(&all(&device), &bytes, "the device");
        }
    }
    assert!(failures > 15, "{failures} calls failed only");
}

#[test]
fn a_head_that_someone_else_moved_is_told_and_what_was_written_stays_in_the_log() {
    let rig = Rig::new(MIB, MIB, CALM);
    let log = crate::support::new_log(MIB);
    let given_up = open(&rig.store, Arc::clone(&log), CALM).unwrap();
    // Opening another log that gives up the first one is what takes the tag from it.
    let one = rig.open();
    one.write_at(0, b"one").unwrap();
    one.fold().unwrap();
    given_up.write_at(0, b"other").unwrap();
    let error = given_up.fold().unwrap_err();
    assert!(matches!(error, BlockError::HeadMoved { .. }), "{error:?}");
    assert_eq!(read(&given_up, 0, 5), b"other");
    drop(given_up);
    let error = open(&rig.store, log, CALM).unwrap_err();
    assert!(matches!(error, BlockError::Diverged { .. }), "{error:?}");
    assert_eq!(&all_of(&rig.image("disk"))[..3], b"one");
}

// Spec: BLK-36
#[test]
fn a_stop_in_order_tells_rot_in_what_was_flushed_last_from_a_torn_end() {
    let rig = Rig::new(MIB, MIB, CALM);
    let device = rig.open();
    device.write_at(0, &noise(1, PAGE)).unwrap();
    device.write_at(PAGE, &noise(2, PAGE)).unwrap();
    device.flush().unwrap();
    rig.backend.trouble(Trouble::Full);
    assert!(device.close().unwrap_err().is_out_of_space());
    rig.backend.heal();
    // Nothing is lost by it.
    let sound = rig.log.to_vec();
    let device = rig.open();
    assert_eq!(read(&device, PAGE, PAGE), noise(2, PAGE));
    drop(device);
    let needle = &noise(2, PAGE)[..64];
    let at = sound.windows(64).position(|bytes| bytes == needle).unwrap();
    let mut rotten = sound;
    rotten[at + 100] ^= 1;
    let log = Arc::new(MemStorage::from_vec(rotten));
    let error = open(&rig.store, log, CALM).err().unwrap();
    assert!(error.is_corrupt(), "{error:?}");
}
