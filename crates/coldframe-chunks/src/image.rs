//! An image through its index and all ancestors: what each block is, and its bytes.
//!
//! Invariant: a block is what the nearest index says that says anything; zeros are handed out only
//! where an index says zero. A missing ancestor is an error when the image is opened.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use coldframe_chunkfile::{BaseId, Entry, Index, IndexOrigin, IndexPage, PartSource};
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
    /// Pages that come from several places: see [`Image::parts`].
    Parts,
}

/// Which pages of a block come from where.
#[derive(Debug, Default)]
pub struct Parts {
    /// A bit for each page, and where these pages come from; an origin is the flat base image.
    pub known: Vec<(u16, PartSource)>,
    /// Pages of which the indexes cannot tell it, and why.
    pub unknown: Option<(u16, StoreError)>,
}

/// A page of rows that cannot be read.
#[derive(Debug)]
pub struct Unreadable {
    /// Which index of the chain it is of: 0 is the image's own.
    pub link: usize,
    /// What is missing or damaged.
    pub source: StoreError,
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
    /// Pages that come from several places: see [`Image::parts`].
    Parts,
}

/// Pages of rows that are kept, by the index that they are of and their number in it.
type Pages = HashMap<(RootHash, u64), Arc<IndexPage>>;

/// An index and its ancestors.
#[derive(Debug)]
pub struct Image<B: Backend> {
    store: PackStore<B>,
    /// The index itself first.
    chain: Vec<Arc<Index>>,
    pages: Mutex<Pages>,
}

impl<B: Backend> PackStore<B> {
    /// Opens an image by the root of its index, with all ancestors.
    ///
    /// # Errors
    /// [`StoreError::MissingRoot`] naming the index that is lost; [`StoreError::ChainTooLong`];
    /// [`StoreError::WrongParentSize`]; as [`PackStore::index`].
    pub fn image(&self, root: RootHash) -> Result<Image<B>, StoreError> {
        let mut chain: Vec<Arc<Index>> = Vec::new();
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
            chain.push(Arc::new(index));
        }
        Ok(Image {
            store: self.clone(),
            chain,
            pages: Mutex::default(),
        })
    }
}

impl<B: Backend> Image<B> {
    /// Opens an image whose parent is one of this image's indexes, or that has none. Only its own
    /// index is read: an ancestor that cannot be read any more keeps nobody from going on.
    ///
    /// # Errors
    /// As [`PackStore::image`].
    pub fn successor(&self, root: RootHash) -> Result<Self, StoreError> {
        let index = self.store.index(root)?;
        let mut chain = vec![Arc::new(index)];
        if let IndexOrigin::Parent { root: parent, size } = chain[0].origin() {
            let at = self.link_of(parent);
            let Some(rest) = at.and_then(|at| self.chain.get(at..)) else {
                return self.store.image(root);
            };
            chain.extend(rest.iter().cloned());
            let (expected, found) = (size.get(), chain[1].size().get());
            if expected != found {
                return Err(StoreError::WrongParentSize {
                    root,
                    expected,
                    found,
                });
            }
        }
        if chain.len() > ANCESTORS_MAX + 1 {
            let limit = ANCESTORS_MAX;
            return Err(StoreError::ChainTooLong { root, limit });
        }
        let pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        let mut pages = pages.clone();
        pages.retain(|(root, _), _| chain.iter().any(|index| index.root() == *root));
        Ok(Self {
            store: self.store.clone(),
            chain,
            pages: Mutex::new(pages),
        })
    }

    /// How many indexes it is made of: its own, and the ancestors.
    #[must_use]
    pub fn link_count(&self) -> usize {
        self.chain.len()
    }

    /// The index of this number: 0 is its own, the last the oldest ancestor.
    #[must_use]
    pub fn link(&self, number: usize) -> Option<&Index> {
        self.chain.get(number).map(|index| &**index)
    }

    /// The number of the index with this root.
    #[must_use]
    pub fn link_of(&self, root: RootHash) -> Option<usize> {
        self.chain.iter().position(|index| index.root() == root)
    }

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
        self.locate_run(block, 1).map(|(located, _)| located)
    }

    /// What a block is, and how many blocks from it on are told to be the same: at least 1, at
    /// most `count`. Chunks come one by one; the blocks behind a run of zeros may be zero too.
    ///
    /// # Errors
    /// As [`Image::locate`].
    pub fn locate_run(&self, block: u64, count: u64) -> Result<(Located, u64), StoreError> {
        let found = self.run_above(self.chain.len(), block, count);
        let (located, run) = found.map_err(|unreadable| unreadable.source)?;
        // An index without an origin names every block, so a base image is what is left.
        Ok((located.unwrap_or(Located::Base), run))
    }

    /// As [`Image::locate_run`], in the first `links` indexes only: `None` for blocks that come
    /// from what lies below them.
    ///
    /// # Errors
    /// [`Unreadable`] naming the index; past the end that is the first.
    pub fn run_above(
        &self,
        links: usize,
        block: u64,
        count: u64,
    ) -> Result<(Option<Located>, u64), Unreadable> {
        let blocks = self.index().block_count();
        let Some(len) = self.index().block_len(block) else {
            let source = StoreError::PastEnd {
                block,
                count: blocks,
            };
            return Err(Unreadable { link: 0, source });
        };
        let mut run = count.clamp(1, blocks - block);
        for (link, index) in self.chain.iter().take(links).enumerate() {
            let parts = index.parts();
            match parts.get(parts.partition_point(|row| row.block < block)) {
                Some(row) if row.block == block => return Ok((Some(Located::Parts), 1)),
                Some(row) => run = run.min(row.block - block),
                None => {}
            }
            let Some(page) = index.page_of(block) else {
                let first = index.page(0).map_or(blocks, |page| page.first_block);
                run = run.min(first.max(block + 1) - block);
                continue;
            };
            let rows = self.page(index, page.number);
            let rows = rows.map_err(|source| Unreadable { link, source })?;
            let rows = rows.rows();
            let after = rows.partition_point(|row| row.block <= block);
            let row = after.checked_sub(1).and_then(|at| rows.get(at));
            if let Some(row) = row.filter(|row| block < row.end()) {
                return Ok(match row.chunk {
                    Some(id) => (Some(Located::Chunk(id, len)), 1),
                    None => (Some(Located::Zero), run.min(row.end() - block)),
                });
            }
            let next = rows.get(after).map_or(page.end_block, |row| row.block);
            run = run.min(next.max(block + 1) - block);
        }
        Ok((None, run))
    }

    /// Which pages of a block come from where, whatever the block is.
    #[must_use]
    pub fn parts(&self, block: u64) -> Parts {
        let mut known = Vec::new();
        let unknown = self.find_parts(self.chain.len(), block, &mut known);
        let unknown = unknown.map(|(pages, unreadable)| (pages, unreadable.source));
        Parts { known, unknown }
    }

    /// As [`Image::parts`], in the first `links` indexes only: an origin is what lies below them.
    ///
    /// # Errors
    /// [`Unreadable`] naming the index.
    pub fn parts_above(
        &self,
        links: usize,
        block: u64,
    ) -> Result<Vec<(u16, PartSource)>, Unreadable> {
        let mut known = Vec::new();
        match self.find_parts(links, block, &mut known) {
            Some((_, unreadable)) => Err(unreadable),
            None => Ok(known),
        }
    }

    /// Puts the parts that are known into `known`; returns the pages of which an index would tell
    /// it that cannot be read.
    fn find_parts(
        &self,
        links: usize,
        block: u64,
        known: &mut Vec<(u16, PartSource)>,
    ) -> Option<(u16, Unreadable)> {
        let len = self.index().block_len(block).map_or(0, |len| len.get());
        // What is left to be found: pages, and how many of their bytes count.
        let mut wanted = pages_of(len);
        let mut len = u32::try_from(len).unwrap_or(0);
        for (link, index) in self.chain.iter().take(links).enumerate() {
            let parts = index.parts_of(block);
            if !parts.is_empty() {
                let mut below = 0;
                for row in parts.iter().filter(|row| row.pages & wanted != 0) {
                    let pages = row.pages & wanted;
                    match row.source {
                        PartSource::Origin { len: origin_len } => {
                            len = len.min(origin_len);
                            below = pages;
                        }
                        PartSource::Chunk { id, len: chunk_len } => {
                            let len = len.min(chunk_len);
                            known.push((pages, PartSource::Chunk { id, len }));
                        }
                        source => known.push((pages, source)),
                    }
                }
                wanted = below;
                if wanted == 0 {
                    return None;
                }
                continue;
            }
            let Some(page) = index.page_of(block) else {
                continue;
            };
            let rows = match self.page(index, page.number) {
                Ok(rows) => rows,
                Err(source) => return Some((wanted, Unreadable { link, source })),
            };
            match rows.find(block) {
                Entry::Chunk(id) => known.push((wanted, PartSource::Chunk { id, len })),
                Entry::Zero => known.push((wanted, PartSource::Zero)),
                Entry::Inherit | Entry::Parts => continue,
            }
            return None;
        }
        if wanted != 0 {
            known.push((wanted, PartSource::Origin { len }));
        }
        None
    }

    /// The blocks of which pages are lost for good, each with a bit for each such page: reading
    /// them is an error until they are written. No chunk is read.
    ///
    /// # Errors
    /// As [`Image::locate`].
    pub fn lost_pages(&self) -> Result<Vec<(u64, u16)>, StoreError> {
        let rows = self.chain.iter().flat_map(|index| index.parts());
        let lost = rows.filter(|row| row.source == PartSource::Lost);
        let count = self.index().block_count();
        let blocks = lost.map(|row| row.block).filter(|block| *block < count);
        let mut found = Vec::new();
        for block in blocks.collect::<BTreeSet<u64>>() {
            // What was written since is not lost.
            if self.locate(block)? != Located::Parts {
                continue;
            }
            let Parts { known, unknown } = self.parts(block);
            if let Some((_, error)) = unknown {
                return Err(error);
            }
            let lost = known.iter().filter(|part| part.1 == PartSource::Lost);
            let pages = lost.fold(0, |all, (pages, _)| all | pages);
            if pages != 0 {
                found.push((block, pages));
            }
        }
        Ok(found)
    }

    /// The bytes of a block.
    ///
    /// # Errors
    /// As [`Image::locate`] and [`ChunkStore::get`]; [`StoreError::WrongChunkLen`].
    pub fn read(&self, block: u64) -> Result<BlockData, StoreError> {
        match self.locate(block)? {
            Located::Zero => Ok(BlockData::Zero),
            Located::Base => Ok(BlockData::Base),
            Located::Parts => Ok(BlockData::Parts),
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

    fn page(&self, index: &Index, page: u64) -> Result<Arc<IndexPage>, StoreError> {
        let lock = || self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (index.root(), page);
        if let Some(rows) = lock().get(&key) {
            return Ok(Arc::clone(rows));
        }
        let place = index.page(usize::try_from(page).unwrap_or(usize::MAX));
        let place = place.expect("the page was found by this index");
        let rows = Arc::new(self.store.index_page(index, &place)?);
        let mut pages = lock();
        if pages.len() >= PAGES_MAX {
            pages.clear();
        }
        pages.insert(key, Arc::clone(&rows));
        Ok(rows)
    }
}

/// A bit for each page of 4,096 bytes that a block of so many bytes has.
fn pages_of(len: u64) -> u16 {
    let pages = len.div_ceil(4096).min(16);
    u16::try_from((1_u32 << pages) - 1).unwrap_or(u16::MAX)
}
