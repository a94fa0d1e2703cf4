//! Giving records up, and closing.

use std::sync::Arc;
use std::time::Instant;

use coldframe_storage::Storage;
use coldframe_walframe::ring::{Control, RECORD_HEADER_LEN};

use crate::lock::read_owner;
use crate::open::mark_end;
use crate::state::{Start, State};
use crate::{Owner, RingError, RingWal, Sequence, control};

impl<S: Storage> RingWal<S> {
    /// Gives up all records up to and including `up_to`: their content is durable elsewhere by
    /// now. Their space is used again only after this is on the disk; all records appended so
    /// far are durable then too.
    ///
    /// Spec: RING-40
    ///
    /// # Errors
    /// [`RingError::UnknownSequence`], [`RingError::Failed`].
    pub fn checkpoint(&self, up_to: Sequence) -> Result<(), RingError> {
        let mut control = self.control();
        let tail = {
            let state = self.state();
            state.refuse_after_failure()?;
            if up_to.get() == state.tail.sequence {
                return Ok(());
            }
            tail_after(&state, up_to)?
        };
        let mut next = *control;
        next.advance()?;
        next.tail_position = tail.position;
        next.tail_sequence = tail.sequence;
        self.replace_control(&mut control, next)?;
        let mut state = self.state();
        state.tail = tail;
        let kept = state
            .starts
            .partition_point(|start| start.sequence <= tail.sequence);
        state.starts.drain(..kept);
        state.since_checkpoint = state.starts.len() as u64;
        state.counters.checkpoints += 1;
        Ok(())
    }

    /// Syncs, and notes that the log ends here: the next opening need not look for damage behind
    /// its end, and finds it if the last record is not what it was.
    ///
    /// Spec: RING-41
    ///
    /// # Errors
    /// [`RingError::Failed`].
    pub fn close(self) -> Result<(), RingError> {
        let last = self.sync()?;
        let mut control = self.control();
        let mut next = *control;
        next.advance()?;
        next.closed = true;
        next.synced_sequence = last.get();
        self.replace_control(&mut control, next)?;
        // The second block, and that nobody has the log any more.
        let note = self.lock.is_real() && read_owner(&self.storage, self.region).is_some();
        let cleared = if note {
            self.storage
                .write_at(Owner::place(self.region), &[0; Owner::LEN])
        } else {
            Ok(())
        };
        cleared
            .and_then(|()| self.storage.sync_data())
            .map_err(|source| RingError::Failed {
                source: Arc::new(source),
            })
    }

    /// Writes what is staged and the new control block, and syncs both.
    fn replace_control(&self, held: &mut Control, mut next: Control) -> Result<(), RingError> {
        let mut state = self.state();
        while state.leading {
            let head = state.head.sequence;
            state = self.wait_for(state, head);
        }
        state.refuse_after_failure()?;
        next.synced_sequence = next.synced_sequence.max(state.durable);
        // No room for a whole end mark behind the last record, nor for another record.
        let unmarked = (state.free() < RECORD_HEADER_LEN).then_some(state.head.position);
        let batch = state.take_batch();
        drop(state);
        let start = Instant::now();
        let result = self
            .write_batch(&batch)
            .and_then(|()| control::publish(&self.storage, self.region, &next))
            .and_then(|()| match unmarked {
                Some(head) => mark_end(&self.storage, self.region, &next, head),
                None => Ok(()),
            });
        self.finish(batch, Some(start.elapsed()), result)?;
        *held = next;
        Ok(())
    }
}

/// The new tail when all records up to `up_to` go.
fn tail_after(state: &State, up_to: Sequence) -> Result<Start, RingError> {
    let asked = up_to.get();
    if asked < state.tail.sequence || asked > state.written {
        return Err(RingError::UnknownSequence {
            asked: up_to,
            first: Sequence::new(state.tail.sequence),
            last: Sequence::new(state.written),
        });
    }
    let first_kept = state
        .starts
        .partition_point(|start| start.sequence <= asked);
    // Sequences that were lost to damage have no record: they go with those before them.
    let next = state.starts.get(first_kept).unwrap_or(&state.head);
    Ok(Start {
        sequence: next.sequence - 1,
        position: next.position,
    })
}
