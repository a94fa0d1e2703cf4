//! What is known of each block, and the pages that were removed.
//!
//! One byte for a block, zero at first: a table for any amount of memory is made without touching
//! it. Only blocks of which pages were removed have an entry beside that.

use std::collections::HashMap;

use crate::geometry::{BlockIndex, PageMask};

/// The state of the pages of a block that were not removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// The source has them.
    Absent,
    /// They are in memory.
    Resolved,
    /// They are in what memory is a mapping of.
    Mapped,
    /// They cannot be had.
    Failed,
}

#[derive(Debug)]
pub(crate) struct Blocks {
    states: Vec<u8>,
    removed: HashMap<BlockIndex, PageMask>,
    remaining: u64,
    is_completion_told: bool,
}

const ABSENT: u8 = 0;
const RESOLVED: u8 = 1;
const FAILED: u8 = 2;
const MAPPED: u8 = 3;

impl Blocks {
    pub(crate) fn new(count: u64) -> Self {
        Self {
            states: vec![ABSENT; usize::try_from(count).unwrap_or(usize::MAX)],
            removed: HashMap::new(),
            remaining: count,
            is_completion_told: false,
        }
    }

    pub(crate) fn state(&self, block: BlockIndex) -> State {
        let index = usize::try_from(block.get()).unwrap_or(usize::MAX);
        match self.states.get(index) {
            Some(&ABSENT) => State::Absent,
            Some(&RESOLVED) => State::Resolved,
            Some(&MAPPED) => State::Mapped,
            _ => State::Failed,
        }
    }

    /// The pages of a block that were removed.
    pub(crate) fn removed(&self, block: BlockIndex) -> PageMask {
        self.removed.get(&block).copied().unwrap_or_default()
    }

    pub(crate) fn needs_source(&self, block: BlockIndex, all: PageMask) -> bool {
        self.state(block) == State::Absent && !all.without(self.removed(block)).is_empty()
    }

    /// Sets the state of a block that was absent, or failed after all.
    pub(crate) fn set(&mut self, block: BlockIndex, state: State) {
        let was_absent = self.state(block) == State::Absent;
        let index = usize::try_from(block.get()).unwrap_or(usize::MAX);
        if let Some(at) = self.states.get_mut(index) {
            *at = match state {
                State::Absent => ABSENT,
                State::Resolved => RESOLVED,
                State::Mapped => MAPPED,
                State::Failed => FAILED,
            };
            if was_absent && state != State::Absent {
                self.remaining -= 1;
            }
        }
    }

    /// Pages were removed from a block that has `all`. One of which no page is left needs its
    /// source no more.
    pub(crate) fn remove(&mut self, block: BlockIndex, pages: PageMask, all: PageMask) {
        let removed = self.removed.entry(block).or_default();
        *removed = removed.or(pages);
        let is_gone = all.without(*removed).is_empty();
        if is_gone && self.state(block) != State::Resolved {
            self.set(block, State::Resolved);
        }
    }

    pub(crate) const fn remaining(&self) -> u64 {
        self.remaining
    }

    /// True once, when no block needs its source any more.
    pub(crate) const fn take_completion(&mut self) -> bool {
        let is_new = self.remaining == 0 && !self.is_completion_told;
        self.is_completion_told |= is_new;
        is_new
    }

    pub(crate) fn failed(&self) -> impl Iterator<Item = BlockIndex> + '_ {
        let states = self.states.iter().zip(0..);
        states
            .filter(|(state, _)| **state == FAILED)
            .map(|(_, index)| BlockIndex::new(index))
    }
}
