//! Sizes and counts of a log.

use coldframe_units::ByteLen;
use coldframe_walframe::ring::{Control, RING_START};

use crate::state::State;
use crate::{Recovery, Region, Sequence};

/// A log at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RingStats {
    /// Bytes in the region.
    pub region: ByteLen,
    /// Bytes in the ring: what records can take.
    pub ring: ByteLen,
    /// Bytes that records take that are not checkpointed.
    pub used: ByteLen,
    /// Records that are not checkpointed.
    pub pending: u64,
    /// The last record that was checkpointed.
    pub checkpointed: Sequence,
    /// The last record that was appended.
    pub last: Sequence,
    /// The last record that is known to be on the disk.
    pub durable: Sequence,
    /// How often the log was opened for writing.
    pub epoch: u32,
    /// Records appended since it was opened.
    pub appended: u64,
    /// Writes since it was opened: each carries all that was staged.
    pub writes: u64,
    /// Syncs since it was opened.
    pub syncs: u64,
    /// Checkpoints since it was opened.
    pub checkpoints: u64,
}

impl RingStats {
    /// A log that was found and not opened for writing.
    pub(crate) fn found(control: &Control, recovery: &Recovery) -> Self {
        let checkpointed = Sequence::new(control.tail_sequence);
        let last = recovery.range.map_or(checkpointed, |(_, last)| last);
        Self {
            region: ByteLen::new(control.ring_len + RING_START),
            ring: ByteLen::new(control.ring_len),
            used: ByteLen::new(recovery.end.position() - control.tail_position),
            pending: recovery.records,
            checkpointed,
            last,
            durable: recovery.proved,
            epoch: control.epoch,
            appended: 0,
            writes: 0,
            syncs: 0,
            checkpoints: 0,
        }
    }

    pub(crate) fn of(region: Region, state: &State) -> Self {
        Self {
            region: region.size(),
            ring: ByteLen::new(state.ring_len),
            used: ByteLen::new(state.used()),
            pending: state.starts.len() as u64,
            checkpointed: Sequence::new(state.tail.sequence),
            last: Sequence::new(state.head.sequence - 1),
            durable: Sequence::new(state.durable),
            epoch: state.epoch,
            appended: state.counters.appended,
            writes: state.counters.batches,
            syncs: state.counters.syncs,
            checkpoints: state.counters.checkpoints,
        }
    }
}
