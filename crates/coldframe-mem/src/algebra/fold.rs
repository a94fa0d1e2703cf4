//! Several files as one: flatten and merge.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use coldframe_memfile::{Kind, MemFileBuilder};
use coldframe_storage::{MappedFile, RawPart, Storage};
use coldframe_units::BLOCK_BYTES;

use super::{Rewrite, finish};
use crate::capture::Captured;
use crate::chain::sweep::Piece;
use crate::chain::{Chain, Layer, finest, resolve};
use crate::output::{CALL_BYTES, Output};
use crate::restore::Checker;
use crate::{MemError, MemRoot, Verify};

/// Writes the memory of a chain as one Full file into `storage`, which must be empty.
///
/// # Errors
/// [`MemError::Decode`] and [`MemError::Damaged`] for a source, [`MemError::Build`],
/// [`MemError::NotEmpty`], [`MemError::WritePages`], and as [`Captured::finish`].
pub fn flatten(
    chain: &Chain,
    rewrite: &Rewrite,
    storage: &dyn Storage,
) -> Result<MemRoot, MemError> {
    let started = Instant::now();
    let _span = tracing::info_span!("flatten").entered();
    let (layout, page_size) = (chain.layout(), chain.page_size());
    let builder = MemFileBuilder::full(chain.arch(), page_size, layout, rewrite.producer)?;
    let output = Output::new(storage, builder, page_size, layout.total())?;
    let folded = fold(chain.layers(), rewrite.verify, output)?;
    finish("chain flattened", started, folded, storage)
}

/// Writes neighbouring Diffs, the oldest first, as one into `storage`, which must be empty.
///
/// # Errors
/// As [`flatten`]; [`MemError::EmptyChain`], [`MemError::WrongKind`], [`MemError::OtherMachine`];
/// [`MemError::Decode`] for one whose parent is not the one before it.
pub fn merge(
    diffs: &[Arc<MappedFile>],
    rewrite: &Rewrite,
    storage: &dyn Storage,
) -> Result<MemRoot, MemError> {
    let started = Instant::now();
    let _span = tracing::info_span!("merge").entered();
    let layers: Result<Vec<Layer>, _> = diffs.iter().cloned().map(Layer::open).collect();
    let layers = layers?;
    let first = layers.first().ok_or(MemError::EmptyChain)?;
    first.check_kind(Kind::Diff)?;
    for (parent, diff) in layers.iter().zip(&layers[1..]) {
        diff.check_follows(parent)?;
    }
    let parent = first.view()?.parent_root();
    let parent = parent.expect("a Diff names its parent: checked when it was opened");
    let (layout, page_size) = (&first.layout, finest(&layers));
    let builder = MemFileBuilder::diff(first.arch, page_size, layout, rewrite.producer, parent)?;
    let output = Output::new(storage, builder, page_size, layout.total())?;
    let folded = fold(&layers, rewrite.verify, output)?;
    finish("diffs merged", started, folded, storage)
}

/// Copies what can be seen of the layers.
fn fold<'a>(
    layers: &'a [Layer],
    verify: Verify,
    mut output: Output<'a>,
) -> Result<Captured, MemError> {
    let pieces = resolve(layers)?;
    let mut source = Source {
        checkers: match verify {
            Verify::Yes => Checker::of(layers)?,
            Verify::No => Vec::new(),
        },
        stretches: stretches(&pieces),
        known: Vec::new(),
    };
    for piece in &pieces {
        let Some(file) = piece.file else {
            output.zero(&piece.range)?;
            continue;
        };
        let mut next = piece.range.start;
        while next < piece.range.end {
            let range = next..piece.range.end.min((next / CALL_BYTES + 1) * CALL_BYTES);
            source.check(&range, piece.layer)?;
            output.data(&range)?;
            let bytes = layers[piece.layer]
                .bytes(file + (next - piece.range.start), range.end - range.start);
            output.add(RawPart::from(bytes))?;
            next = range.end;
        }
    }
    let mut captured = output.finish()?;
    captured.known = source.known;
    Ok(captured)
}

/// Runs of pieces out of one file, data and zeros alike.
fn stretches(pieces: &[Piece]) -> Vec<(Range<u64>, usize)> {
    let mut stretches: Vec<(Range<u64>, usize)> = Vec::new();
    for piece in pieces {
        match stretches.last_mut() {
            Some((range, layer)) if range.end == piece.range.start && *layer == piece.layer => {
                range.end = piece.range.end;
            }
            _ => stretches.push((piece.range.clone(), piece.layer)),
        }
    }
    stretches
}

/// Checks source blocks, and keeps the hashes that hold for the new file too.
struct Source<'a> {
    checkers: Vec<Checker<'a>>,
    stretches: Vec<(Range<u64>, usize)>,
    known: Vec<(u64, [u8; 32])>,
}

impl Source<'_> {
    /// Checks the blocks of a range of `layer`; ranges come in rising order.
    fn check(&mut self, range: &Range<u64>, layer: usize) -> Result<(), MemError> {
        let Some(checker) = self.checkers.get(layer) else {
            return Ok(());
        };
        for block in range.start / BLOCK_BYTES..range.end.div_ceil(BLOCK_BYTES) {
            let hash = checker.check(block * BLOCK_BYTES)?;
            if self.known.last().is_some_and(|(last, _)| *last == block) {
                continue;
            }
            let at = self
                .stretches
                .partition_point(|(stretch, _)| stretch.end <= range.start);
            let stretch = &self.stretches[at].0;
            // The last block of RAM may be shorter: it is whole if the stretch reaches that far.
            let end = ((block + 1) * BLOCK_BYTES).min(self.end());
            if let Some(hash) = hash
                && stretch.start <= block * BLOCK_BYTES
                && stretch.end >= end
            {
                self.known.push((block, hash));
            }
        }
        Ok(())
    }

    fn end(&self) -> u64 {
        self.stretches.last().map_or(0, |(stretch, _)| stretch.end)
    }
}
