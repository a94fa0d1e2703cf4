//! Checking blocks against their hashes where they are used, each once.

use std::sync::atomic::{AtomicU64, Ordering};

use coldframe_memfile::{BlockPlan, Blocks, Extents};
use coldframe_storage::ByteSource;
use coldframe_units::{BLOCK_BYTES, FileOffset};

use crate::MemError;
use crate::chain::Layer;

/// Whether blocks are checked against their hashes before they are used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verify {
    /// Every block that is read is checked.
    Yes,
    /// None is: for files whose hashes were checked before.
    No,
}

/// The tables of one file, to check its blocks with; can be shared between threads.
pub(crate) struct Checker<'a> {
    layer: &'a Layer,
    extents: Extents<'a>,
    blocks: Blocks<'a>,
    /// One bit for each block that was checked already: segments of several files share blocks.
    checked: Vec<AtomicU64>,
}

impl<'a> Checker<'a> {
    pub fn new(layer: &'a Layer) -> Result<Self, MemError> {
        let view = layer.view()?;
        let count = layer.layout.total().get().div_ceil(BLOCK_BYTES);
        Ok(Self {
            checked: (0..count.div_ceil(64)).map(|_| AtomicU64::new(0)).collect(),
            layer,
            extents: view.extents().map_err(|source| layer.refused(source))?,
            blocks: view.blocks().map_err(|source| layer.refused(source))?,
        })
    }

    /// All of them, in the order of the chain.
    pub fn of(layers: &'a [Layer]) -> Result<Vec<Self>, MemError> {
        layers.iter().map(Self::new).collect()
    }

    /// Checks the block that RAM offset `offset` lies in; its hash if the file has all of it.
    pub fn check(&self, offset: u64) -> Result<Option<[u8; 32]>, MemError> {
        let block = offset / BLOCK_BYTES;
        let damaged = |offset: FileOffset| MemError::Damaged {
            path: self.layer.file.path().to_path_buf(),
            block,
            offset,
        };
        let row = self
            .blocks
            .get(block)
            .map_err(|source| self.layer.refused(source))?;
        let (word, bit) = (&self.checked[(block / 64) as usize], 1 << (block % 64));
        // The bytes never change, so a bit that another thread set says nothing but itself.
        if word.load(Ordering::Relaxed) & bit != 0 {
            return Ok(row.filter(|row| row.whole).map(|row| row.hash));
        }
        let Some(plan) = self.extents.block_plan(block) else {
            return Ok(None);
        };
        let start = plan.data().next().map_or(FileOffset::ZERO, |(at, _)| at);
        let row = row.ok_or_else(|| damaged(start))?;
        let matches = match contiguous(&plan) {
            Some((at, len)) => row.matches(&plan, self.layer.bytes(at, len)),
            None => {
                let parts = plan.data();
                let parts = parts.map(|(at, len)| self.layer.bytes(at.get(), len.get()));
                row.matches(&plan, &parts.collect::<Vec<_>>().concat())
            }
        };
        if !matches? {
            return Err(damaged(start));
        }
        word.fetch_or(bit, Ordering::Relaxed);
        Ok(row.whole.then_some(row.hash))
    }
}

/// Where a block's data lies, if it lies together.
fn contiguous(plan: &BlockPlan) -> Option<(u64, u64)> {
    let mut parts = plan.data();
    let (at, len) = parts.next()?;
    parts.next().is_none().then_some((at.get(), len.get()))
}
