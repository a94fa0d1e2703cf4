//! How far the log came, to be seen without its lock.
//!
//! Waking a thread that sleeps costs both sides some microseconds, and of many threads that one
//! sync serves each must be woken. So a thread that waits first gives its processor away again and
//! again (sched_yield(2)), and looks here in between: as long as another few syncs like the last
//! take, if that one was short. Only then it sleeps.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Waking threads is dear next to a sync no longer than this.
const SHORT: Duration = Duration::from_micros(500);

/// How many syncs long a thread watches: one that is under way, the time to gather for its own,
/// that, and one for what comes late.
const SYNCS: u32 = 4;

/// What the holder of the log's lock says to the other threads.
#[derive(Debug)]
pub(crate) struct Progress {
    durable: AtomicU64,
    /// Changes with every batch that ended.
    batches: AtomicU32,
}

impl Progress {
    pub(crate) const fn new(durable: u64) -> Self {
        Self {
            durable: AtomicU64::new(durable),
            batches: AtomicU32::new(0),
        }
    }

    /// A batch ended; by the holder of the lock.
    pub(crate) fn tell(&self, durable: u64) {
        self.durable.store(durable, Ordering::Release);
        self.batches.fetch_add(1, Ordering::Release);
    }

    /// What to [`Progress::watch`] from; by the holder of the lock.
    pub(crate) fn seen(&self) -> u32 {
        self.batches.load(Ordering::Acquire)
    }

    /// Watches until the record is durable, which is true, or until another batch ended than what
    /// was `seen`, or it is too late.
    pub(crate) fn watch(&self, seen: u32, sequence: u64, until: Instant) -> bool {
        loop {
            if self.durable.load(Ordering::Acquire) >= sequence {
                return true;
            }
            if self.seen() != seen || Instant::now() >= until {
                return false;
            }
            std::thread::yield_now();
        }
    }
}

/// How long a thread may watch after a sync that took so long, if it may.
pub(crate) fn patience(sync: Duration) -> Option<Duration> {
    (sync <= SHORT).then_some(sync * SYNCS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn later(time: Duration) -> Instant {
        Instant::now() + time
    }

    #[test]
    fn watching_ends_by_what_happens() {
        let progress = Progress::new(4);
        let minute = later(Duration::from_secs(60));
        let seen = progress.seen();
        assert!(progress.watch(seen, 4, minute), "durable before");
        std::thread::scope(|scope| {
            let (of_this, of_next) = (
                scope.spawn(|| progress.watch(seen, 6, minute)),
                scope.spawn(|| progress.watch(seen, 7, minute)),
            );
            progress.tell(6);
            assert!(of_this.join().is_ok_and(|durable| durable));
            assert!(of_next.join().is_ok_and(|durable| !durable));
        });
        assert!(
            !progress.watch(seen, 7, minute),
            "the end of a batch is not missed"
        );
    }

    #[test]
    fn watching_ends_in_time() {
        let progress = Progress::new(0);
        let start = Instant::now();
        assert!(!progress.watch(progress.seen(), 1, later(Duration::from_millis(2))));
        assert!(start.elapsed() >= Duration::from_millis(2));
    }

    #[test]
    fn nobody_watches_a_slow_disk() {
        assert_eq!(patience(SHORT), Some(SHORT * SYNCS));
        assert_eq!(patience(SHORT + Duration::from_nanos(1)), None);
    }
}
