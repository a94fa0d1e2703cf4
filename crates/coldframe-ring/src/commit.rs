//! Group commit: one thread writes and syncs for all that wait.
//!
//! A thread that finds no leader becomes the leader, takes all that is staged and does the I/O
//! without the lock. The others watch for its end (see `progress`), and sleep if that does not come
//! soon; when a batch is done its threads go on, and one of the next batch leads it once those that
//! are expected back have come (see `gather`). Syncs never overlap: of two at once, the host tells
//! only one of an error (fsync(2)).

use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use coldframe_storage::{Storage, StorageError};

use crate::state::{Batch, State};
use crate::{Durability, RingError, RingWal};

/// How far a record must have come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Level {
    Written,
    Durable,
}

impl From<Durability> for Level {
    fn from(durability: Durability) -> Self {
        match durability {
            Durability::Each => Self::Durable,
            Durability::OnDemand => Self::Written,
        }
    }
}

impl<S: Storage> RingWal<S> {
    /// Returns when the record, and all before it, are at `level`; leads if nobody does.
    pub(crate) fn await_level<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        sequence: u64,
        level: Level,
    ) -> Result<(), RingError> {
        if level == Level::Durable && state.durable < sequence {
            state.join(sequence);
        }
        let mut watch_until = None;
        loop {
            let reached = match level {
                Level::Written => state.written,
                Level::Durable => state.durable,
            };
            if reached >= sequence {
                return Ok(());
            }
            state.refuse_after_failure()?;
            let mut company_until = None;
            if state.leading {
                state.sync_wanted |= level == Level::Durable && sequence > state.written;
            } else {
                company_until = state.gather.until().filter(|_| level == Level::Durable);
                if company_until.is_none() {
                    let sync = level == Level::Durable || std::mem::take(&mut state.sync_wanted);
                    return self.lead(state, sync);
                }
            }
            let watch = *watch_until.get_or_insert_with(|| state.gather.patience());
            state = match (watch.filter(|watch| *watch > Instant::now()), company_until) {
                (Some(watch), company) => {
                    let seen = self.progress.seen();
                    drop(state);
                    let until = company.map_or(watch, |company| watch.min(company));
                    if self.progress.watch(seen, sequence, until) {
                        return Ok(());
                    }
                    self.state()
                }
                (None, Some(until)) => self.wait_for_company(state, sequence, until),
                (None, None) => self.wait_for(state, sequence),
            };
        }
    }

    /// Sleeps until something happened to the batch of `sequence`.
    pub(crate) fn wait_for<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        sequence: u64,
    ) -> MutexGuard<'a, State> {
        let turn = (state.batch_of(sequence) % 2) as usize;
        state.waiting[turn] += 1;
        let woken = self.turns[turn].wait(state);
        let mut state = woken.unwrap_or_else(PoisonError::into_inner);
        state.waiting[turn] -= 1;
        state
    }

    /// Sleeps until something happened, but no longer than `until`: one of those that sleep
    /// watches the clock for all.
    fn wait_for_company<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        sequence: u64,
        until: Instant,
    ) -> MutexGuard<'a, State> {
        let batch = state.batch_of(sequence);
        if state.gather.watched == Some(batch) {
            return self.wait_for(state, sequence);
        }
        let turn = (batch % 2) as usize;
        state.gather.watched = Some(batch);
        state.waiting[turn] += 1;
        let left = until.saturating_duration_since(Instant::now());
        let woken = self.turns[turn].wait_timeout(state, left);
        let (mut state, _) = woken.unwrap_or_else(PoisonError::into_inner);
        state.waiting[turn] -= 1;
        if state.gather.watched == Some(batch) {
            state.gather.watched = None;
        }
        state
    }

    /// Does the work of a batch, which brings the caller's record to where it must come.
    fn lead(&self, mut state: MutexGuard<'_, State>, sync: bool) -> Result<(), RingError> {
        let batch = state.take_batch();
        drop(state);
        let written = self.write_batch(&batch);
        if !sync {
            return self.finish(batch, None, written);
        }
        let start = Instant::now();
        let result = written.and_then(|()| self.storage.sync_data());
        self.finish(batch, Some(start.elapsed()), result)
    }

    /// Gives the leadership back, with the result of the work, and how long the sync took if one
    /// was part of it.
    pub(crate) fn finish(
        &self,
        batch: Batch,
        synced: Option<Duration>,
        result: Result<(), StorageError>,
    ) -> Result<(), RingError> {
        let done = (batch.number % 2) as usize;
        let mut state = self.state();
        state.settle(batch, synced, result);
        self.progress.tell(state.durable);
        let outcome = state.refuse_after_failure();
        let waiting = state.waiting;
        // Who is woken needs the lock at once, so it is free by then; whoever else takes it first
        // may lead as well.
        drop(state);
        if waiting[1 - done] > 0 {
            // First, so that the disk does not wait. One is enough to lead the next batch; after a
            // failure nobody does.
            match outcome {
                Ok(()) => self.turns[1 - done].notify_one(),
                Err(_) => self.turns[1 - done].notify_all(),
            }
        }
        if waiting[done] > 0 {
            self.turns[done].notify_all();
        }
        outcome
    }

    /// One write, or two where the ring ends.
    pub(crate) fn write_batch(&self, batch: &Batch) -> Result<(), StorageError> {
        if batch.bytes.is_empty() {
            return Ok(());
        }
        let geometry = self.geometry;
        let (first, rest) = geometry.parts(batch.position, batch.bytes.len() as u64);
        let (head, tail) = batch.bytes.split_at(first.len as usize);
        self.storage
            .write_at(self.region.ring_offset(first.offset), head)?;
        if rest.len > 0 {
            self.storage
                .write_at(self.region.ring_offset(rest.offset), tail)?;
        }
        Ok(())
    }
}
