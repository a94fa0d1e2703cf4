//! From changed pages to the rows of an index: blocks are put together and become chunks.

use coldframe_chunkfile::{EncodedIndex, IndexBuilder, IndexOrigin};
use coldframe_chunks::{ANCESTORS_MAX, Backend, Block, Located, Push, is_zero};
use coldframe_envelope::Producer;
use coldframe_storage::Storage;
use coldframe_units::{BLOCK_BYTES, ByteLen, ChunkId};

use crate::device::inner::Inner;
use crate::device::lower::{Frozen, content};
use crate::device::pages::{copy_pages, pages_of};
use crate::error::{index, store};
use crate::image::copy_padded;
use crate::{BlockError, DiskImage};

/// Blocks that are put together before they are given to the store: 4 MiB.
const BATCH: usize = 64;

/// What some blocks are from now on.
pub(super) struct Row {
    first: u64,
    end: u64,
    /// `None` for zeros.
    chunk: Option<ChunkId>,
}

/// All that an index says anew.
#[derive(Default)]
pub(super) struct Rows {
    /// Rising, apart.
    rows: Vec<Row>,
    /// Blocks whose unchanged pages cannot be read: they stay in the log.
    pub carried: Vec<u64>,
    /// Blocks of the flat image that are chunks or zeros by now.
    pub ingested: Vec<u64>,
}

impl Rows {
    pub fn block_count(&self) -> u64 {
        self.rows.iter().map(|row| row.end - row.first).sum()
    }
}

impl<B: Backend, S: Storage> Inner<B, S> {
    /// Puts all changed blocks together, and gives them to the store.
    pub(super) fn rows(
        &self,
        frozen: &Frozen,
        image: &DiskImage<B>,
        push: &Push<B>,
    ) -> Result<Rows, BlockError> {
        let mut rows = Rows {
            ingested: self.ingested_blocks(frozen, image)?,
            ..Rows::default()
        };
        let mut numbers = self.changed_blocks(frozen, image, &rows.ingested);
        if self.chain_is_full(image) && image.base_size() > frozen.size {
            // A shorter disk cannot name its flat image, so a whole index needs all of it.
            numbers.extend(base_blocks(frozen, image)?);
            numbers.sort_unstable();
            numbers.dedup();
        }
        for batch in numbers.chunks(BATCH) {
            let mut chunks = Vec::new();
            for number in batch {
                match self.put_together(frozen, image, *number) {
                    Ok(None) => rows.rows.push(zeros(*number, *number + 1)),
                    Ok(Some(bytes)) => chunks.push((*number, bytes)),
                    // Such a block is left as it is, unless the index must have a row for it.
                    Err(_) if *number < explicit_from(frozen, image) => rows.carried.push(*number),
                    Err(error) => return Err(error),
                }
            }
            let blocks = chunks.iter().map(|(_, bytes)| Block {
                bytes,
                expected: None,
            });
            let ids = push
                .put_blocks(&blocks.collect::<Vec<_>>())
                .map_err(store)?;
            for ((number, _), id) in chunks.iter().zip(ids) {
                rows.rows.push(Row {
                    first: *number,
                    end: number + 1,
                    chunk: Some(id),
                });
            }
        }
        add_zero_runs(frozen, &mut rows.rows);
        rows.rows.sort_unstable_by_key(|row| row.first);
        Ok(rows)
    }

    /// Whether the next index has to be written whole.
    pub(super) fn chain_is_full(&self, image: &DiskImage<B>) -> bool {
        image.ancestor_count() >= self.options.ancestors_max.min(ANCESTORS_MAX)
    }

    /// Blocks that were read from the flat image, which no index has, and nobody changed.
    fn ingested_blocks(
        &self,
        frozen: &Frozen,
        image: &DiskImage<B>,
    ) -> Result<Vec<u64>, BlockError> {
        let blocks: Vec<u64> = self.ingested.blocks().keys().copied().collect();
        let mut found = Vec::new();
        for block in blocks {
            let is_inside = block * BLOCK_BYTES < frozen.size;
            if is_inside && image.located(block, 1)?.0 == Located::Base {
                found.push(block);
            }
        }
        Ok(found)
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

    /// The bytes of a block as the frozen layer has it; `None` if all are zero.
    fn put_together(
        &self,
        frozen: &Frozen,
        image: &DiskImage<B>,
        number: u64,
    ) -> Result<Option<Vec<u8>>, BlockError> {
        let len = (frozen.size - number * BLOCK_BYTES).min(BLOCK_BYTES);
        let mut bytes = vec![0; len as usize];
        let entry = frozen.block(number);
        let is_whole = entry.is_some_and(crate::overlay::Block::is_whole);
        if !is_whole && frozen.zeros.end_of(number).is_none() {
            let below = content(image, &self.ingested, self.ingest_max(), number)?;
            if let Some(below) = below {
                copy_padded(&below[..below.len().min(bytes.len())], 0, &mut bytes);
            }
        }
        if let Some(entry) = entry {
            let wanted = pages_of(0, bytes.len());
            copy_pages(&self.log, entry, 0, &mut bytes, wanted)?;
        }
        Ok((!is_zero(&bytes)).then_some(bytes))
    }

    /// The index of these rows on top of the image; with another origin, of all rows there are.
    pub(super) fn index(
        &self,
        frozen: &Frozen,
        image: &DiskImage<B>,
        rows: &Rows,
        origin: IndexOrigin,
    ) -> Result<EncodedIndex, BlockError> {
        let flat = !matches!(origin, IndexOrigin::Parent { .. });
        let by = Producer::new("coldframe-block", env!("CARGO_PKG_VERSION"));
        let by = by.expect("name and version are short ASCII");
        let size = ByteLen::new(frozen.size);
        let mut builder = IndexBuilder::new(size, origin, by).map_err(index)?;
        let end = frozen.size.div_ceil(BLOCK_BYTES);
        let explicit_from = explicit_from(frozen, image);
        let gap = |builder: &mut IndexBuilder, from: u64, to: u64| match flat {
            true => inherit(builder, image, from, to),
            false if from.max(explicit_from) < to => {
                let from = from.max(explicit_from);
                builder.push_zeros(from, to - from).map_err(index)
            }
            false => Ok(()),
        };
        let mut next = 0;
        for row in &rows.rows {
            gap(&mut builder, next, row.first)?;
            match row.chunk {
                Some(id) => builder.push_chunk(row.first, id),
                None => builder.push_zeros(row.first, row.end - row.first),
            }
            .map_err(index)?;
            next = row.end;
        }
        gap(&mut builder, next, end)?;
        builder.finish().map_err(index)
    }
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
            block = row.end;
            continue;
        }
        match image.located(block, end - block)? {
            (Located::Base, _) => return Ok(Some(block)),
            (_, run) => block += run,
        }
    }
    Ok(None)
}

/// All blocks that are still read from the flat image.
fn base_blocks<B: Backend>(frozen: &Frozen, image: &DiskImage<B>) -> Result<Vec<u64>, BlockError> {
    let end = base_end(frozen, image);
    let (mut blocks, mut block) = (Vec::new(), 0);
    while block < end {
        let (located, run) = image.located(block, end - block)?;
        if located == Located::Base {
            let is_not_zero = |block: &u64| frozen.zeros.end_of(*block).is_none();
            blocks.extend((block..block + run).filter(is_not_zero));
        }
        block += run;
    }
    Ok(blocks)
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
    Row {
        first,
        end,
        chunk: None,
    }
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

/// Rows for the blocks from `from` up to `to`, as the image has them.
fn inherit<B: Backend>(
    builder: &mut IndexBuilder,
    image: &DiskImage<B>,
    from: u64,
    to: u64,
) -> Result<(), BlockError> {
    let mut block = from;
    while block < to {
        let (located, run) = image.located(block, to - block)?;
        match located {
            Located::Chunk(id, _) => builder.push_chunk(block, id).map_err(index)?,
            Located::Zero => builder.push_zeros(block, run).map_err(index)?,
            Located::Base => {}
        }
        block += run;
    }
    Ok(())
}
