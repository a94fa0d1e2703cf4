//! What lies between two memories.

use std::ops::Range;
use std::time::Instant;

use coldframe_memfile::MemFileBuilder;
use coldframe_storage::Storage;
use coldframe_units::BLOCK_BYTES;

use super::{Rewrite, finish};
use crate::chain::reader::{Reader, Tables};
use crate::chain::sweep::Piece;
use crate::chain::{Layers, resolve};
use crate::output::Output;
use crate::{MemError, MemRoot};

/// Writes what turns the memory of `a` into that of `b` as a Diff on `a` into `storage`, which
/// must be empty.
///
/// # Errors
/// [`MemError::OtherMachine`]; else as [`crate::flatten`].
pub fn diff(
    a: &Layers,
    b: &Layers,
    rewrite: &Rewrite,
    storage: &dyn Storage,
) -> Result<MemRoot, MemError> {
    let started = Instant::now();
    let _span = tracing::info_span!("diff").entered();
    let (top, base) = (&b.layers()[b.len() - 1], &a.layers()[0]);
    top.check_machine(base)?;
    let page_size = a.page_size().min(b.page_size());
    let layout = a.layout();
    let builder = MemFileBuilder::diff(a.arch(), page_size, layout, rewrite.producer, a.root())?
        .with_absent(top.absent.iter().copied())?;
    let mut output = Output::new(storage, builder, page_size, layout.total())?;
    let old_tables = Tables::of(a.layers(), rewrite.verify)?;
    let new_tables = Tables::of(b.layers(), rewrite.verify)?;
    let mut old = Reader::new(a.layers(), &old_tables);
    let mut new = Reader::new(b.layers(), &new_tables);
    let mut olds = resolve(a.layers())?.into_iter();
    let mut news = resolve(b.layers())?.into_iter();
    let (mut left, mut right) = (olds.next(), news.next());
    // Both cover all of RAM: wherever one begins, the other is there too.
    while let (Some(from), Some(to)) = (&left, &right) {
        let range = from.range.start.max(to.range.start)..from.range.end.min(to.range.end);
        let (from, to) = (from.part(&range), to.part(&range));
        if !is_same(a, &from, b, &to) {
            compare(
                (&mut old, &from),
                (&mut new, &to),
                page_size.bytes(),
                &mut output,
            )?;
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

/// Whether it can be told without reading that both are the same.
fn is_same(a: &Layers, from: &Piece, b: &Layers, to: &Piece) -> bool {
    match (from.file, to.file) {
        (None, None) => true,
        (Some(one), Some(other)) => {
            one == other && a.layers()[from.layer].root == b.layers()[to.layer].root
        }
        _ => false,
    }
}

/// Compares two pieces of the same range, block by block and then page by page. A page may be
/// larger than a block, and then is read whole.
fn compare(
    (old, from): (&mut Reader<'_>, &Piece),
    (new, to): (&mut Reader<'_>, &Piece),
    page: u64,
    output: &mut Output<'_>,
) -> Result<(), MemError> {
    let step = BLOCK_BYTES.max(page);
    let mut next = from.range.start;
    while next < from.range.end {
        let range = next..from.range.end.min((next / step + 1) * step);
        next = range.end;
        let before = old.read(&from.part(&range))?;
        let after = new.read(&to.part(&range))?;
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

fn put(output: &mut Output<'_>, page: &Range<u64>, bytes: Option<&[u8]>) -> Result<(), MemError> {
    match bytes {
        None => output.zero(page),
        Some(bytes) => {
            output.data(page)?;
            output.add_bytes(bytes)
        }
    }
}
