//! Writers that die at any moment, on real files: what they acknowledged is there, in order, and
//! nothing was made up.

use std::path::Path;
use std::time::Duration;

use coldframe_ring::{RingError, RingOptions, RingWal, Sequence};
use coldframe_storage::FileStorage;
use coldframe_testkit::kills;
use coldframe_testkit::rng::Rng;

use crate::sample::{payload, records, region};

/// Cheap enough for every run of the tests; `cargo xtask crash --kills 500` does them all.
const KILLS: u64 = 25;
/// The longest that a writer lives.
const LIFE: Duration = Duration::from_millis(60);

const RING: u64 = 16 * 1024;

fn len_of(sequence: u64) -> usize {
    Rng::new(sequence).below(700) as usize
}

fn open_ring(path: &Path) -> RingWal<FileStorage> {
    let options = RingOptions::SYNC_EACH;
    if path.exists() {
        RingWal::open(FileStorage::open(path).unwrap(), region(RING), options).unwrap()
    } else {
        RingWal::create(FileStorage::create(path).unwrap(), region(RING), options).unwrap()
    }
}

/// Appends for ever; a record says its number, and so does what it is made of.
fn write_ring(path: &Path) -> ! {
    let log = open_ring(path);
    let mut rng = Rng::new(log.last_sequence().get());
    loop {
        let next = log.last_sequence().get() + 1;
        let count = if rng.below(4) == 0 {
            1 + rng.below(4)
        } else {
            1
        };
        let batch: Vec<_> = (next..next + count)
            .map(|n| payload(n, len_of(n)))
            .collect();
        kills::say(&format!("begun {}", next + count - 1));
        match log.append_batch(&batch) {
            Ok(_) => kills::say(&format!("done {}", next + count - 1)),
            Err(RingError::Full { .. }) => {
                let up_to = next - 1 - rng.below(3).min(log.pending() - 1);
                kills::say(&format!("released {up_to}"));
                log.checkpoint(Sequence::new(up_to)).unwrap();
            }
            Err(error) => panic!("{error:?}"),
        }
    }
}

// Spec: RING-20, RING-36
#[test]
fn a_ring_keeps_what_it_acknowledged_whenever_its_writer_is_killed() {
    if let Some(path) = kills::work_place() {
        write_ring(&path);
    }
    let dir = coldframe_testkit::scratch::on_disk();
    let path = dir.path().join("log");
    // Made here, so that a kill hits the log at work and not its creation each time.
    open_ring(&path).close().unwrap();
    let (mut done, mut released) = (0, 0);
    let test = "kill::a_ring_keeps_what_it_acknowledged_whenever_its_writer_is_killed";
    kills::rounds("ring", test, &path, KILLS, LIFE, |round, said| {
        let begun = kills::last(said, "begun", done);
        released = kills::last(said, "released", released);
        done = kills::last(said, "done", done);
        let log = open_ring(&path);
        let found = records(&log);
        let tail = log.stats().checkpointed.get();
        let newest = tail + found.len() as u64;
        assert!(tail <= released, "round {round}: {tail} was never released");
        assert!(
            newest >= done,
            "round {round}: {done} were done, {newest} there"
        );
        assert!(
            newest <= begun.max(done),
            "round {round}: {newest} invented"
        );
        for ((number, bytes), expected) in found.iter().zip(tail + 1..) {
            assert_eq!(*number, expected, "round {round}");
            assert!(
                *bytes == payload(expected, len_of(expected)),
                "round {round}"
            );
        }
        // What is there now is durable: the next writer goes on behind it.
        done = newest;
        log.close().unwrap();
    });
    assert!(done > 0);
}
