//! Which pieces of unsynced work got to the disk: every combination of few, a sample of many.
//!
//! Invariant: equal pieces, seed and budget give equal fates, so that a violation can be repeated.

use crate::rng::Rng;

/// Up to this many pieces all combinations are tried.
const EXHAUSTIVE_PIECES: usize = 12;
/// Rounds of a sample that are not drawn: none, all, and those that differ from them by one piece.
const EXTREMES: usize = 6;
/// Most states with a write cut short that are added to an exhaustive enumeration.
const SHORTS: usize = 8;

/// What is cut into sectors, and what is not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Bytes of one sector, so many.
    Data(usize),
    /// A name in a directory.
    Name,
    /// A length or a mode.
    Attribute,
}

/// What became of one piece.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It is on the disk.
    Written,
    /// It is not: what was there before is still there.
    Old,
    /// It is not: its place reads as zeros.
    Zeros,
    /// It is not: its place reads as rubbish, made of this seed.
    Rubbish(u64),
    /// Its first bytes are on the disk, so many; behind them the old ones.
    Short(usize),
}

/// The fates of all pieces, state by state.
#[derive(Debug)]
pub(crate) struct Fates {
    kinds: Vec<Kind>,
    rng: Rng,
    next: usize,
    end: usize,
    // So many states are all combinations.
    all: usize,
    exhaustive: bool,
}

impl Fates {
    pub fn new(kinds: Vec<Kind>, seed: u64, budget: usize) -> Self {
        let count = kinds.len();
        let data = kinds.iter().filter(|kind| is_divisible(**kind)).count();
        let fills = if kinds.iter().any(|kind| matches!(kind, Kind::Data(_))) {
            3
        } else {
            1
        };
        let all = if count <= EXHAUSTIVE_PIECES {
            fills << count
        } else {
            usize::MAX
        };
        let exhaustive = all <= budget;
        let shorts = if exhaustive { SHORTS.min(2 * data) } else { 0 };
        Self {
            kinds,
            rng: Rng::new(seed),
            next: 0,
            end: budget.min(all.saturating_add(shorts)),
            all,
            exhaustive,
        }
    }

    pub const fn is_exhaustive(&self) -> bool {
        self.exhaustive
    }

    /// State number `index` of all combinations.
    fn combination(&mut self, index: usize) -> Vec<Fate> {
        let pieces = 0..self.kinds.len();
        let written: Vec<bool> = pieces.map(|piece| index >> piece & 1 == 1).collect();
        self.fates(&written, index >> self.kinds.len())
    }

    fn fates(&mut self, written: &[bool], fill: usize) -> Vec<Fate> {
        let rng = &mut self.rng;
        let kinds = self.kinds.iter().zip(written);
        let fate = |(kind, written): (&Kind, &bool)| match (written, kind, fill) {
            (true, _, _) => Fate::Written,
            (false, Kind::Data(_), 1) => Fate::Zeros,
            (false, Kind::Data(_), 2) => Fate::Rubbish(rng.next_u64()),
            _ => Fate::Old,
        };
        kinds.map(fate).collect()
    }

    /// A state that is drawn.
    fn sample(&mut self, round: usize) -> Vec<Fate> {
        let count = self.kinds.len();
        let last = count.saturating_sub(1);
        let fill = round % 3;
        let choose = |wanted: &dyn Fn(usize) -> bool| (0..count).map(wanted).collect::<Vec<_>>();
        let written = match round / 3 {
            0 => choose(&|_| false),
            1 => choose(&|_| true),
            2 => choose(&|piece| piece == last),
            3 => choose(&|piece| piece != last),
            4 => choose(&|piece| piece != 0),
            5 => choose(&|piece| piece == 0),
            _ => self.draw(),
        };
        let mut fates = self.fates(&written, fill);
        if round / 3 >= EXTREMES && self.rng.below(4) == 0 {
            self.cut_one_short(&mut fates);
        }
        fates
    }

    /// In the order of the program, or in any; names as a journal has them, or in any order.
    fn draw(&mut self) -> Vec<bool> {
        let count = self.kinds.len();
        if self.rng.below(4) == 0 {
            let kept = self.rng.below(count as u64 + 1) as usize;
            return (0..count).map(|piece| piece < kept).collect();
        }
        // Dense, sparse or even.
        let odds = 1 + self.rng.below(7);
        let rng = &mut self.rng;
        let mut written: Vec<bool> = (0..count).map(|_| rng.below(8) < odds).collect();
        if self.rng.below(2) == 0 {
            let kept = self.rng.below(count as u64 + 1) as usize;
            for (piece, kind) in self.kinds.iter().enumerate() {
                if *kind == Kind::Name {
                    written[piece] = piece < kept;
                }
            }
        }
        written
    }

    fn cut_one_short(&mut self, fates: &mut [Fate]) {
        let divisible: Vec<usize> = (0..self.kinds.len())
            .filter(|piece| is_divisible(self.kinds[*piece]))
            .collect();
        if divisible.is_empty() {
            return;
        }
        let piece = divisible[self.rng.below(divisible.len() as u64) as usize];
        if let Kind::Data(len) = self.kinds[piece] {
            fates[piece] = Fate::Short(1 + self.rng.below(len as u64 - 1) as usize);
        }
    }
}

const fn is_divisible(kind: Kind) -> bool {
    matches!(kind, Kind::Data(2..))
}

impl Iterator for Fates {
    type Item = Vec<Fate>;

    fn next(&mut self) -> Option<Vec<Fate>> {
        if self.next >= self.end {
            return None;
        }
        let index = self.next;
        self.next += 1;
        Some(if !self.exhaustive {
            self.sample(index)
        } else if index < self.all {
            self.combination(index)
        } else {
            let written = self.draw();
            let mut fates = self.fates(&written, index % 3);
            self.cut_one_short(&mut fates);
            fates
        })
    }
}
