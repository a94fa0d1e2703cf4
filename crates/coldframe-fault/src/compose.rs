//! A block of memory put together from the memory files that have a part of it, the youngest first.
//!
//! Invariant: no byte is put in that was not checked in the buffer that it is copied from; where no
//! extent has a page, or one says that it is zero, no file is read.

use std::ops::Range;

use coldframe_envelope::DecodeError;
use coldframe_memfile::{BlockPlan, BlockRow, Blocks, Content as Stored, Extents};
use coldframe_units::{BLOCK_BYTES, FileOffset, PageSize, RamOffset};

use crate::Content;

/// Where the data of one memory file is.
pub(crate) trait LayerBytes {
    /// What can go wrong.
    type Error;

    /// Fills `data` with all data that the file has of a block, checked against its hash there.
    fn read(&self, plan: &BlockPlan, row: &BlockRow, data: &mut [u8]) -> Result<(), Self::Error>;

    /// The file's tables are not sound.
    fn refused(&self, source: DecodeError) -> Self::Error;

    /// A block is not what was saved.
    fn damaged(&self, block: u64, offset: FileOffset) -> Self::Error;
}

/// One memory file.
#[derive(Debug)]
pub(crate) struct Layer<'a, L> {
    pub(crate) bytes: L,
    pub(crate) page_size: PageSize,
    pub(crate) extents: Extents<'a>,
    pub(crate) blocks: Blocks<'a>,
}

/// Places in a block that no file so far has.
type Gaps = Vec<Range<usize>>;

/// Reads a block from `layers`, the youngest first. `scratch` is room for a block.
pub(crate) fn compose<L: LayerBytes>(
    layers: &[Layer<'_, L>],
    block: u64,
    buf: &mut [u8],
    scratch: &mut Vec<u8>,
) -> Result<Content, L::Error> {
    let mut gaps = Gaps::new();
    gaps.push(0..buf.len());
    let mut content = Content::Zero;
    for layer in layers {
        if gaps.is_empty() {
            break;
        }
        if layer.add(block, buf, &mut gaps, scratch)? {
            content = Content::Data;
        }
    }
    for gap in gaps {
        // A Full file covers everything, so there is none; it would be zero in it.
        buf.get_mut(gap).unwrap_or_default().fill(0);
    }
    Ok(content)
}

impl<L: LayerBytes> Layer<'_, L> {
    /// Puts what this file has of a block into the gaps, and takes them out; true if any of it is
    /// data.
    fn add(
        &self,
        block: u64,
        buf: &mut [u8],
        gaps: &mut Gaps,
        data: &mut Vec<u8>,
    ) -> Result<bool, L::Error> {
        let (start, len) = (block * BLOCK_BYTES, buf.len() as u64);
        let plan = self.extents.block_plan(block);
        let is_untouched = matches!(gaps.as_slice(), [gap] if gap.len() == buf.len());
        if let Some(plan) = plan.as_ref()
            && is_untouched
            && plan.is_whole()
            && plan.data_len().get() == len
        {
            // All of it is data of this file: it is checked where it will be copied from.
            gaps.clear();
            return self.read(plan, buf).map(|()| true);
        }
        let mut is_read = false;
        let mut has_data = false;
        // Where the data of the next extent is in `data`.
        let mut at = 0;
        let first = self.page_size.page_of(RamOffset::new(start));
        for extent in self.extents.iter_from(first) {
            let from = extent.run.start().get() << self.page_size.log2();
            let to = extent.run.end().get() << self.page_size.log2();
            if from >= start + len {
                break;
            }
            let inside = |offset: u64| (offset.clamp(start, start + len) - start) as usize;
            let part = inside(from)..inside(to);
            let is_data = matches!(extent.content, Stored::Data { .. });
            let is_wanted = gaps.iter().any(|gap| overlap(gap, &part).is_some());
            if is_data && is_wanted && !is_read {
                let plan = plan.as_ref();
                let plan = plan.ok_or_else(|| self.bytes.damaged(block, FileOffset::ZERO))?;
                data.clear();
                data.resize(plan.data_len().get() as usize, 0);
                self.read(plan, data)?;
                is_read = true;
            }
            if is_wanted {
                has_data |= is_data;
                let bytes = is_data.then(|| data.get(at..at + part.len()).unwrap_or_default());
                fill(buf, gaps, &part, bytes);
            }
            if is_data {
                at += part.len();
            }
        }
        Ok(has_data)
    }

    fn read(&self, plan: &BlockPlan, data: &mut [u8]) -> Result<(), L::Error> {
        let row = self.blocks.get(plan.block());
        match row.map_err(|source| self.bytes.refused(source))? {
            Some(row) => self.bytes.read(plan, &row, data),
            None => Err(self.bytes.damaged(plan.block(), FileOffset::ZERO)),
        }
    }
}

fn overlap(one: &Range<usize>, other: &Range<usize>) -> Option<Range<usize>> {
    let both = one.start.max(other.start)..one.end.min(other.end);
    (!both.is_empty()).then_some(both)
}

/// Fills the gaps in `part` with `bytes`, which are those of the part, or with zeros; what is left
/// of the gaps stays.
fn fill(buf: &mut [u8], gaps: &mut Gaps, part: &Range<usize>, bytes: Option<&[u8]>) {
    let mut left = Gaps::with_capacity(gaps.len() + 1);
    for gap in gaps.drain(..) {
        let Some(both) = overlap(&gap, part) else {
            left.push(gap);
            continue;
        };
        if let Some(place) = buf.get_mut(both.clone()) {
            let bytes =
                bytes.and_then(|bytes| bytes.get(both.start - part.start..both.end - part.start));
            match bytes {
                Some(bytes) => place.copy_from_slice(bytes),
                None => place.fill(0),
            }
        }
        let rests = [gap.start..both.start, both.end..gap.end];
        left.extend(rests.into_iter().filter(|rest| !rest.is_empty()));
    }
    *gaps = left;
}
