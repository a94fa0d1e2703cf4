//! From changed pages to the rows of an index: blocks are put together and become chunks.
//!
//! Invariant: a block that cannot be read is never needed. What was written to it becomes parts of
//! it, beside what cannot be read, which is named by where it comes from.

use coldframe_chunkfile::{BuildError, EncodedIndex, IndexBuilder, IndexOrigin, PartSource};
use coldframe_chunks::{Backend, Block, Located, Push, Unreadable, is_zero};
use coldframe_envelope::Producer;
use coldframe_storage::Storage;
use coldframe_units::{BLOCK_BYTES, ByteLen, ChunkId};

use crate::device::inner::Inner;
use crate::device::lower::{Frozen, content};
use crate::device::pages::{copy_pages, pages_of, parts, read_page};
use crate::error::store;
use crate::image::copy_padded;
use crate::overlay::{self, PAGE, PAGES_PER_BLOCK, PageState};
use crate::{BlockError, DiskImage};

/// Blocks that are put together before they are given to the store: 4 MiB.
const BATCH: usize = 64;

/// Blocks made of parts that are put together, where they can be read again, when an index is
/// written whole.
const HEALED_MAX: usize = 256;

/// What some blocks are from now on.
pub(super) struct Row {
    first: u64,
    end: u64,
    what: What,
}

enum What {
    Zeros,
    Chunk(ChunkId),
    Parts {
        /// What was written.
        own: Vec<(u16, PartSource)>,
        /// The pages that are as they were.
        below: u16,
    },
}

/// A block, as far as it can be put together.
enum Put {
    Zeros,
    Whole(Vec<u8>),
    Parts(Mixed),
    /// Nothing of it was written, and it cannot be read.
    Nothing,
}

/// A block of which some pages cannot be had.
struct Mixed {
    /// All of the block, zeros but for the pages of `data`.
    bytes: Vec<u8>,
    data: u16,
    zeros: u16,
    /// Pages whose only copy, in the log, is damaged.
    lost: u16,
    /// Pages that were not written, and cannot be read.
    below: u16,
}

impl Mixed {
    /// The parts that were written, `id` being the chunk of its bytes.
    fn own(&self, id: Option<ChunkId>) -> Vec<(u16, PartSource)> {
        let len = u32::try_from(self.bytes.len()).expect("a block has 64 KiB");
        let chunk = id.map(|id| (self.data, PartSource::Chunk { id, len }));
        let zeros = (self.zeros, PartSource::Zero);
        let lost = (self.lost, PartSource::Lost);
        let own = chunk.into_iter().chain([zeros, lost]);
        own.filter(|(pages, _)| *pages != 0).collect()
    }
}

/// All that an index says anew.
#[derive(Default)]
pub(super) struct Rows {
    /// Rising, apart.
    rows: Vec<Row>,
    /// The chunks that they name.
    pub new: Vec<ChunkId>,
    /// Blocks of the flat image that became chunks or zeros.
    pub ingested: Vec<u64>,
}

impl Rows {
    pub fn block_count(&self) -> u64 {
        self.rows.iter().map(|row| row.end - row.first).sum()
    }
}

/// Why the indexes of an image cannot be merged into one.
pub(super) enum NotMerged {
    /// Rows of one of them cannot be read.
    Unreadable(Box<Unreadable>),
    /// What they say together is no index.
    Refused(BuildError),
}

impl From<Unreadable> for NotMerged {
    fn from(unreadable: Unreadable) -> Self {
        Self::Unreadable(Box::new(unreadable))
    }
}

impl From<BuildError> for NotMerged {
    fn from(refused: BuildError) -> Self {
        Self::Refused(refused)
    }
}

impl<B: Backend, S: Storage> Inner<B, S> {
    /// Puts all changed blocks together, and gives them to the store. If the index is to be written
    /// whole, so are others that would keep it from that.
    pub(super) fn rows(
        &self,
        frozen: &Frozen,
        image: &DiskImage<B>,
        ingested: Vec<u64>,
        is_whole: bool,
        push: &Push<B>,
    ) -> Result<Rows, BlockError> {
        let mut numbers = self.changed_blocks(frozen, image, &ingested);
        let mut rows = Rows {
            ingested,
            ..Rows::default()
        };
        if is_whole {
            let end = frozen.size.div_ceil(BLOCK_BYTES);
            let is_unchanged = |block: &u64| *block < end && frozen.zeros.end_of(*block).is_none();
            numbers.extend(
                image
                    .part_blocks(HEALED_MAX)
                    .into_iter()
                    .filter(is_unchanged),
            );
            if image.base_size() > frozen.size {
                // A shorter disk cannot name its flat image, so a whole index needs all of it.
                numbers.extend(base_blocks(frozen, image));
            }
            numbers.sort_unstable();
            numbers.dedup();
        }
        for batch in numbers.chunks(BATCH) {
            self.check_stop()?;
            self.put_batch(frozen, image, batch, push, &mut rows)?;
        }
        add_zero_runs(frozen, &mut rows.rows);
        rows.rows.sort_unstable_by_key(|row| row.first);
        Ok(rows)
    }

    fn put_batch(
        &self,
        frozen: &Frozen,
        image: &DiskImage<B>,
        batch: &[u64],
        push: &Push<B>,
        rows: &mut Rows,
    ) -> Result<(), BlockError> {
        let mut put = Vec::with_capacity(batch.len());
        for number in batch {
            put.push((*number, self.put_together(frozen, image, *number)?));
        }
        let blocks = put.iter().filter_map(|(_, put)| {
            let bytes = match put {
                Put::Whole(bytes) => bytes,
                Put::Parts(mixed) if mixed.data != 0 => &mixed.bytes,
                Put::Parts(_) | Put::Zeros | Put::Nothing => return None,
            };
            let expected = None;
            Some(Block { bytes, expected })
        });
        let ids = push.put_blocks(&blocks.collect::<Vec<_>>());
        let ids = ids.map_err(store)?;
        rows.new.extend(&ids);
        let mut ids = ids.into_iter();
        let mut next = || ids.next().expect("each block was given an id");
        for (first, put) in put {
            let what = match put {
                Put::Nothing => continue,
                Put::Zeros => What::Zeros,
                Put::Whole(_) => What::Chunk(next()),
                Put::Parts(mixed) => {
                    let id = (mixed.data != 0).then(&mut next);
                    let (own, below) = (mixed.own(id), mixed.below);
                    What::Parts { own, below }
                }
            };
            let end = first + 1;
            rows.rows.push(Row { first, end, what });
        }
        Ok(())
    }

    /// Blocks that were read from the flat image, which no index has, and nobody changed. Those
    /// that are not the flat image's any more, or cannot be looked up, are forgotten.
    pub(super) fn ingested_blocks(&self, size: u64, image: &DiskImage<B>) -> Vec<u64> {
        let blocks: Vec<u64> = self.ingested.blocks().keys().copied().collect();
        let is_base = |block: &u64| {
            let is_inside = *block * BLOCK_BYTES < size;
            is_inside && matches!(image.located(*block, 1), Ok((Located::Base, _)))
        };
        let (found, others): (Vec<u64>, Vec<u64>) = blocks.into_iter().partition(is_base);
        self.ingested.forget(others.into_iter());
        found
    }

    fn changed_blocks(&self, frozen: &Frozen, image: &DiskImage<B>, ingested: &[u64]) -> Vec<u64> {
        let end = frozen.size.div_ceil(BLOCK_BYTES);
        let entries = frozen.blocks.iter().flat_map(|blocks| blocks.iter());
        let mut numbers: Vec<u64> = entries.map(|(number, _)| number).collect();
        let is_not_zero = |block: &u64| frozen.zeros.end_of(*block).is_none();
        numbers.extend(ingested.iter().copied().filter(is_not_zero));
        let (before, now) = (image.size().get(), frozen.size);
        let edge = before.min(now);
        if before != now && edge % BLOCK_BYTES != 0 {
            // A block that became longer or shorter is another chunk.
            numbers.extend(Some(edge / BLOCK_BYTES).filter(is_not_zero));
        }
        numbers.retain(|number| *number < end);
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }

    /// The bytes of a block as the frozen layer has it, as far as they can be had.
    fn put_together(
        &self,
        frozen: &Frozen,
        image: &DiskImage<B>,
        number: u64,
    ) -> Result<Put, BlockError> {
        let len = (frozen.size - number * BLOCK_BYTES).min(BLOCK_BYTES);
        let mut bytes = vec![0; len as usize];
        let all = pages_of(0, bytes.len());
        let entry = frozen.block(number);
        let own = entry.map_or(0, overlay::Block::present) & all;
        let missing = match frozen.zeros.end_of(number) {
            Some(_) => 0,
            None => all & !own & image.pages_on_disk(number),
        };
        let mut below = 0;
        if missing != 0 {
            match content(image, &self.ingested, self.ingest_max(), number, missing) {
                Ok(None) => {}
                Ok(Some(found)) => {
                    for (start, part) in parts(0, &mut bytes, missing) {
                        copy_padded(&found, start, part);
                    }
                }
                Err(error) if error.is_unreadable_below() => {
                    tracing::warn!(block = number, %error, "block written in parts");
                    below = missing;
                }
                Err(error) => return Err(error),
            }
        }
        let lost = match entry {
            Some(entry) => self.copy_own(entry, &mut bytes)? & all,
            None => 0,
        };
        if below | lost == 0 {
            return Ok(match is_zero(&bytes) {
                true => Put::Zeros,
                false => Put::Whole(bytes),
            });
        }
        if lost == 0 && own == 0 && number < explicit_from(frozen, image) {
            return Ok(Put::Nothing);
        }
        let mut data = 0;
        for (page, part) in bytes.chunks(PAGE).enumerate() {
            data |= u16::from(!is_zero(part)) << page;
        }
        let zeros = all & !(data | lost | below);
        Ok(Put::Parts(Mixed {
            bytes,
            data,
            zeros,
            lost,
            below,
        }))
    }

    /// Copies the pages that were written; those that the log has damaged are returned, and zero.
    fn copy_own(&self, entry: &overlay::Block, bytes: &mut [u8]) -> Result<u16, BlockError> {
        let wanted = pages_of(0, bytes.len());
        match copy_pages(&self.log, entry, 0, bytes, wanted) {
            Ok(_) => return Ok(0),
            Err(BlockError::LogDamaged { .. }) => {}
            Err(error) => return Err(error),
        }
        let mut lost = 0;
        for page in (0..PAGES_PER_BLOCK as usize).filter(|page| wanted >> page & 1 == 1) {
            let PageState::Logged(logged) = entry.page(page) else {
                continue;
            };
            let end = ((page + 1) * PAGE).min(bytes.len());
            let out = &mut bytes[page * PAGE..end];
            let mut whole = [0; PAGE];
            match read_page(&self.log, logged, &mut whole) {
                Ok(()) => out.copy_from_slice(&whole[..out.len()]),
                Err(error @ BlockError::LogDamaged { .. }) => {
                    tracing::error!(%error, "page lost");
                    out.fill(0);
                    lost |= 1 << page;
                }
                Err(error) => return Err(error),
            }
        }
        // Pages that are zero, of which `copy_pages` may not have got to.
        for (page, part) in bytes.chunks_mut(PAGE).enumerate() {
            if entry.page(page) == PageState::Zero {
                part.fill(0);
            }
        }
        Ok(lost)
    }

    /// The index of these rows, and of all that the first `links` indexes of the image say, on top
    /// of the next one, or of `origin` where there is none.
    pub(super) fn index(
        &self,
        frozen: &Frozen,
        image: &DiskImage<B>,
        rows: &Rows,
        links: usize,
        origin: IndexOrigin,
    ) -> Result<EncodedIndex, NotMerged> {
        let by = Producer::new("coldframe-block", env!("CARGO_PKG_VERSION"));
        let by = by.expect("name and version are short ASCII");
        let origin = match image.link(links) {
            Some(link) => IndexOrigin::Parent {
                root: link.root(),
                size: link.size(),
            },
            None => origin,
        };
        let size = ByteLen::new(frozen.size);
        let mut builder = IndexBuilder::new(size, origin, by)?;
        let end = frozen.size.div_ceil(BLOCK_BYTES);
        let mut next = 0;
        for row in &rows.rows {
            inherit(&mut builder, image, links, next, row.first)?;
            match &row.what {
                What::Zeros => builder.push_zeros(row.first, row.end - row.first)?,
                What::Chunk(id) => builder.push_chunk(row.first, *id)?,
                What::Parts { own, below } => {
                    let mut all = own.clone();
                    add_below(&mut all, image, links, row.first, *below)?;
                    builder.push_parts(row.first, &all)?;
                }
            }
            next = row.end;
        }
        inherit(&mut builder, image, links, next, end)?;
        Ok(builder.finish()?)
    }
}

/// Adds where the pages come from that were not written.
fn add_below<B: Backend>(
    all: &mut Vec<(u16, PartSource)>,
    image: &DiskImage<B>,
    links: usize,
    block: u64,
    below: u16,
) -> Result<(), Unreadable> {
    let mut left = below;
    if left == 0 {
        return Ok(());
    }
    for (pages, source) in image.parts_above(links, block)? {
        if pages & left != 0 {
            all.push((pages & left, source));
            left &= !pages;
        }
    }
    if left != 0 {
        // The block was shorter.
        all.push((left, PartSource::Zero));
    }
    Ok(())
}

/// From `from` on, the first block that is still read from the flat image, or where that ends.
pub(super) fn next_base_block<B: Backend>(
    frozen: &Frozen,
    image: &DiskImage<B>,
    rows: &Rows,
    from: u64,
) -> Result<Option<u64>, BlockError> {
    let end = base_end(frozen, image);
    let mut block = from;
    while block < end {
        let at = rows.rows.partition_point(|row| row.end <= block);
        if let Some(row) = rows.rows.get(at).filter(|row| row.first <= block) {
            if let What::Parts { below, .. } = &row.what
                && *below != 0
                && image.has_base_part(block)
            {
                return Ok(Some(block));
            }
            block = row.end;
            continue;
        }
        match image.located(block, end - block)? {
            (Located::Base, _) => return Ok(Some(block)),
            (Located::Parts, _) if image.has_base_part(block) => return Ok(Some(block)),
            (_, run) => block += run,
        }
    }
    Ok(None)
}

/// All blocks that are known to be read from the flat image still.
fn base_blocks<B: Backend>(frozen: &Frozen, image: &DiskImage<B>) -> Vec<u64> {
    let end = base_end(frozen, image);
    let (mut blocks, mut block) = (Vec::new(), 0);
    while block < end {
        // The index stays one of several, if there is a block that cannot be looked up.
        let Ok((located, run)) = image.located(block, end - block) else {
            return Vec::new();
        };
        if located == Located::Base {
            let is_not_zero = |block: &u64| frozen.zeros.end_of(*block).is_none();
            blocks.extend((block..block + run).filter(is_not_zero));
        }
        block += run;
    }
    blocks
}

/// The block at which both the flat image and the disk have ended.
fn base_end<B: Backend>(frozen: &Frozen, image: &DiskImage<B>) -> u64 {
    image.base_size().min(frozen.size).div_ceil(BLOCK_BYTES)
}

/// The first block from which on all need a row.
fn explicit_from<B: Backend>(frozen: &Frozen, image: &DiskImage<B>) -> u64 {
    match image.size().get() {
        before if before == frozen.size => u64::MAX,
        before => before.min(frozen.size) / BLOCK_BYTES,
    }
}

const fn zeros(first: u64, end: u64) -> Row {
    let what = What::Zeros;
    Row { first, end, what }
}

/// Adds the runs of zeros, but for the blocks that have pages of their own.
fn add_zero_runs(frozen: &Frozen, rows: &mut Vec<Row>) {
    let end = frozen.size.div_ceil(BLOCK_BYTES);
    let entries = frozen.blocks.iter().flat_map(|blocks| blocks.iter());
    let mut numbers: Vec<u64> = entries.map(|(number, _)| number).collect();
    numbers.sort_unstable();
    for (first, run_end) in frozen.zeros.iter() {
        let mut from = first;
        let to = run_end.min(end);
        let inside = numbers.partition_point(|number| *number < first);
        for number in numbers[inside..].iter().take_while(|number| **number < to) {
            if from < *number {
                rows.push(zeros(from, *number));
            }
            from = number + 1;
        }
        if from < to {
            rows.push(zeros(from, to));
        }
    }
}

/// Rows for the blocks from `from` up to `to`, as the first `links` indexes of the image have them.
fn inherit<B: Backend>(
    builder: &mut IndexBuilder,
    image: &DiskImage<B>,
    links: usize,
    from: u64,
    to: u64,
) -> Result<(), NotMerged> {
    let mut block = from;
    while block < to {
        let (located, run) = image.run_above(links, block, to - block)?;
        match located {
            Some(Located::Chunk(id, _)) => builder.push_chunk(block, id)?,
            Some(Located::Zero) => builder.push_zeros(block, run)?,
            Some(Located::Parts) => builder.push_parts(block, &image.parts_above(links, block)?)?,
            Some(Located::Base) | None => {}
        }
        block += run;
    }
    Ok(())
}
