//! A disk as an index says it is: for reading, by any number of threads.
//!
//! Invariant: what it reads never changes; zeros come only from an index that says so, or lie past
//! the end of the disk.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use coldframe_chunkfile::{Index, IndexOrigin, PartSource, Tag, TagKind};
use coldframe_chunks::{
    Backend, ChunkStore, Image, Located, LogNote, PackStore, StoreError, TagName, Unreadable,
    Visitor, is_zero,
};
use coldframe_units::{BLOCK_BYTES, ByteLen, ChunkId, RootHash};

use crate::device::pages::{pages_of, parts};
use crate::error::store;
use crate::{BaseFile, BlockError};

/// Blocks that are told to be data after one that no index can be asked about: looking each of
/// them up would fail as long.
const UNKNOWN_RUN: u64 = 256;

/// A disk, read-only.
pub struct DiskImage<B: Backend> {
    image: Image<B>,
    chunks: Arc<dyn ChunkStore>,
    base: Option<Arc<BaseFile>>,
}

impl<B: Backend> fmt::Debug for DiskImage<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskImage")
            .field("root", &self.root())
            .finish_non_exhaustive()
    }
}

impl<B: Backend> DiskImage<B> {
    /// Opens the disk that a tag points to; `base` is the flat image that it was made of, if it
    /// still needs one.
    ///
    /// # Errors
    /// [`BlockError::MissingDisk`], [`BlockError::NotADisk`]; as [`DiskImage::open_root`].
    pub fn open(
        store: &PackStore<B>,
        name: &TagName,
        base: Option<Arc<BaseFile>>,
    ) -> Result<Self, BlockError> {
        Self::open_root(store, disk_tag(store, name)?.root, base)
    }

    /// Opens a disk by the root of its index.
    ///
    /// # Errors
    /// [`BlockError::Store`], [`BlockError::BaseMissing`], [`BlockError::BaseChanged`].
    pub fn open_root(
        store: &PackStore<B>,
        root: RootHash,
        base: Option<Arc<BaseFile>>,
    ) -> Result<Self, BlockError> {
        Self::open_through(store, Arc::new(store.clone()), root, base)
    }

    /// Opens a disk whose chunks are read through `chunks`: a cache in front of a far store.
    ///
    /// # Errors
    /// As [`DiskImage::open_root`].
    pub fn open_through(
        indexes: &PackStore<B>,
        chunks: Arc<dyn ChunkStore>,
        root: RootHash,
        base: Option<Arc<BaseFile>>,
    ) -> Result<Self, BlockError> {
        let image = indexes.image(root).map_err(store)?;
        let base = match (image.base(), base) {
            (None, _) => None,
            (Some((id, _)), None) => return Err(BlockError::BaseMissing { id }),
            (Some((id, size)), Some(base)) if id == base.id() && size == base.size() => Some(base),
            (Some(_), Some(base)) => {
                let path = base.path().to_path_buf();
                return Err(BlockError::BaseChanged { path });
            }
        };
        Ok(Self {
            image,
            chunks,
            base,
        })
    }

    /// The root of its index.
    #[must_use]
    pub fn root(&self) -> RootHash {
        self.image.index().root()
    }

    /// How long the disk is.
    #[must_use]
    pub fn size(&self) -> ByteLen {
        self.image.index().size()
    }

    /// How many indexes a block may have to be looked for in, beside the first.
    #[must_use]
    pub fn ancestor_count(&self) -> usize {
        self.image.ancestor_count()
    }

    /// Whether blocks are still read from the flat image that it was made of.
    #[must_use]
    pub fn needs_base(&self) -> bool {
        self.base.is_some()
    }

    /// Fills `buf` with the bytes from `offset` on.
    ///
    /// # Errors
    /// [`BlockError::PastEnd`], [`BlockError::Read`] naming the block, [`BlockError::BaseRead`],
    /// [`BlockError::BaseChanged`].
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), BlockError> {
        check_range(offset, buf.len() as u64, self.size().get())?;
        for (block, from, part) in by_block(offset, buf) {
            match self.content(block, pages_of(from, part.len()))? {
                None => part.fill(0),
                Some(bytes) => copy_padded(&bytes, from, part),
            }
        }
        Ok(())
    }

    /// The `len` bytes from `offset` on, in pieces that lie in one block each: those of a chunk are
    /// shared with its other readers, and not copied.
    ///
    /// # Errors
    /// As [`DiskImage::read_at`].
    pub fn read_shared(&self, offset: u64, len: u64) -> Result<Vec<Bytes>, BlockError> {
        check_range(offset, len, self.size().get())?;
        let piece = |(block, from, len): (u64, usize, usize)| {
            let bytes = self.content(block, pages_of(from, len))?;
            let whole = bytes.filter(|bytes| bytes.len() >= from + len);
            if let Some(bytes) = whole {
                return Ok(bytes.slice(from..from + len));
            }
            let mut copy = vec![0; len];
            self.read_at(block * BLOCK_BYTES + from as u64, &mut copy)?;
            Ok(copy.into())
        };
        ranges_by_block(offset, len).map(piece).collect()
    }

    /// What the blocks from `block` on are: whether they are known to be zero, and for how many
    /// blocks that holds, at most `count`. What no index can be asked about is not known to be.
    ///
    /// # Errors
    /// None at present.
    pub fn run_at(&self, block: u64, count: u64) -> Result<(bool, u64), BlockError> {
        Ok(match self.located(block, count) {
            Ok((located, run)) => (located == Located::Zero, run),
            Err(_) => (false, count.clamp(1, UNKNOWN_RUN)),
        })
    }

    /// The disk after a fold: an index on top of one of this disk's, or of none.
    pub(crate) fn successor(&self, root: RootHash) -> Result<Self, BlockError> {
        let image = self.image.successor(root).map_err(store)?;
        let base = image.base().and_then(|_| self.base.clone());
        Ok(Self {
            image,
            chunks: Arc::clone(&self.chunks),
            base,
        })
    }

    pub(crate) fn link_count(&self) -> usize {
        self.image.link_count()
    }

    pub(crate) fn link(&self, number: usize) -> Option<&Index> {
        self.image.link(number)
    }

    pub(crate) fn link_of(&self, root: RootHash) -> Option<usize> {
        self.image.link_of(root)
    }

    /// See [`Image::run_above`]; past the end all is zero.
    pub(crate) fn run_above(
        &self,
        links: usize,
        block: u64,
        count: u64,
    ) -> Result<(Option<Located>, u64), Unreadable> {
        if block >= self.image.index().block_count() {
            return Ok((Some(Located::Zero), count));
        }
        self.image.run_above(links, block, count)
    }

    /// See [`Image::parts_above`].
    pub(crate) fn parts_above(
        &self,
        links: usize,
        block: u64,
    ) -> Result<Vec<(u16, PartSource)>, Unreadable> {
        self.image.parts_above(links, block)
    }

    /// A bit for each page of a block that lies on the disk: the others are zero, whatever the
    /// block is.
    pub(crate) fn pages_on_disk(&self, block: u64) -> u16 {
        match self.image.index().block_len(block) {
            Some(len) => pages_of(0, len.get() as usize),
            None => 0,
        }
    }

    /// Whether some of a block that is made of parts is, or may be, of the flat image.
    pub(crate) fn has_base_part(&self, block: u64) -> bool {
        let parts = self.image.parts(block);
        let is_base = |source: &PartSource| matches!(source, PartSource::Origin { .. });
        parts.unknown.is_some() || parts.known.iter().any(|(_, source)| is_base(source))
    }

    /// The first blocks that are made of parts, at most `count`.
    pub(crate) fn part_blocks(&self, count: usize) -> Vec<u64> {
        let links = (0..self.link_count()).filter_map(|number| self.link(number));
        let mut blocks: Vec<u64> = links
            .flat_map(|index| index.parts().iter().map(|row| row.block))
            .collect();
        blocks.sort_unstable();
        blocks.dedup();
        let is_parts = |block: &u64| matches!(self.located(*block, 1), Ok((Located::Parts, _)));
        blocks.into_iter().filter(is_parts).take(count).collect()
    }

    /// As an index says it; past the end all is zero.
    pub(crate) fn located(&self, block: u64, count: u64) -> Result<(Located, u64), BlockError> {
        if block >= self.image.index().block_count() {
            return Ok((Located::Zero, count));
        }
        let run = self.image.locate_run(block, count);
        run.map_err(|source| BlockError::Read { block, source })
    }

    /// The bytes of a block, without the zeros behind the end of the disk; `None` if all are zero.
    /// At least the wanted pages are right.
    pub(crate) fn content(&self, block: u64, wanted: u16) -> Result<Option<Bytes>, BlockError> {
        match self.located(block, 1)?.0 {
            Located::Zero => Ok(None),
            Located::Chunk(id, len) => self.chunk(block, id, len).map(Some),
            Located::Base => self.base_block(block),
            Located::Parts => self.read_parts(block, wanted),
        }
    }

    /// The wanted pages of a block that is made of parts.
    pub(crate) fn read_parts(&self, block: u64, wanted: u16) -> Result<Option<Bytes>, BlockError> {
        let failed = |source| BlockError::Read { block, source };
        let len = self.image.index().block_len(block);
        let len = len.map_or(0, |len| len.get() as usize);
        let mut out = vec![0; len];
        let found = self.image.parts(block);
        for (pages, source) in found.known {
            let pages = pages & wanted;
            let (bytes, len) = match source {
                _ if pages == 0 => continue,
                PartSource::Zero => continue,
                PartSource::Lost => return Err(failed(StoreError::LostPages { block })),
                PartSource::Origin { len } => match self.base_block(block)? {
                    Some(bytes) => (bytes, len as usize),
                    None => continue,
                },
                PartSource::Chunk { id, len } => {
                    let bytes = self.chunks.get(id).map_err(failed)?;
                    let (expected, found) = (len.into(), bytes.len() as u64);
                    if found < expected {
                        return Err(failed(StoreError::WrongChunkLen {
                            id,
                            block,
                            expected,
                            found,
                        }));
                    }
                    (bytes, len as usize)
                }
            };
            for (start, part) in parts(0, &mut out, pages) {
                copy_padded(&bytes[..bytes.len().min(len)], start, part);
            }
        }
        match found.unknown {
            Some((pages, source)) if pages & wanted != 0 => Err(failed(source)),
            _ => Ok((!is_zero(&out)).then(|| Bytes::from(out))),
        }
    }

    pub(crate) fn chunk(&self, block: u64, id: ChunkId, len: ByteLen) -> Result<Bytes, BlockError> {
        let failed = |source| BlockError::Read { block, source };
        let bytes = self.chunks.get(id).map_err(failed)?;
        let found = bytes.len() as u64;
        if found != len.get() {
            let expected = len.get();
            return Err(failed(StoreError::WrongChunkLen {
                id,
                block,
                expected,
                found,
            }));
        }
        Ok(bytes)
    }

    /// How long the flat image is that blocks may still be read from.
    pub(crate) fn base_size(&self) -> u64 {
        self.image.base().map_or(0, |(_, size)| size.get())
    }

    /// The origin of an index that names all blocks but those of the flat image.
    pub(crate) fn base_origin(&self) -> IndexOrigin {
        match self.image.base() {
            Some((id, size)) => IndexOrigin::Base { id, size },
            None => IndexOrigin::None,
        }
    }

    /// The bytes of many chunks.
    pub(crate) fn chunks(&self, ids: &[ChunkId]) -> Vec<Result<Bytes, StoreError>> {
        self.chunks.get_many(ids)
    }

    /// Shows the bytes of many chunks: see [`ChunkStore::visit_many`].
    pub(crate) fn visit_chunks(&self, ids: &[ChunkId], visitor: &Visitor<'_>) {
        self.chunks.visit_many(ids, visitor);
    }

    /// A block that the flat image has.
    pub(crate) fn base_block(&self, block: u64) -> Result<Option<Bytes>, BlockError> {
        let base = self
            .base
            .as_ref()
            .expect("an image with a base is opened with it");
        let rest = base.size().get().saturating_sub(block * BLOCK_BYTES);
        base.block(block, rest.min(BLOCK_BYTES))
    }
}

/// The tag of a disk.
pub(crate) fn disk_tag<B: Backend>(from: &PackStore<B>, name: &TagName) -> Result<Tag, BlockError> {
    noted_tag(from, name).map(|(tag, _)| tag)
}

/// The tag of a disk, and the log that it names, at one moment.
pub(crate) fn noted_tag<B: Backend>(
    from: &PackStore<B>,
    name: &TagName,
) -> Result<(Tag, Option<LogNote>), BlockError> {
    match from.noted_tag(name).map_err(store)? {
        None => Err(BlockError::MissingDisk { name: name.clone() }),
        Some((tag, _)) if tag.kind != TagKind::Index => {
            Err(BlockError::NotADisk { name: name.clone() })
        }
        Some(noted) => Ok(noted),
    }
}

/// Refuses what is not wholly on the disk.
pub(crate) fn check_range(offset: u64, len: u64, size: u64) -> Result<(), BlockError> {
    match offset.checked_add(len) {
        Some(end) if end <= size => Ok(()),
        _ => Err(BlockError::PastEnd { offset, len, size }),
    }
}

/// The parts of a buffer by block, with the offset in the block where each begins.
pub(crate) fn by_block(
    offset: u64,
    buf: &mut [u8],
) -> impl Iterator<Item = (u64, usize, &mut [u8])> {
    let mut at = offset;
    let mut rest = buf;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let from = (at % BLOCK_BYTES) as usize;
        let len = rest.len().min(BLOCK_BYTES as usize - from);
        let (part, behind) = std::mem::take(&mut rest).split_at_mut(len);
        rest = behind;
        let block = at / BLOCK_BYTES;
        at += len as u64;
        Some((block, from, part))
    })
}

/// A range by block: the offset in the block where each part begins, and its length.
pub(crate) fn ranges_by_block(offset: u64, len: u64) -> impl Iterator<Item = (u64, usize, usize)> {
    let end = offset + len;
    let mut at = offset;
    std::iter::from_fn(move || {
        let from = at % BLOCK_BYTES;
        let len = (end - at).min(BLOCK_BYTES - from);
        let block = at / BLOCK_BYTES;
        at += len;
        (len > 0).then_some((block, from as usize, len as usize))
    })
}

/// Copies what `bytes` has from `from` on; zeros behind its end.
pub(crate) fn copy_padded(bytes: &[u8], from: usize, part: &mut [u8]) {
    let have = bytes.len().saturating_sub(from).min(part.len());
    let (front, rest) = part.split_at_mut(have);
    front.copy_from_slice(&bytes[bytes.len().min(from)..][..have]);
    rest.fill(0);
}
