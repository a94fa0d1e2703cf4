//! An image through its index and all ancestors: what each block is, and its bytes.
//!
//! Invariant: a block is what the nearest index says that says anything; zeros are handed out only
//! where an index says zero. A missing ancestor is an error when the image is opened.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use coldframe_chunkfile::{BaseId, Entry, Index, IndexOrigin, IndexPage};
use coldframe_units::{ByteLen, ChunkId, RootHash};

use crate::StoreError;
use crate::backend::Backend;
use crate::chunk::ChunkStore;
use crate::store::PackStore;

/// The most ancestors of an index.
pub const ANCESTORS_MAX: usize = 1024;

/// Pages of rows that are kept in memory: 12 MiB of them.
const PAGES_MAX: usize = 256;

/// What a block of an image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Located {
    /// The bytes of this chunk, which are so long.
    Chunk(ChunkId, ByteLen),
    /// All zero.
    Zero,
    /// What the flat base image has there.
    Base,
}

/// The bytes of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockData {
    /// These.
    Bytes(Bytes),
    /// All zero.
    Zero,
    /// What the flat base image has there.
    Base,
}

/// An index and its ancestors.
#[derive(Debug)]
pub struct Image<B: Backend> {
    store: PackStore<B>,
    /// The index itself first.
    chain: Vec<Index>,
    pages: Mutex<HashMap<(usize, u64), Arc<IndexPage>>>,
}

impl<B: Backend> PackStore<B> {
    /// Opens an image by the root of its index, with all ancestors.
    ///
    /// # Errors
    /// [`StoreError::MissingRoot`] naming the index that is lost; [`StoreError::ChainTooLong`];
    /// [`StoreError::WrongParentSize`]; as [`PackStore::index`].
    pub fn image(&self, root: RootHash) -> Result<Image<B>, StoreError> {
        let mut chain: Vec<Index> = Vec::new();
        let mut next = Some((root, None));
        while let Some((root_now, size)) = next {
            if chain.len() > ANCESTORS_MAX {
                let limit = ANCESTORS_MAX;
                return Err(StoreError::ChainTooLong { root, limit });
            }
            let index = self.index(root_now)?;
            if let (Some(expected), Some(child)) = (size, chain.last())
                && index.size() != expected
            {
                return Err(StoreError::WrongParentSize {
                    root: child.root(),
                    expected: expected.get(),
                    found: index.size().get(),
                });
            }
            next = match index.origin() {
                IndexOrigin::Parent { root, size } => Some((root, Some(size))),
                IndexOrigin::None | IndexOrigin::Base { .. } => None,
            };
            chain.push(index);
        }
        Ok(Image {
            store: self.clone(),
            chain,
            pages: Mutex::default(),
        })
    }
}

impl<B: Backend> Image<B> {
    /// The index.
    #[must_use]
    pub fn index(&self) -> &Index {
        &self.chain[0]
    }

    /// How many ancestors the index has.
    #[must_use]
    pub fn ancestor_count(&self) -> usize {
        self.chain.len() - 1
    }

    /// The flat image that the oldest ancestor was made of.
    #[must_use]
    pub fn base(&self) -> Option<(BaseId, ByteLen)> {
        match self.chain.last()?.origin() {
            IndexOrigin::Base { id, size } => Some((id, size)),
            IndexOrigin::None | IndexOrigin::Parent { .. } => None,
        }
    }

    /// What a block is; no chunk is read.
    ///
    /// # Errors
    /// [`StoreError::PastEnd`]; as [`PackStore::index_page`].
    pub fn locate(&self, block: u64) -> Result<Located, StoreError> {
        let count = self.index().block_count();
        let len = self.index().block_len(block);
        let len = len.ok_or(StoreError::PastEnd { block, count })?;
        for (number, index) in self.chain.iter().enumerate() {
            let Some(page) = index.page_of(block) else {
                continue;
            };
            match self.page(number, index, page.number)?.find(block) {
                Entry::Chunk(id) => return Ok(Located::Chunk(id, len)),
                Entry::Zero => return Ok(Located::Zero),
                Entry::Inherit => {}
            }
        }
        // An index without an origin names every block, so a base image is what is left.
        Ok(Located::Base)
    }

    /// What a block is, and how many blocks from it on are told to be the same: at least 1, at
    /// most `count`. Chunks come one by one; the blocks behind a run of zeros may be zero too.
    ///
    /// # Errors
    /// As [`Image::locate`].
    pub fn locate_run(&self, block: u64, count: u64) -> Result<(Located, u64), StoreError> {
        let blocks = self.index().block_count();
        let len = self.index().block_len(block);
        let len = len.ok_or(StoreError::PastEnd {
            block,
            count: blocks,
        })?;
        let mut run = count.clamp(1, blocks - block);
        for (number, index) in self.chain.iter().enumerate() {
            let Some(page) = index.page_of(block) else {
                let first = index.page(0).map_or(blocks, |page| page.first_block);
                run = run.min(first.max(block + 1) - block);
                continue;
            };
            let rows = self.page(number, index, page.number)?;
            let rows = rows.rows();
            let after = rows.partition_point(|row| row.block <= block);
            let row = after.checked_sub(1).and_then(|at| rows.get(at));
            if let Some(row) = row.filter(|row| block < row.end()) {
                return Ok(match row.chunk {
                    Some(id) => (Located::Chunk(id, len), 1),
                    None => (Located::Zero, run.min(row.end() - block)),
                });
            }
            let next = rows.get(after).map_or(page.end_block, |row| row.block);
            run = run.min(next.max(block + 1) - block);
        }
        Ok((Located::Base, run))
    }

    /// The bytes of a block.
    ///
    /// # Errors
    /// As [`Image::locate`] and [`ChunkStore::get`]; [`StoreError::WrongChunkLen`].
    pub fn read(&self, block: u64) -> Result<BlockData, StoreError> {
        match self.locate(block)? {
            Located::Zero => Ok(BlockData::Zero),
            Located::Base => Ok(BlockData::Base),
            Located::Chunk(id, len) => {
                let bytes = self.store.get(id)?;
                if bytes.len() as u64 != len.get() {
                    return Err(StoreError::WrongChunkLen {
                        id,
                        block,
                        expected: len.get(),
                        found: bytes.len() as u64,
                    });
                }
                Ok(BlockData::Bytes(bytes))
            }
        }
    }

    fn page(&self, number: usize, index: &Index, page: u64) -> Result<Arc<IndexPage>, StoreError> {
        let lock = || self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(rows) = lock().get(&(number, page)) {
            return Ok(Arc::clone(rows));
        }
        let place = index.page(usize::try_from(page).unwrap_or(usize::MAX));
        let place = place.expect("the page was found by this index");
        let rows = Arc::new(self.store.index_page(index, &place)?);
        let mut pages = lock();
        if pages.len() >= PAGES_MAX {
            pages.clear();
        }
        pages.insert((number, page), Arc::clone(&rows));
        Ok(rows)
    }
}
