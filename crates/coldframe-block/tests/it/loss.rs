//! Any order of steps while chunks and pages of indexes are lost and come back, and while the store
//! fails, against a plain vector of bytes: every write is taken as long as the store is sound, what
//! can be read is right and stays so, and what comes back is all there.

use std::collections::BTreeMap;

use bytes::Bytes;
use coldframe_block::{BlockError, DeviceOptions, Shrink};
use coldframe_chunks::{Chunk, ChunkStore, Folder, Key, Options, PackStore};
use coldframe_storage::Overwrite;
use coldframe_units::{ByteLen, ChunkId};
use proptest::prelude::*;

use crate::backend::Trouble;
use crate::support::{MemDevice, PAGE, Rig, STORE, name, noise, open};

#[derive(Clone, Debug)]
enum Step {
    Pages(u64, u64, u64),
    Bytes(u64, u64, u64),
    Block(u64, u64),
    Zero(u64, u64),
    Fold,
    Checkpoint(u8),
    Reopen,
    Resize(u64),
    /// A chunk of the store is lost, whichever is the so-manieth.
    LoseChunk(u64),
    /// A bit of the rows of an index flips.
    RotIndex(u64),
    /// All that was lost is there again.
    Heal,
    /// The so-manieth call of the store fails, or its answer is lost.
    Fail(u64, bool),
    Full,
    Empty,
}

const PAGES: u64 = 80;
const MAX: usize = 3;

/// Chunks are read from the store each time.
const UNCACHED: Options = Options {
    cache_bytes: 0,
    ..STORE
};

fn step() -> impl Strategy<Value = Step> {
    let page = || 0..PAGES;
    prop_oneof![
        8 => (page(), 1..5_u64, any::<u64>())
            .prop_map(|(page, len, seed)| Step::Pages(page, len, seed)),
        2 => (0..PAGES * PAGE, 1..3 * PAGE, any::<u64>())
            .prop_map(|(at, len, seed)| Step::Bytes(at, len, seed)),
        2 => (0..PAGES / 16, any::<u64>()).prop_map(|(block, seed)| Step::Block(block, seed)),
        3 => (page(), 1..40_u64).prop_map(|(page, len)| Step::Zero(page, len)),
        4 => Just(Step::Fold),
        1 => (0..3_u8).prop_map(Step::Checkpoint),
        2 => Just(Step::Reopen),
        2 => (1..PAGES * PAGE).prop_map(Step::Resize),
        1 => (1..PAGES).prop_map(|page| Step::Resize(page * PAGE)),
        4 => any::<u64>().prop_map(Step::LoseChunk),
        1 => any::<u64>().prop_map(Step::RotIndex),
        1 => Just(Step::Heal),
        2 => (1..30_u64, any::<bool>()).prop_map(|(call, has_effect)| Step::Fail(call, has_effect)),
        1 => Just(Step::Full),
        2 => Just(Step::Empty),
    ]
}

struct Run {
    rig: Rig,
    device: Option<MemDevice>,
    /// What is right, whether it can be read or not.
    bytes: Vec<u8>,
    /// Pages that were not readable when they were last looked at, and were not written since.
    lost: Vec<bool>,
    chunks: BTreeMap<ChunkId, Bytes>,
    rotten: BTreeMap<Key, Bytes>,
    /// How many indexes were ever rotten.
    rot_count: usize,
    /// What the store is to do wrong in the next step.
    planned: Option<Trouble>,
    is_full: bool,
    is_troubled: bool,
}

impl Run {
    fn device(&self) -> &MemDevice {
        self.device.as_ref().unwrap()
    }

    fn reopen(&mut self) {
        self.device = None;
        self.rig.backend.heal();
        self.is_troubled = false;
        let store = PackStore::open_at(self.rig.backend.clone(), UNCACHED).unwrap();
        let device = open(&store, self.rig.log.clone(), self.rig.options);
        self.device = Some(device.unwrap());
    }

    /// Whether a write was taken; it must be, unless the store fails or it is not on the disk.
    fn is_taken(&self, at: u64, len: u64, is_whole: bool, done: Result<(), BlockError>) -> bool {
        let Err(error) = done else { return true };
        let pages = at / PAGE..(at + len).div_ceil(PAGE);
        let lost = pages
            .clone()
            .any(|page| self.lost.get(page as usize) == Some(&true));
        match error {
            BlockError::PastEnd { .. } => assert!(at + len > self.bytes.len() as u64),
            // A call to the store that fails may be the one that reads the rest of the page.
            BlockError::Read { .. } if !is_whole => {
                assert!(lost || self.is_troubled, "{pages:?} can be read");
            }
            error => assert!(self.is_troubled, "{error:?}"),
        }
        false
    }

    fn write(&mut self, at: u64, data: &[u8]) {
        let len = data.len() as u64;
        let is_whole = at.is_multiple_of(PAGE) && len.is_multiple_of(PAGE);
        let done = self.device().write_at(at, data);
        if self.is_taken(at, len, is_whole, done) {
            self.bytes[at as usize..][..data.len()].copy_from_slice(data);
            self.found(at, len);
        }
    }

    fn found(&mut self, at: u64, len: u64) {
        for page in at / PAGE..(at + len).div_ceil(PAGE) {
            self.lost[page as usize] = false;
        }
    }

    /// Takes a step while the store does wrong what is planned.
    fn take_in_trouble(&mut self, step: &Step) {
        let full = self.is_full.then_some(Trouble::Full);
        for trouble in self.planned.take().into_iter().chain(full) {
            self.rig.backend.trouble(trouble);
            self.is_troubled = true;
        }
        self.take(step);
        self.rig.backend.heal();
        self.is_troubled = false;
    }

    fn take(&mut self, step: &Step) {
        let size = self.bytes.len() as u64;
        match *step {
            Step::Pages(page, len, seed) => self.write(page * PAGE, &noise(seed, len * PAGE)),
            Step::Bytes(at, len, seed) => self.write(at, &noise(seed, len)),
            Step::Block(block, seed) => {
                let at = block * 16 * PAGE;
                for part in 0..4 {
                    let len = size.saturating_sub(at + part * 4 * PAGE).min(4 * PAGE) / PAGE * PAGE;
                    self.write(at + part * 4 * PAGE, &noise(seed + part, len));
                }
            }
            Step::Zero(page, len) => {
                let at = (page * PAGE).min(size / PAGE * PAGE);
                let len = (len * PAGE).min(size - at);
                let done = self.device().write_zeroes(at, len);
                if self.is_taken(at, len, true, done) {
                    self.bytes[at as usize..][..len as usize].fill(0);
                    self.found(at, len);
                }
            }
            Step::Fold => {
                let done = self.device().fold();
                assert!(done.is_ok() || self.is_troubled, "{done:?}");
            }
            Step::Checkpoint(number) => {
                let tag = name(&format!("c{number}"));
                let done = self.device().checkpoint(&tag, Overwrite::Replace);
                assert!(done.is_ok() || self.is_troubled, "{done:?}");
            }
            Step::Reopen => self.reopen(),
            Step::Resize(size) => self.resize(size),
            Step::LoseChunk(number) => self.lose_chunk(number),
            Step::RotIndex(number) => self.rot_index(number),
            Step::Heal => self.heal(),
            Step::Fail(call, has_effect) => {
                self.planned = Some(Trouble::Fail(call, has_effect));
            }
            Step::Full => self.is_full = true,
            Step::Empty => self.is_full = false,
        }
    }

    fn resize(&mut self, size: u64) {
        let done = self.device().resize(ByteLen::new(size), Shrink::Allow);
        if let Err(error) = done {
            assert!(self.is_troubled, "{error:?}");
            return;
        }
        self.bytes.resize(size as usize, 0);
        self.lost.resize(size.div_ceil(PAGE) as usize, false);
    }

    fn lose_chunk(&mut self, number: u64) {
        if self.is_troubled {
            return;
        }
        // Nothing is in the log only, and nobody folds meanwhile.
        self.device().fold().unwrap();
        let store = PackStore::open_at(self.rig.backend.clone(), UNCACHED).unwrap();
        let mut ids = Vec::new();
        let listed = store.list(&mut |id, _| {
            ids.push(id);
            std::ops::ControlFlow::Continue(())
        });
        listed.unwrap();
        ids.sort_unstable();
        let Some(id) = ids.get(number as usize % ids.len().max(1)) else {
            return;
        };
        if let Ok(bytes) = store.get(*id) {
            self.chunks.insert(*id, bytes);
        }
        store.delete(&[*id]).unwrap();
        self.look();
    }

    fn rot_index(&mut self, number: u64) {
        if self.is_troubled {
            return;
        }
        self.device().fold().unwrap();
        let keys = self.rig.backend.keys(Folder::Roots);
        let key = &keys[number as usize % keys.len()];
        if self.rotten.contains_key(key) {
            return;
        }
        let file = self.rig.backend.files()[key].clone();
        // The rows begin behind the header: an index without any has its size there, and opens no
        // more. That is another matter.
        let is_row = file[160 + 12] <= 1 && file[160 + 13..160 + 16] == [0; 3] && file.len() > 700;
        if !is_row {
            return;
        }
        self.rig.backend.rot(key, |file| file[160 + 8] ^= 0x40);
        let store = PackStore::open_at(self.rig.backend.clone(), UNCACHED).unwrap();
        let Key::Root(root, _) = key else { return };
        if store.index(*root).is_err() {
            self.rig.backend.rot(key, |file| file[160 + 8] ^= 0x40);
            return;
        }
        self.rotten.insert(key.clone(), file);
        self.rot_count += 1;
        // Rows that are in memory are as good as before.
        self.reopen();
        self.look();
    }

    /// Notes what cannot be read by now.
    fn look(&mut self) {
        let mut page = vec![0; PAGE as usize];
        for number in 0..self.lost.len() {
            let at = number as u64 * PAGE;
            let len = (self.bytes.len() as u64 - at).min(PAGE) as usize;
            self.lost[number] = self.device().read_at(at, &mut page[..len]).is_err();
        }
    }

    fn heal(&mut self) {
        self.rig.backend.heal();
        self.is_troubled = false;
        for (key, file) in std::mem::take(&mut self.rotten) {
            self.rig.backend.rot(&key, |bytes| *bytes = file.to_vec());
        }
        let store = PackStore::open_at(self.rig.backend.clone(), UNCACHED).unwrap();
        for (id, bytes) in std::mem::take(&mut self.chunks) {
            store.put(&Chunk::verify(id, bytes).unwrap()).unwrap();
        }
        store.refresh().unwrap();
        self.reopen();
        self.lost.fill(false);
    }

    fn check(&self, what: &str) {
        let ancestors = self.device().stat().ancestors;
        let most = (MAX + 1) * (self.rot_count + 1);
        assert!(
            ancestors <= most,
            "{ancestors} ancestors, {most} allowed: {what}"
        );
        let mut page = vec![0; PAGE as usize];
        for (number, is_lost) in self.lost.iter().enumerate() {
            let at = number * PAGE as usize;
            let len = (self.bytes.len() - at).min(PAGE as usize);
            match self.device().read_at(at as u64, &mut page[..len]) {
                Ok(()) => assert!(
                    page[..len] == self.bytes[at..][..len],
                    "page {number}: {what}"
                ),
                Err(error) => {
                    assert!(error.is_corrupt(), "{error:?}");
                    assert!(*is_lost, "page {number} cannot be read: {error:?}, {what}");
                }
            }
        }
        let told = self
            .device()
            .extents(0, self.bytes.len() as u64, &mut |_, _| true);
        told.unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    // Spec: BLK-2, BLK-13, BLK-22, BLK-23, BLK-24, BLK-25
    #[test]
    fn whatever_is_lost_the_rest_goes_on_and_comes_back(
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let options = DeviceOptions {
            dirty_bytes_max: 8 << 10,
            ancestors_max: MAX,
            read_ahead_blocks: 0,
            ..DeviceOptions::USUAL
        };
        let rig = Rig::new(PAGES * PAGE - 1234, 96 << 10, options);
        let size = (PAGES * PAGE - 1234) as usize;
        let mut run = Run {
            rig,
            device: None,
            bytes: vec![0; size],
            lost: vec![false; PAGES as usize],
            chunks: BTreeMap::new(),
            rotten: BTreeMap::new(),
            rot_count: 0,
            planned: None,
            is_full: false,
            is_troubled: false,
        };
        run.reopen();
        for (number, step) in steps.iter().enumerate() {
            run.take_in_trouble(step);
            run.check(&format!("step {number}, {step:?}"));
        }
        run.heal();
        run.check("healed");
        run.device().fold().unwrap();
        run.reopen();
        run.check("the end");
    }
}
