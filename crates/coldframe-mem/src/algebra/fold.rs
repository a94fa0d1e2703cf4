//! Several files as one: flatten and merge.

use std::ops::Range;
use std::time::Instant;

use coldframe_memfile::{AbsentPart, Kind, MemFileBuilder};
use coldframe_storage::Storage;
use coldframe_units::{BLOCK_BYTES, PageSize};

use super::{Rewrite, finish};
use crate::capture::Captured;
use crate::chain::reader::{Reader, Tables};
use crate::chain::sweep::Piece;
use crate::chain::{Layer, Layers, finest, resolve};
use crate::output::{CALL_BYTES, Output};
use crate::{MemError, MemRoot, MemoryFile, Verify};

/// Writes the memory of a chain as one Full file into `storage`, which must be empty.
///
/// # Errors
/// [`MemError::Decode`] and [`MemError::Damaged`] for a source, [`MemError::Build`],
/// [`MemError::NotEmpty`], [`MemError::WritePages`], and as [`Captured::finish`].
pub fn flatten(
    chain: &Layers,
    rewrite: &Rewrite,
    storage: &dyn Storage,
) -> Result<MemRoot, MemError> {
    let started = Instant::now();
    let _span = tracing::info_span!("flatten").entered();
    let (layout, page_size) = (chain.layout(), chain.page_size());
    let builder = MemFileBuilder::full(chain.arch(), page_size, layout, rewrite.producer)?
        .with_absent(top_absent(chain.layers()))?;
    let output = Output::new(storage, builder, page_size, layout.total())?;
    let folded = fold(chain.layers(), page_size, rewrite.verify, output)?;
    finish("chain flattened", started, folded, storage)
}

/// Writes neighbouring Diffs, the oldest first, as one into `storage`, which must be empty.
///
/// # Errors
/// As [`flatten`]; [`MemError::EmptyChain`], [`MemError::WrongKind`], [`MemError::OtherMachine`];
/// [`MemError::Decode`] for one whose parent is not the one before it.
pub fn merge(
    diffs: &[MemoryFile],
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
    let parent = first.parent;
    let parent = parent.expect("a Diff names its parent: checked when it was opened");
    let (layout, page_size) = (&first.layout, finest(&layers));
    let builder = MemFileBuilder::diff(first.arch, page_size, layout, rewrite.producer, parent)?
        .with_absent(top_absent(&layers))?;
    let output = Output::new(storage, builder, page_size, layout.total())?;
    let folded = fold(&layers, page_size, rewrite.verify, output)?;
    finish("diffs merged", started, folded, storage)
}

/// What was not plugged in at the end.
fn top_absent(layers: &[Layer]) -> impl Iterator<Item = AbsentPart> + '_ {
    let top = layers.last().into_iter();
    top.flat_map(|layer| layer.absent.iter().copied())
}

/// Copies what can be seen of the layers, into a file of pages of `page_size`.
fn fold(
    layers: &[Layer],
    page_size: PageSize,
    verify: Verify,
    mut output: Output<'_>,
) -> Result<Captured, MemError> {
    let pieces = resolve(layers)?;
    let tables = Tables::of(layers, verify)?;
    let mut reader = Reader::new(layers, &tables);
    let mut known = Known {
        tables: &tables,
        stretches: stretches(&pieces),
        known: Vec::new(),
    };
    // All of a page is announced at once, and pages may be larger than a call.
    let step = CALL_BYTES.max(page_size.bytes());
    for piece in &pieces {
        if piece.file.is_none() {
            output.zero(&piece.range)?;
            continue;
        }
        let mut next = piece.range.start;
        while next < piece.range.end {
            let part = piece.part(&(next..(next / step + 1) * step));
            next = part.range.end;
            let bytes = reader.read(&part)?.unwrap_or_default();
            output.data(&part.range)?;
            output.add_bytes(bytes)?;
            known.add(&part.range, part.layer)?;
        }
    }
    let mut captured = output.finish()?;
    captured.known = known.known;
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

/// The hashes of source blocks that hold for the new file too.
struct Known<'a> {
    tables: &'a [Tables<'a>],
    stretches: Vec<(Range<u64>, usize)>,
    known: Vec<(u64, [u8; 32])>,
}

impl Known<'_> {
    /// Takes the blocks of a range of `layer`, which were checked; ranges come in rising order.
    fn add(&mut self, range: &Range<u64>, layer: usize) -> Result<(), MemError> {
        let Some(tables) = self.tables.get(layer) else {
            return Ok(());
        };
        for block in range.start / BLOCK_BYTES..range.end.div_ceil(BLOCK_BYTES) {
            if self.known.last().is_some_and(|(last, _)| *last == block) {
                continue;
            }
            let at = self
                .stretches
                .partition_point(|(stretch, _)| stretch.end <= range.start);
            let stretch = &self.stretches[at].0;
            // The last block of RAM may be shorter: it is whole if the stretch reaches that far.
            let end = ((block + 1) * BLOCK_BYTES).min(self.end());
            if stretch.start <= block * BLOCK_BYTES
                && stretch.end >= end
                && let Some(hash) = tables.whole(block)?
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
