//! What changes while a log is open; behind one lock, held for memory operations only.
//!
//! Records go through three stages: staged (in `stage`, in order), in flight (in the batch that
//! one thread, the leader, writes), written, and durable after a sync. Batches are numbered; a
//! thread waits for the batch that holds its record.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use coldframe_storage::StorageError;
use coldframe_units::ByteLen;
use coldframe_walframe::ring::{RECORD_HEADER_LEN, RecordHeader, RecordKey};

use crate::gather::Gather;
use crate::{RingError, Sequence};

/// A buffer that grew over this is not kept.
const KEEP_BYTES: usize = 1024 * 1024;

/// Where a record begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    pub sequence: u64,
    pub position: u64,
}

/// What the leader writes: all that was staged, and zeros behind it where space is free, so that
/// the next scan sees a clean end.
#[derive(Debug)]
pub(crate) struct Batch {
    pub number: u64,
    pub bytes: Vec<u8>,
    pub position: u64,
    /// The last sequence in it, or before it if it is empty.
    last: u64,
    end: u64,
}

#[derive(Debug)]
pub(crate) struct State {
    pub ring_len: u64,
    pub epoch: u32,
    /// Behind the last record that was checkpointed.
    pub tail: Start,
    /// The next record.
    pub head: Start,
    /// All records between the two, staged ones included.
    pub starts: VecDeque<Start>,
    /// The last record that the host has, and the position behind it.
    pub written: u64,
    pub written_end: u64,
    pub durable: u64,
    pub failure: Option<Arc<StorageError>>,
    /// A leader is at work; `in_flight` is the last sequence of its batch.
    pub leading: bool,
    in_flight: u64,
    /// A sync was asked for while another leader was at work.
    pub sync_wanted: bool,
    batch: u64,
    /// How many threads wait for batches of even and of odd number.
    pub waiting: [u32; 2],
    /// How many threads want batches of even and of odd number to be durable.
    joined: [u32; 2],
    pub gather: Gather,
    stage: Vec<u8>,
    spare: Vec<u8>,
    pub since_checkpoint: u64,
    pub counters: Counters,
}

/// What happened since the log was opened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    pub appended: u64,
    pub batches: u64,
    pub syncs: u64,
    pub checkpoints: u64,
}

impl State {
    /// A log with these records, all of them durable.
    pub fn new(
        ring_len: u64,
        epoch: u32,
        tail: Start,
        head: Start,
        starts: VecDeque<Start>,
    ) -> Self {
        let last = head.sequence - 1;
        let since_checkpoint = starts.len() as u64;
        Self {
            ring_len,
            epoch,
            tail,
            head,
            starts,
            written: last,
            written_end: head.position,
            durable: last,
            failure: None,
            leading: false,
            in_flight: last,
            sync_wanted: false,
            batch: 0,
            waiting: [0; 2],
            joined: [0; 2],
            gather: Gather::default(),
            stage: Vec::new(),
            spare: Vec::new(),
            since_checkpoint,
            counters: Counters::default(),
        }
    }

    pub const fn used(&self) -> u64 {
        self.head.position - self.tail.position
    }

    pub const fn free(&self) -> u64 {
        self.ring_len - self.used()
    }

    /// The longest payload that an empty ring holds.
    pub fn payload_max(&self) -> u64 {
        (self.ring_len - RECORD_HEADER_LEN).min(u64::from(u32::MAX))
    }

    /// Refuses what cannot be appended now: `need` bytes of `count` records.
    pub fn admit(&self, need: u64, count: u64) -> Result<(), RingError> {
        self.refuse_after_failure()?;
        // The last number stays unused: every record has a next one.
        if self.head.sequence >= u64::MAX - count {
            let what = "the sequence counter";
            return Err(RingError::Exhausted { what });
        }
        if self
            .head
            .position
            .checked_add(need + self.ring_len)
            .is_none()
        {
            let what = "the position counter";
            return Err(RingError::Exhausted { what });
        }
        if need > self.ring_len {
            return Err(RingError::TooLong {
                len: ByteLen::new(need - RECORD_HEADER_LEN),
                max: ByteLen::new(self.payload_max()),
            });
        }
        if need > self.free() {
            return Err(self.full(need));
        }
        Ok(())
    }

    fn full(&self, need: u64) -> RingError {
        let release = need - self.free();
        // The first record whose end is far enough; there is one, as all of them free the ring.
        let enough = |end: u64| end - self.tail.position >= release;
        let index = self.starts.partition_point(|start| !enough(start.position));
        let to = self.starts.get(index).map_or(self.head, |start| *start);
        RingError::Full {
            need: ByteLen::new(need),
            free: ByteLen::new(self.free()),
            release: ByteLen::new(release),
            checkpoint_to: Sequence::new(to.sequence - 1),
        }
    }

    pub fn refuse_after_failure(&self) -> Result<(), RingError> {
        self.failure.as_ref().map_or(Ok(()), |failure| {
            let source = Arc::clone(failure);
            Err(RingError::Failed { source })
        })
    }

    /// Puts an admitted record behind the staged ones.
    pub fn stage(&mut self, key: &RecordKey, parts: &[&[u8]]) -> Result<u64, RingError> {
        let Start { sequence, position } = self.head;
        let header = RecordHeader::data(self.epoch, sequence, position, self.durable);
        let header = header.encode_parts(key, parts, &mut self.stage)?;
        self.starts.push_back(self.head);
        self.head.sequence += 1;
        self.head.position += header.extent();
        self.since_checkpoint += 1;
        self.counters.appended += 1;
        Ok(sequence)
    }

    /// A thread wants this record to be durable.
    pub fn join(&mut self, sequence: u64) {
        self.gather.came();
        self.joined[(self.batch_of(sequence) % 2) as usize] += 1;
    }

    /// Makes the caller the leader, and hands it all that is staged.
    pub fn take_batch(&mut self) -> Batch {
        debug_assert!(!self.leading, "one leader at a time");
        self.leading = true;
        self.gather.over();
        let mut bytes = std::mem::replace(&mut self.stage, std::mem::take(&mut self.spare));
        let position = self.head.position - bytes.len() as u64;
        if !bytes.is_empty() {
            let zeros = self.free().min(RECORD_HEADER_LEN) as usize;
            bytes.resize(bytes.len() + zeros, 0);
        }
        self.in_flight = self.head.sequence - 1;
        let number = self.batch;
        self.batch += 1;
        Batch {
            number,
            bytes,
            position,
            last: self.in_flight,
            end: self.head.position,
        }
    }

    /// Takes the result of the leader's work; `synced` says how long the sync took, if
    /// one was part of it.
    pub fn settle(
        &mut self,
        mut batch: Batch,
        synced: Option<Duration>,
        result: Result<(), StorageError>,
    ) {
        self.leading = false;
        let done = (batch.number % 2) as usize;
        let joined = std::mem::take(&mut self.joined[done]);
        match synced {
            Some(took) => self.gather.served(joined, took),
            // They wait for the next one.
            None => self.joined[1 - done] += joined,
        }
        match result {
            Ok(()) => {
                self.written = batch.last;
                self.written_end = batch.end;
                self.counters.batches += u64::from(!batch.bytes.is_empty());
                if synced.is_some() {
                    self.durable = batch.last;
                    self.counters.syncs += 1;
                }
            }
            Err(error) => {
                self.failure.get_or_insert_with(|| Arc::new(error));
            }
        }
        batch.bytes.clear();
        if batch.bytes.capacity() <= KEEP_BYTES {
            self.spare = batch.bytes;
        }
    }

    /// The number of the batch that holds, or will hold, this record.
    pub const fn batch_of(&self, sequence: u64) -> u64 {
        if self.leading && sequence <= self.in_flight {
            self.batch - 1
        } else {
            self.batch
        }
    }
}
