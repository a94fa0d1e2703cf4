//! Random operations against a list of payloads.

use coldframe_ring::{Entry, RingError};
use coldframe_ring::{RingOptions, RingWal, Sequence};
use coldframe_testkit::rng::Rng;
use proptest::prelude::*;

use super::sample::{records, region};
use coldframe_storage::MemStorage;
use std::sync::Arc;

#[derive(Clone, Debug)]
enum Op {
    Append(usize),
    Batch(Vec<usize>),
    Sync,
    Checkpoint(u8),
    Reopen { close: bool },
    Grow(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (0..150_usize).prop_map(Op::Append),
        2 => prop::collection::vec(0..60_usize, 0..5).prop_map(Op::Batch),
        1 => Just(Op::Sync),
        4 => any::<u8>().prop_map(Op::Checkpoint),
        2 => any::<bool>().prop_map(|close| Op::Reopen { close }),
        1 => (1..40_u64).prop_map(Op::Grow),
    ]
}

struct Model {
    storage: Arc<MemStorage>,
    log: RingWal<Arc<MemStorage>>,
    tail: u64,
    payloads: Vec<Vec<u8>>,
    ring: u64,
    rng: Rng,
}

impl Model {
    fn new(ring: u64) -> Self {
        let storage = Arc::new(MemStorage::new());
        let options = RingOptions::ON_DEMAND;
        Self {
            log: RingWal::create(Arc::clone(&storage), region(ring), options).unwrap(),
            storage,
            tail: 0,
            payloads: Vec::new(),
            ring,
            rng: Rng::new(ring),
        }
    }

    fn used(&self) -> u64 {
        let extent = |payload: &Vec<u8>| 48 + payload.len().next_multiple_of(16) as u64;
        self.payloads
            .iter()
            .skip(self.tail as usize)
            .map(extent)
            .sum()
    }

    fn append(&mut self, lens: &[usize]) {
        let new: Vec<_> = lens.iter().map(|len| self.rng.bytes(*len)).collect();
        let need: u64 = new
            .iter()
            .map(|p| 48 + p.len().next_multiple_of(16) as u64)
            .sum();
        let free = self.ring - self.used();
        match self.log.append_batch(&new) {
            Ok(_) => {
                assert!(need <= free);
                self.payloads.extend(new);
            }
            Err(RingError::Full {
                need: n,
                free: f,
                checkpoint_to,
                ..
            }) => {
                assert_eq!((n.get(), f.get()), (need, free));
                assert!(need > free);
                self.log.checkpoint(checkpoint_to).unwrap();
                self.tail = checkpoint_to.get();
                self.log.append_batch(&new).unwrap();
                self.payloads.extend(new);
            }
            Err(RingError::TooLong { .. }) => assert!(need > self.ring),
            Err(error) => panic!("{error:?}"),
        }
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Append(len) => self.append(&[len]),
            Op::Batch(lens) => self.append(&lens),
            Op::Sync => drop(self.log.sync().unwrap()),
            Op::Checkpoint(share) => {
                let pending = self.payloads.len() as u64 - self.tail;
                self.tail += pending * u64::from(share) / 255;
                self.log.checkpoint(Sequence::new(self.tail)).unwrap();
            }
            Op::Reopen { close } => self.reopen(close),
            Op::Grow(more) => {
                let ring = self.ring + more * 16;
                match self.log.grow(region(ring).size()) {
                    Ok(()) => self.ring = ring,
                    Err(RingError::GrowTooLittle { min, .. }) => {
                        assert!(min > region(ring).size());
                    }
                    Err(error) => panic!("{error:?}"),
                }
            }
        }
        self.check();
    }

    fn reopen(&mut self, close: bool) {
        // The log is replaced by one that is thrown away, so that it can be closed.
        let other = Self::new(256).log;
        let log = std::mem::replace(&mut self.log, other);
        if close {
            log.close().unwrap();
        }
        let options = RingOptions::ON_DEMAND;
        let storage = Arc::clone(&self.storage);
        let mut shown = Vec::new();
        let each = |entry: Entry<'_>| shown.push((entry.sequence.get(), entry.payload.to_vec()));
        self.log = RingWal::open_with(storage, region(self.ring), options, each).unwrap();
        assert_eq!(self.log.recovery().torn_bytes, 0);
        assert_eq!(shown, records(&self.log));
    }

    fn check(&self) {
        let expected: Vec<_> = (1..)
            .zip(self.payloads.iter().cloned())
            .skip(self.tail as usize)
            .collect();
        assert_eq!(records(&self.log), expected);
        assert_eq!(self.log.stats().used.get(), self.used());
        assert_eq!(self.log.pending(), expected.len() as u64);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]
    // Spec: RING-13, RING-30, RING-40, RING-50
    #[test]
    fn the_log_is_a_list(ring in 4..60_u64, ops in prop::collection::vec(op(), 1..60)) {
        let mut model = Model::new(ring * 16);
        for op in ops {
            model.apply(op);
        }
    }
}
