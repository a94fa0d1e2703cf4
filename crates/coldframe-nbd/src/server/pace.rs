//! Whether an export is slow: when other workers are worth it, and when not any more.
//!
//! A request that takes long may only have lost the processor to others for a moment, which other
//! workers would not mend. So what slow requests take is weighed against what fast ones take.
//! Updates by several workers may be lost: nothing depends on one.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// From here on a request is slow.
const SLOW: Duration = Duration::from_micros(200);

/// The lead of slow requests over fast ones at which an export is slow: more than a scheduler
/// takes the processor away for.
const DEBT: Duration = Duration::from_millis(6);

/// Fast requests without a slow one after which helpers leave.
const CALM: u32 = 2048;

/// How fast requests were lately.
#[derive(Default)]
pub(super) struct Pace {
    /// What slow requests took beyond what fast ones took since, in nanoseconds, up to twice
    /// [`DEBT`].
    debt: AtomicU64,
    /// Fast requests since the last slow one.
    calm: AtomicU32,
}

impl Pace {
    /// Takes down what a request took; whether the export is slow. One that waits for the disk by
    /// its nature shows that at once.
    pub(super) fn note(&self, took: Duration, may_wait: bool) -> bool {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let debt = self.debt.load(Ordering::Relaxed);
        if took < SLOW {
            self.debt
                .store(debt.saturating_sub(nanos(took)), Ordering::Relaxed);
            let calm = self.calm.load(Ordering::Relaxed);
            self.calm.store(calm.saturating_add(1), Ordering::Relaxed);
            return false;
        }
        let debt = debt.saturating_add(nanos(took)).min(2 * nanos(DEBT));
        self.debt.store(debt, Ordering::Relaxed);
        self.calm.store(0, Ordering::Relaxed);
        may_wait || debt >= nanos(DEBT)
    }

    /// Whether one worker is enough.
    pub(super) fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed) >= CALM
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(count: u64) -> Duration {
        Duration::from_micros(count)
    }

    #[test]
    fn one_slice_that_was_lost_is_not_slow_and_many_waits_are() {
        let pace = Pace::default();
        assert!(!pace.note(micros(3000), false));
        for _ in 0..1000 {
            assert!(!pace.note(micros(5), false));
        }
        assert!(!pace.note(micros(3000), false));
        assert!(pace.note(micros(3000), false));
        let pace = Pace::default();
        let slow = (0..40).filter(|_| pace.note(micros(300), false)).count();
        assert_eq!(slow, 21);
    }

    #[test]
    fn a_wait_for_the_network_or_a_sync_is_slow_at_once() {
        assert!(Pace::default().note(micros(20_000), false));
        assert!(Pace::default().note(micros(201), true));
        assert!(!Pace::default().note(micros(199), true));
    }

    #[test]
    fn it_is_calm_after_many_fast_ones_and_not_after_a_slow_one() {
        let pace = Pace::default();
        assert!(!pace.is_calm());
        for _ in 0..CALM {
            pace.note(micros(5), false);
        }
        assert!(pace.is_calm());
        pace.note(micros(500), false);
        assert!(!pace.is_calm());
    }
}
