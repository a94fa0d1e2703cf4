//! Group commit: one thread writes and syncs for all that wait.
//!
//! Whoever finds no leader becomes the leader, takes all that is staged and does the I/O without
//! the lock. The others wait; when a batch is done its threads are woken, and one of the next
//! batch, to lead it. Syncs never overlap: of two at once, the host tells only one of an error
//! (fsync(2)).

use std::sync::{MutexGuard, PoisonError};

use coldframe_storage::{Storage, StorageError};

use crate::ring::state::{Batch, State};
use crate::ring::{Durability, RingError, RingWal};

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
        loop {
            let reached = match level {
                Level::Written => state.written,
                Level::Durable => state.durable,
            };
            if reached >= sequence {
                return Ok(());
            }
            state.refuse_after_failure()?;
            if state.leading {
                state.sync_wanted |= level == Level::Durable && sequence > state.written;
                state = self.wait_for(state, sequence);
            } else {
                let sync = level == Level::Durable || std::mem::take(&mut state.sync_wanted);
                state = self.lead(state, sync);
            }
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

    fn lead<'a>(&'a self, mut state: MutexGuard<'a, State>, sync: bool) -> MutexGuard<'a, State> {
        let batch = state.take_batch();
        drop(state);
        let written = self.write_batch(&batch);
        let result = written.and_then(|()| {
            if sync {
                self.storage.sync_data()
            } else {
                Ok(())
            }
        });
        self.finish(batch, sync, result)
    }

    /// Gives the leadership back, with the result of the work.
    pub(crate) fn finish(
        &self,
        batch: Batch,
        synced: bool,
        result: Result<(), StorageError>,
    ) -> MutexGuard<'_, State> {
        let mut state = self.state();
        let done = (batch.number % 2) as usize;
        state.settle(batch, synced, result);
        if state.waiting[done] > 0 {
            self.turns[done].notify_all();
        }
        if state.waiting[1 - done] > 0 {
            // One is enough to lead the next batch; after a failure nobody does.
            match state.failure {
                None => self.turns[1 - done].notify_one(),
                Some(_) => self.turns[1 - done].notify_all(),
            }
        }
        state
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
