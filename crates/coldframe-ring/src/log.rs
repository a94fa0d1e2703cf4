//! The log itself: what it holds, and the small questions it answers.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use coldframe_storage::Storage;
use coldframe_walframe::ring::{Control, Geometry, RecordKey};

use crate::lock::RegionLock;
use crate::progress::Progress;
use crate::state::State;
use crate::{Recovery, Region, RingOptions, RingStats, Sequence};

/// A bounded log in a region of a storage, open for appending.
///
/// Any number of threads may append, sync, checkpoint and read at once. One that waits for a sync
/// of another first gives its processor away (sched_yield(2)) for up to 2 ms, if the last sync was
/// short, and then sleeps. Dropping the log writes nothing; [`RingWal::close`] spares the next
/// opening the search for damage.
#[derive(Debug)]
pub struct RingWal<S> {
    pub(crate) storage: S,
    pub(crate) region: Region,
    pub(crate) geometry: Geometry,
    pub(crate) key: RecordKey,
    pub(crate) options: RingOptions,
    pub(crate) recovery: Recovery,
    /// The block that holds; locked by who changes it, for as long as that takes.
    pub(crate) control: Mutex<Control>,
    pub(crate) state: Mutex<State>,
    /// Where threads wait for batches of even and of odd number.
    pub(crate) turns: [Condvar; 2],
    pub(crate) progress: Progress,
    pub(crate) lock: RegionLock,
}

impl<S: Storage> RingWal<S> {
    /// What was found when the log was opened.
    #[must_use]
    pub const fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// The region that the log has for itself.
    #[must_use]
    pub const fn region(&self) -> Region {
        self.region
    }

    /// The storage that the log is in.
    #[must_use]
    pub const fn storage(&self) -> &S {
        &self.storage
    }

    /// How many records are in the log and not checkpointed.
    #[must_use]
    pub fn pending(&self) -> u64 {
        self.state().starts.len() as u64
    }

    /// The last record that was appended; that of the last checkpoint if there is none.
    #[must_use]
    pub fn last_sequence(&self) -> Sequence {
        Sequence::new(self.state().head.sequence - 1)
    }

    /// Whether occupancy or the number of records say that a checkpoint is due.
    #[must_use]
    pub fn should_checkpoint(&self) -> bool {
        let state = self.state();
        let policy = self.options.checkpoint;
        let occupied = u128::from(state.used()) * 100;
        let limit = u128::from(state.ring_len) * u128::from(policy.occupancy_percent);
        let pending = !state.starts.is_empty();
        pending && (occupied >= limit || state.since_checkpoint >= policy.records)
    }

    /// Sizes and counts.
    #[must_use]
    pub fn stats(&self) -> RingStats {
        RingStats::of(self.region, &self.state())
    }

    // The state is changed in steps that do not panic in the middle, so a poisoned lock is sound.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
