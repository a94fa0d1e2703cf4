//! Waiting for company before a sync.
//!
//! Threads that one sync served mostly come back with their next records at once. If the next sync
//! began without them, it would serve half of them, and the other half the one after: twice as many
//! syncs as are needed. So the thread that comes back last leads, and does not wait for anybody.
//! Who came before waits no longer than the last sync took, counted from its end: a thread that
//! appends alone, or that comes later, never waits.

use std::time::{Duration, Instant};

use crate::progress;

/// Who is expected back.
#[derive(Debug, Default)]
pub(crate) struct Gather {
    /// Threads that the last sync served and that did not come back yet.
    returning: u32,
    until: Option<Instant>,
    /// By the last sync.
    took: Duration,
    /// The batch for which some thread watches the clock.
    pub watched: Option<u64>,
}

impl Gather {
    /// A sync that took so long served so many threads.
    pub fn served(&mut self, threads: u32, took: Duration) {
        self.returning = threads;
        self.took = took;
        self.until = (threads > 1).then(|| Instant::now() + took);
    }

    /// A thread came with a record.
    pub const fn came(&mut self) {
        self.returning = self.returning.saturating_sub(1);
    }

    /// A batch sets out: who comes now comes for the next one.
    pub const fn over(&mut self) {
        self.returning = 0;
    }

    /// Until when others are to be waited for, if they are.
    pub fn until(&self) -> Option<Instant> {
        self.until
            .filter(|until| self.returning > 0 && *until > Instant::now())
    }

    /// Until when a thread that begins to wait now may watch, if it may.
    pub fn patience(&self) -> Option<Instant> {
        progress::patience(self.took).map(|patience| Instant::now() + patience)
    }
}
