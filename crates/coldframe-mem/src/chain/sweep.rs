//! One pass over the extents of all files of a chain: for each stretch of RAM the youngest wins.
//!
//! Invariants: each source is ascending and does not overlap itself; it is in one of three states:
//! waiting for the pass to reach its next piece, active, or at its end. A piece that a younger one
//! hides is dropped when it would be its turn, so each costs one look: the whole pass takes
//! O(n log l) for n extents in l files.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::ops::Range;

/// A stretch of RAM out of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// In RAM offset space.
    pub range: Range<u64>,
    /// The number of its file.
    pub layer: usize,
    /// Where its first byte is in the file; `None` if it is zero.
    pub file: Option<u64>,
}

impl Piece {
    /// The part of it in `range`, which overlaps it.
    pub fn part(&self, range: &Range<u64>) -> Self {
        let start = self.range.start.max(range.start);
        let end = self.range.end.min(range.end);
        Self {
            range: start..end,
            layer: self.layer,
            file: self.file.map(|file| file + (start - self.range.start)),
        }
    }

    /// Whether `next` goes on where this ends, in RAM and in the file.
    pub fn continues_with(&self, next: &Self) -> bool {
        let len = self.range.end - self.range.start;
        self.range.end == next.range.start
            && self.layer == next.layer
            && self.file.map(|file| file + len) == next.file
    }
}

/// Adds a piece behind the others, to the last one if it continues that.
pub(crate) fn push(pieces: &mut Vec<Piece>, piece: Piece) {
    match pieces.last_mut() {
        Some(last) if last.continues_with(&piece) => last.range.end = piece.range.end,
        _ => pieces.push(piece),
    }
}

/// The pieces that can be seen from the last source down.
pub(crate) fn sweep<I: Iterator<Item = Piece>>(sources: Vec<I>) -> Vec<Piece> {
    let mut pass = Pass {
        sources,
        waiting: BinaryHeap::new(),
        active: BTreeMap::new(),
        next: BTreeMap::new(),
    };
    for layer in 0..pass.sources.len() {
        pass.advance(layer, 0);
    }
    let mut seen = Vec::new();
    let mut at = 0;
    loop {
        pass.activate(at);
        let soonest = pass.waiting.peek().map(|Reverse((start, _))| *start);
        let Some((layer, top)) = pass.active.last_key_value() else {
            match soonest {
                Some(start) => at = start,
                None => return seen,
            }
            continue;
        };
        let layer = *layer;
        if top.range.end <= at {
            pass.active.remove(&layer);
            pass.advance(layer, at);
            continue;
        }
        let end = soonest.map_or(top.range.end, |start| top.range.end.min(start));
        push(&mut seen, top.part(&(at..end)));
        at = end;
    }
}

struct Pass<I> {
    sources: Vec<I>,
    /// Where the next piece of a source begins, of those that the pass has not reached.
    waiting: BinaryHeap<Reverse<(u64, usize)>>,
    /// The piece of a source that the pass is in, or has passed while a younger one hid it.
    active: BTreeMap<usize, Piece>,
    /// The pieces that are waited for.
    next: BTreeMap<usize, Piece>,
}

impl<I: Iterator<Item = Piece>> Pass<I> {
    /// Takes the next piece of a source that does not lie wholly before `at`.
    fn advance(&mut self, layer: usize, at: u64) {
        let source = &mut self.sources[layer];
        if let Some(piece) = source.find(|piece| piece.range.end > at) {
            self.waiting.push(Reverse((piece.range.start, layer)));
            self.next.insert(layer, piece);
        }
    }

    /// Makes what begins at `at` or before active.
    fn activate(&mut self, at: u64) {
        while let Some(Reverse((start, layer))) = self.waiting.peek().copied()
            && start <= at
        {
            self.waiting.pop();
            if let Some(piece) = self.next.remove(&layer) {
                self.active.insert(layer, piece);
            }
        }
    }
}
