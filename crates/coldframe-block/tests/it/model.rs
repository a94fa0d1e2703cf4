//! Any order of steps, against a plain vector of bytes.

use std::collections::BTreeMap;

use coldframe_block::{BlockError, DeviceOptions, DiskImage, Shrink};
use coldframe_storage::Overwrite;
use coldframe_units::ByteLen;
use proptest::prelude::*;

use crate::support::{MemDevice, PAGE, Rig, all, all_of, assert_same, name, noise};

#[derive(Clone, Debug)]
enum Step {
    Write(u64, u64, u64),
    /// The same few pages again and again.
    Hot(u64, u64),
    Zero(u64, u64),
    Flush,
    Fold,
    Checkpoint(u8),
    /// The process is killed; all that it wrote is there.
    Reopen,
    /// It stops in order.
    Close,
    Resize(u64),
}

const SIZE_MAX: u64 = 40 * PAGE + 1234;

fn step() -> impl Strategy<Value = Step> {
    let at = || {
        prop_oneof![
            0..SIZE_MAX,
            (0..SIZE_MAX / PAGE).prop_map(|page| page * PAGE)
        ]
    };
    let len = || prop_oneof![3 => 1..3 * PAGE, 1 => 1..24 * PAGE, 1 => Just(PAGE)];
    prop_oneof![
        8 => (at(), len(), any::<u64>()).prop_map(|(at, len, seed)| Step::Write(at, len, seed)),
        4 => (0..4_u64, any::<u64>()).prop_map(|(page, seed)| Step::Hot(page, seed)),
        4 => (at(), prop_oneof![len(), Just(SIZE_MAX)]).prop_map(|(at, len)| Step::Zero(at, len)),
        2 => Just(Step::Flush),
        2 => Just(Step::Fold),
        2 => (0..4_u8).prop_map(Step::Checkpoint),
        2 => Just(Step::Reopen),
        1 => Just(Step::Close),
        2 => (1..SIZE_MAX + 1).prop_map(Step::Resize),
    ]
}

struct Run {
    rig: Rig,
    device: Option<MemDevice>,
    bytes: Vec<u8>,
    checkpoints: BTreeMap<u8, Vec<u8>>,
}

impl Run {
    fn take(&mut self, step: &Step) {
        let device = self.device.as_ref().unwrap();
        match *step {
            Step::Write(at, len, seed) => self.write(at, &noise(seed, len)),
            Step::Hot(page, seed) => self.write(page * PAGE, &noise(seed, PAGE)),
            Step::Zero(at, len) => {
                let size = self.bytes.len() as u64;
                let at = at.min(size);
                let len = len.min(size - at);
                device.write_zeroes(at, len).unwrap();
                self.bytes[at as usize..][..len as usize].fill(0);
            }
            Step::Flush => device.flush().unwrap(),
            Step::Fold => {
                let folded = device.fold().unwrap();
                let image = DiskImage::open_root(&self.rig.store, folded.root, None).unwrap();
                assert_same(&all_of(&image), &self.bytes, "the index");
            }
            Step::Checkpoint(number) => {
                let tag = name(&format!("c{number}"));
                device.checkpoint(&tag, Overwrite::Replace).unwrap();
                self.checkpoints.insert(number, self.bytes.clone());
            }
            Step::Reopen => {
                self.device = None;
                self.device = Some(self.rig.open());
            }
            Step::Close => {
                let folded = self.device.take().unwrap().close().unwrap();
                assert_eq!(self.rig.image("disk").root(), folded.root);
                self.device = Some(self.rig.open());
            }
            Step::Resize(size) => {
                device.resize(ByteLen::new(size), Shrink::Allow).unwrap();
                self.bytes.resize(size as usize, 0);
            }
        }
    }

    fn write(&mut self, at: u64, data: &[u8]) {
        let device = self.device.as_ref().unwrap();
        let end = at as usize + data.len();
        match device.write_at(at, data) {
            Ok(()) => self.bytes[at as usize..end].copy_from_slice(data),
            Err(BlockError::PastEnd { .. }) => assert!(end > self.bytes.len()),
            Err(error) => panic!("{error}"),
        }
    }

    fn check(&self, what: &str) {
        let device = self.device.as_ref().unwrap();
        assert_same(&all(device), &self.bytes, what);
        let mut at = 0;
        let told = device.extents(0, self.bytes.len() as u64, &mut |len, is_zero| {
            let part = &self.bytes[at as usize..][..len as usize];
            assert!(
                !is_zero || part.iter().all(|byte| *byte == 0),
                "{what} at {at}"
            );
            at += len;
            true
        });
        told.unwrap();
        assert_eq!(at, self.bytes.len() as u64);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    // Spec: BLK-1, BLK-11, BLK-12, BLK-20
    // Parity: D32
    #[test]
    fn any_order_of_operations_equals_the_model(
        steps in prop::collection::vec(step(), 1..60),
        size in 1..SIZE_MAX,
    ) {
        // A log and a memory that are too small for what is written: folds come by themselves.
        let options = DeviceOptions {
            dirty_bytes_max: 4 << 10,
            ancestors_max: 3,
            read_ahead_blocks: 2,
            ..DeviceOptions::USUAL
        };
        let rig = Rig::new(size, 96 << 10, options);
        let device = Some(rig.open());
        let (bytes, checkpoints) = (vec![0; size as usize], BTreeMap::new());
        let mut run = Run { rig, device, bytes, checkpoints };
        for (number, step) in steps.iter().enumerate() {
            run.take(step);
            run.check(&format!("step {number}, {step:?}"));
        }
        run.take(&Step::Reopen);
        run.check("the end");
        for (number, bytes) in &run.checkpoints {
            let image = run.rig.image(&format!("c{number}"));
            assert_same(&all_of(&image), bytes, "a checkpoint");
            prop_assert!(image.ancestor_count() <= 3);
        }
        prop_assert!(run.rig.store.verify(&[]).unwrap().is_sound());
    }
}
