//! Enumeration of the images that a power cut may leave of one file.

use crate::crash::Op;
use crate::crash::fates::{Fate, Fates, Kind};
use crate::rng::Rng;

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
    // The operation that each piece is of.
    owners: Vec<usize>,
    fates: Fates,
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
        let first = synced.map_or(0, |last| last + 1);
        let (kept, pending) = past.split_at(first);
        let mut durable = initial;
        for piece in kept.iter().flat_map(|op| pieces(op, usize::MAX)) {
            apply(&mut durable, &piece);
        }
        let numbered = pending.iter().enumerate();
        let (owners, pieces): (Vec<usize>, Vec<Piece>) = numbered
            .flat_map(|(number, op)| {
                let pieces = pieces(op, sector).into_iter();
                pieces.map(move |piece| (first + number, piece))
            })
            .unzip();
        let kinds = pieces.iter().map(|piece| match piece {
            Piece::Write { bytes, .. } => Kind::Data(bytes.len()),
            Piece::SetLen(_) => Kind::Attribute,
        });
        let fates = Fates::new(kinds.collect(), seed, budget);
        Self {
            durable,
            pieces,
            owners,
            fates,
        }
    }

    /// Whether every combination of whole sectors is among them.
    #[must_use]
    pub const fn is_exhaustive(&self) -> bool {
        self.fates.is_exhaustive()
    }

    /// The fates of the unsynced pieces in the next image.
    pub(crate) fn next_fates(&mut self) -> Option<Vec<Fate>> {
        self.fates.next()
    }

    /// The image that these fates leave.
    pub(crate) fn image(&self, fates: &[Fate]) -> Vec<u8> {
        let mut image = self.durable.clone();
        for (piece, fate) in self.pieces.iter().zip(fates) {
            match piece {
                Piece::SetLen(_) if *fate == Fate::Written => apply(&mut image, piece),
                Piece::SetLen(_) => {}
                Piece::Write { offset, bytes } => {
                    let there = image.get(*offset..).unwrap_or_default();
                    let (skipped, bytes) = left_by(*fate, bytes, there);
                    let offset = *offset + skipped;
                    apply(&mut image, &Piece::Write { offset, bytes });
                }
            }
        }
        image
    }

    /// What got lost, a line for each piece.
    pub(crate) fn losses(&self, fates: &[Fate]) -> Vec<String> {
        let mut losses = Vec::new();
        for ((piece, owner), fate) in self.pieces.iter().zip(&self.owners).zip(fates) {
            if *fate == Fate::Written {
                continue;
            }
            let what = match piece {
                Piece::Write { offset, bytes } => format!("{} bytes at {offset:#x}", bytes.len()),
                Piece::SetLen(len) => format!("length {len}"),
            };
            losses.push(format!("of operation {owner}: {what}: {fate:?}"));
        }
        losses
    }
}

impl Iterator for CrashStates {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let fates = self.fates.next()?;
        Some(self.image(&fates))
    }
}

/// What stands where `bytes` were written over `there`, which goes on to the end of the file, and
/// how far behind the begin of the write. Bytes at both ends of the sector that are the same before
/// and after are never harmed, and nothing is shown beyond the end of the file.
pub(crate) fn left_by(fate: Fate, bytes: &[u8], there: &[u8]) -> (usize, Vec<u8>) {
    let pairs = || bytes.iter().zip(there);
    let skipped = pairs().take_while(|(new, old)| new == old).count();
    let changed = pairs().rposition(|(new, old)| new != old);
    let end = changed.map_or(skipped, |last| last + 1);
    let left = match fate {
        Fate::Written => return (0, bytes.to_vec()),
        Fate::Short(len) => return (0, bytes[..len].to_vec()),
        Fate::Old => Vec::new(),
        Fate::Zeros => vec![0; end - skipped],
        Fate::Rubbish(seed) => Rng::new(seed).bytes(end - skipped),
    };
    (skipped, left)
}

/// An operation cut where sectors meet.
fn pieces(op: &Op, sector: usize) -> Vec<Piece> {
    match op {
        Op::Sync => Vec::new(),
        Op::SetLen(len) => vec![Piece::SetLen(usize::try_from(*len).unwrap_or(usize::MAX))],
        Op::Write { offset, bytes } => {
            let offset = usize::try_from(*offset).unwrap_or(usize::MAX);
            let cut = by_sector(offset, bytes, sector);
            let piece = |(offset, bytes): (usize, &[u8])| Piece::Write {
                offset,
                bytes: bytes.to_vec(),
            };
            cut.into_iter().map(piece).collect()
        }
    }
}

/// Bytes at an offset, cut where sectors meet.
pub(crate) fn by_sector(mut offset: usize, bytes: &[u8], sector: usize) -> Vec<(usize, &[u8])> {
    let mut rest = bytes;
    let mut cut = Vec::new();
    while !rest.is_empty() {
        let room = (sector - offset % sector).min(rest.len());
        let (piece, behind) = rest.split_at(room);
        cut.push((offset, piece));
        offset += room;
        rest = behind;
    }
    cut
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
