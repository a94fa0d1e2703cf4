//! Enumeration of the images that a power cut may leave.

use crate::crash::Op;
use crate::rng::Rng;

/// Up to this many unsynced sectors all combinations are tried.
const EXHAUSTIVE_PIECES: u32 = 12;

/// What an unsynced sector that did not get to the disk shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fill {
    Old,
    Zeros,
    Rubbish,
}

const FILLS: [Fill; 3] = [Fill::Old, Fill::Zeros, Fill::Rubbish];

#[derive(Clone, Debug)]
enum Piece {
    Write { offset: usize, bytes: Vec<u8> },
    SetLen(usize),
}

/// The images, one after the other.
#[derive(Debug)]
pub struct CrashStates {
    durable: Vec<u8>,
    pieces: Vec<Piece>,
    rng: Rng,
    next: usize,
    budget: usize,
    exhaustive: bool,
}

impl CrashStates {
    pub(crate) fn new(
        initial: Vec<u8>,
        past: &[Op],
        sector: usize,
        seed: u64,
        budget: usize,
    ) -> Self {
        let synced = past.iter().rposition(|op| *op == Op::Sync);
        let (kept, pending) = past.split_at(synced.map_or(0, |last| last + 1));
        let mut durable = initial;
        for piece in kept.iter().flat_map(|op| pieces(op, usize::MAX)) {
            apply(&mut durable, &piece);
        }
        let pieces: Vec<Piece> = pending.iter().flat_map(|op| pieces(op, sector)).collect();
        let few = pieces.len() <= EXHAUSTIVE_PIECES as usize;
        let all = if few { 3 << pieces.len() } else { usize::MAX };
        Self {
            durable,
            pieces,
            rng: Rng::new(seed),
            next: 0,
            budget: budget.min(all),
            exhaustive: all <= budget,
        }
    }

    /// Whether every possible image is among them.
    #[must_use]
    pub const fn is_exhaustive(&self) -> bool {
        self.exhaustive
    }

    /// Which pieces got to the disk in image number `index`.
    fn choice(&mut self, index: usize) -> Vec<bool> {
        let count = self.pieces.len();
        if self.exhaustive {
            let mask = index / FILLS.len();
            return (0..count).map(|piece| mask >> piece & 1 == 1).collect();
        }
        let last = count.saturating_sub(1);
        (0..count)
            .map(|piece| match index / FILLS.len() {
                0 => false,
                1 => true,
                2 => piece == last,
                3 => piece != last,
                4 => piece != 0,
                5 => piece == 0,
                _ => self.rng.below(2) == 1,
            })
            .collect()
    }
}

impl Iterator for CrashStates {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        if self.next >= self.budget {
            return None;
        }
        let fill = FILLS[self.next % FILLS.len()];
        let choice = self.choice(self.next);
        self.next += 1;
        let mut image = self.durable.clone();
        for (piece, written) in self.pieces.iter().zip(choice) {
            match (piece, written, fill) {
                (_, true, _) => apply(&mut image, piece),
                (Piece::SetLen(_), false, _) | (_, false, Fill::Old) => {}
                (Piece::Write { offset, bytes }, false, fill) => {
                    let mut bytes = vec![0; bytes.len()];
                    if fill == Fill::Rubbish {
                        self.rng.fill(&mut bytes);
                    }
                    // Beyond the end there is nothing yet to show.
                    let room = image.len().saturating_sub(*offset);
                    bytes.truncate(room);
                    let offset = *offset;
                    apply(&mut image, &Piece::Write { offset, bytes });
                }
            }
        }
        Some(image)
    }
}

/// An operation cut where sectors meet.
fn pieces(op: &Op, sector: usize) -> Vec<Piece> {
    match op {
        Op::Sync => Vec::new(),
        Op::SetLen(len) => vec![Piece::SetLen(usize::try_from(*len).unwrap_or(usize::MAX))],
        Op::Write { offset, bytes } => {
            let mut offset = usize::try_from(*offset).unwrap_or(usize::MAX);
            let mut rest = bytes.as_slice();
            let mut pieces = Vec::new();
            while !rest.is_empty() {
                let room = (sector - offset % sector).min(rest.len());
                let (piece, behind) = rest.split_at(room);
                let bytes = piece.to_vec();
                pieces.push(Piece::Write { offset, bytes });
                offset += room;
                rest = behind;
            }
            pieces
        }
    }
}

fn apply(image: &mut Vec<u8>, piece: &Piece) {
    match piece {
        Piece::SetLen(len) => image.resize(*len, 0),
        Piece::Write { bytes, .. } if bytes.is_empty() => {}
        Piece::Write { offset, bytes } => {
            let end = offset + bytes.len();
            if image.len() < end {
                image.resize(end, 0);
            }
            image[*offset..end].copy_from_slice(bytes);
        }
    }
}
