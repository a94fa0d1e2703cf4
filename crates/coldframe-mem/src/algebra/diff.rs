//! What lies between two memories.

use std::ops::Range;
use std::time::Instant;

use coldframe_memfile::MemFileBuilder;
use coldframe_storage::{RawPart, Storage};
use coldframe_units::BLOCK_BYTES;

use super::{Rewrite, finish};
use crate::chain::sweep::Piece;
use crate::chain::{Chain, Layer, resolve};
use crate::output::Output;
use crate::restore::Checker;
use crate::{MemError, MemRoot, Verify};

/// Writes what turns the memory of `a` into that of `b` as a Diff on `a` into `storage`, which
/// must be empty.
///
/// # Errors
/// [`MemError::OtherMachine`]; else as [`crate::flatten`].
pub fn diff(
    a: &Chain,
    b: &Chain,
    rewrite: &Rewrite,
    storage: &dyn Storage,
) -> Result<MemRoot, MemError> {
    let started = Instant::now();
    let _span = tracing::info_span!("diff").entered();
    let (top, base) = (&b.layers()[b.len() - 1], &a.layers()[0]);
    top.check_machine(base)?;
    let page_size = a.page_size().min(b.page_size());
    let layout = a.layout();
    let builder = MemFileBuilder::diff(a.arch(), page_size, layout, rewrite.producer, a.root())?;
    let mut output = Output::new(storage, builder, page_size, layout.total())?;
    let (old, new) = (Side::new(a, rewrite)?, Side::new(b, rewrite)?);
    let mut olds = resolve(a.layers())?.into_iter();
    let mut news = resolve(b.layers())?.into_iter();
    let (mut left, mut right) = (olds.next(), news.next());
    // Both cover all of RAM: wherever one begins, the other is there too.
    while let (Some(from), Some(to)) = (&left, &right) {
        let range = from.range.start.max(to.range.start)..from.range.end.min(to.range.end);
        let (from, to) = (from.part(&range), to.part(&range));
        if !is_same(&old, &from, &new, &to) {
            compare(&old, &from, &new, &to, page_size.bytes(), &mut output)?;
        }
        if left
            .as_ref()
            .is_some_and(|piece| piece.range.end == range.end)
        {
            left = olds.next();
        }
        if right
            .as_ref()
            .is_some_and(|piece| piece.range.end == range.end)
        {
            right = news.next();
        }
    }
    finish("memories compared", started, output.finish()?, storage)
}

/// One of the two memories.
struct Side<'a> {
    layers: &'a [Layer],
    checkers: Vec<Checker<'a>>,
}

impl<'a> Side<'a> {
    fn new(chain: &'a Chain, rewrite: &Rewrite) -> Result<Self, MemError> {
        Ok(Self {
            layers: chain.layers(),
            checkers: match rewrite.verify {
                Verify::Yes => Checker::of(chain.layers())?,
                Verify::No => Vec::new(),
            },
        })
    }

    /// The bytes of a piece, checked; `None` if they are zero.
    fn bytes(&self, piece: &Piece) -> Result<Option<&'a [u8]>, MemError> {
        let Some(file) = piece.file else {
            return Ok(None);
        };
        if let Some(checker) = self.checkers.get(piece.layer) {
            checker.check(piece.range.start)?;
        }
        let len = piece.range.end - piece.range.start;
        Ok(Some(self.layers[piece.layer].bytes(file, len)))
    }
}

/// Whether it can be told without reading that both are the same.
fn is_same(old: &Side<'_>, from: &Piece, new: &Side<'_>, to: &Piece) -> bool {
    match (from.file, to.file) {
        (None, None) => true,
        (Some(one), Some(other)) => {
            one == other && old.layers[from.layer].root == new.layers[to.layer].root
        }
        _ => false,
    }
}

/// Compares two pieces of the same range, block by block and then page by page.
fn compare<'a>(
    old: &Side<'_>,
    from: &Piece,
    new: &Side<'a>,
    to: &Piece,
    page: u64,
    output: &mut Output<'a>,
) -> Result<(), MemError> {
    let mut next = from.range.start;
    while next < from.range.end {
        let range = next..from.range.end.min((next / BLOCK_BYTES + 1) * BLOCK_BYTES);
        next = range.end;
        let before = old.bytes(&from.part(&range))?;
        let after = new.bytes(&to.part(&range))?;
        if let (Some(before), Some(after)) = (before, after)
            && before == after
        {
            continue;
        }
        for start in range.clone().step_by(page as usize) {
            let one = start..start + page;
            let cut = (start - range.start) as usize..(one.end - range.start) as usize;
            let before = nonzero(before.map(|bytes| &bytes[cut.clone()]));
            let after = nonzero(after.map(|bytes| &bytes[cut.clone()]));
            if before != after {
                put(output, &one, after)?;
            }
        }
    }
    Ok(())
}

/// `None` for bytes that are all zero.
fn nonzero(bytes: Option<&[u8]>) -> Option<&[u8]> {
    bytes.filter(|bytes| bytes.iter().any(|byte| *byte != 0))
}

fn put<'a>(
    output: &mut Output<'a>,
    page: &Range<u64>,
    bytes: Option<&'a [u8]>,
) -> Result<(), MemError> {
    match bytes {
        None => output.zero(page),
        Some(bytes) => {
            output.data(page)?;
            output.add(RawPart::from(bytes))
        }
    }
}
