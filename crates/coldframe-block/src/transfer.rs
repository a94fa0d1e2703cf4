//! Raw images into the store and out of it.
//!
//! Invariants: a hole of a file is zeros, and costs no reading; an image that changes while it is
//! read is an error, and no tag points to it.

use std::fs::File;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use coldframe_chunkfile::{IMAGE_BYTES_MAX, IndexBuilder, IndexOrigin, Tag};
use coldframe_chunks::{Backend, Located, PackStore, Push, PutCount, StoreError, TagName};
use coldframe_envelope::Producer;
use coldframe_storage::{FileStorage, IoContext, Operation, Overwrite, Storage, StorageError};
use coldframe_units::{BLOCK_BYTES, ByteLen, ChunkId, FileOffset, RootHash};

use crate::base::open_image;
use crate::error::{index, store};
use crate::{BaseFile, BlockError, DiskImage, DiskView};

/// Blocks that are read at a time: 8 MiB.
const BATCH: u64 = 128;

/// Blocks that are fetched and written at a time; none of them stays in memory.
const EXPORT_BATCH: usize = 1024;

/// When the blocks of an image are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportMode {
    /// Now: the disk needs the file no more.
    Now,
    /// When they are first read from the disk: it needs the file, unchanged.
    Lazy,
}

/// How an image is imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImportOptions {
    /// When its blocks are read.
    pub mode: ImportMode,
    /// Take the bytes as they are, also if they are those of a format that holds a disk.
    pub as_raw: bool,
    /// What to do if the tag exists.
    pub overwrite: Overwrite,
}

impl From<ImportMode> for ImportOptions {
    fn from(mode: ImportMode) -> Self {
        Self {
            mode,
            as_raw: false,
            overwrite: Overwrite::Refuse,
        }
    }
}

/// What an import came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The index of the disk.
    pub root: RootHash,
    /// The size of the disk.
    pub size: ByteLen,
    /// Bytes of blocks that are not zero; none for a lazy import.
    pub data_bytes: u64,
    /// What became of the chunks.
    pub chunks: PutCount,
}

/// Makes a disk of a raw image, a file or a block device. `progress` is told of bytes that are
/// done.
///
/// A disk that takes the place of another one has an identity of its own: no log of the other one
/// goes with it.
///
/// Spec: BLK-30, BLK-31
///
/// # Errors
/// [`BlockError::Exists`]; [`BlockError::Store`] with [`StoreError::UnfoldedLog`] if a log may
/// have changes of the disk to replace; [`BlockError::NotRaw`], [`BlockError::NotAnImage`],
/// [`BlockError::BaseRead`], [`BlockError::Import`], [`BlockError::TooLarge`],
/// [`BlockError::BaseChanged`] if the file changed meanwhile, [`BlockError::Store`].
pub fn import<B: Backend>(
    into: &PackStore<B>,
    path: &Path,
    name: &TagName,
    options: impl Into<ImportOptions>,
    progress: &mut dyn FnMut(u64),
) -> Result<Imported, BlockError> {
    let ImportOptions {
        mode,
        as_raw,
        overwrite,
    } = options.into();
    let found = replaceable(into, name, overwrite)?;
    let base = BaseFile::open(path)?;
    if let Some(format) = base.format()?.filter(|_| !as_raw) {
        let path = path.to_path_buf();
        return Err(BlockError::NotRaw { path, format });
    }
    let (size, max) = (base.size(), IMAGE_BYTES_MAX);
    if size.get() > max {
        let asked = size.get();
        return Err(BlockError::TooLarge { asked, max });
    }
    let origin = match mode {
        ImportMode::Now => IndexOrigin::None,
        ImportMode::Lazy => IndexOrigin::Base {
            id: base.id(),
            size,
        },
    };
    let mut builder = IndexBuilder::new(size, origin, producer()).map_err(index)?;
    let push = into.push().map_err(store)?;
    let data_bytes = match mode {
        ImportMode::Now => read_all(path, size.get(), &push, &mut builder, progress)?,
        ImportMode::Lazy => 0,
    };
    if BaseFile::open(path)?.id() != base.id() {
        let path = path.to_path_buf();
        return Err(BlockError::BaseChanged { path });
    }
    let root = publish(into, &push, (name, found), builder)?;
    let chunks = push.finish().map_err(store)?;
    Ok(Imported {
        root,
        size,
        data_bytes,
        chunks,
    })
}

/// What the tag is now, if it may be replaced: told before the work, and again when it is done.
fn replaceable<B: Backend>(
    into: &PackStore<B>,
    name: &TagName,
    overwrite: Overwrite,
) -> Result<Option<Tag>, BlockError> {
    let found = into.tag(name).map_err(store)?;
    let note = match (found, overwrite) {
        (Some(_), Overwrite::Refuse) => {
            return Err(BlockError::Exists { name: name.clone() });
        }
        (Some(tag), Overwrite::Replace) if tag.log.is_some() => into.log_note(name),
        _ => return Ok(found),
    };
    let Some(log) = note.map_err(store)?.map(Box::new) else {
        return Ok(found);
    };
    let name = name.clone();
    Err(store(StoreError::UnfoldedLog { name, log }))
}

/// Makes a disk of zeros, under a new tag.
///
/// # Errors
/// [`BlockError::Exists`], [`BlockError::TooLarge`], [`BlockError::Store`].
pub fn create<B: Backend>(
    into: &PackStore<B>,
    name: &TagName,
    size: ByteLen,
) -> Result<RootHash, BlockError> {
    let (asked, max) = (size.get(), IMAGE_BYTES_MAX);
    if asked > max {
        return Err(BlockError::TooLarge { asked, max });
    }
    let mut builder = IndexBuilder::new(size, IndexOrigin::None, producer()).map_err(index)?;
    if asked > 0 {
        let blocks = asked.div_ceil(BLOCK_BYTES);
        builder.push_zeros(0, blocks).map_err(index)?;
    }
    let push = into.push().map_err(store)?;
    let root = publish(into, &push, (name, None), builder)?;
    push.finish().map_err(store)?;
    Ok(root)
}

fn producer() -> Producer {
    let by = Producer::new("coldframe-block", env!("CARGO_PKG_VERSION"));
    by.expect("name and version are short ASCII")
}

/// Keeps the index, and points the tag to it.
fn publish<B: Backend>(
    into: &PackStore<B>,
    push: &Push<B>,
    (name, found): (&TagName, Option<Tag>),
    builder: IndexBuilder,
) -> Result<RootHash, BlockError> {
    let file = builder.finish().map_err(index)?.into_file();
    let root = push.put_root(&[&file]).map_err(store)?;
    let disk = into.new_disk_id().map_err(store)?;
    let tagged = push.tag(name, found, Tag::disk(root, disk));
    tagged.map_err(|error| match error {
        StoreError::TagMoved { name } if found.is_some() => BlockError::HeadMoved { name },
        StoreError::TagMoved { name } => BlockError::Exists { name },
        error => store(error),
    })?;
    Ok(root)
}

fn read_all<B: Backend>(
    path: &Path,
    size: u64,
    push: &Push<B>,
    builder: &mut IndexBuilder,
    progress: &mut dyn FnMut(u64),
) -> Result<u64, BlockError> {
    let failed = |source| BlockError::Import { source };
    let file = open_image(path)?;
    let storage = file.try_clone().at(Operation::Open, path).map_err(failed)?;
    let storage = FileStorage::from_file(storage, path);
    let blocks = size.div_ceil(BLOCK_BYTES);
    let (mut block, mut data_bytes) = (0, 0);
    while block < blocks {
        let data = next_data(&file, block * BLOCK_BYTES, size);
        let data = data.at(Operation::Open, path).map_err(failed)? / BLOCK_BYTES;
        if data > block {
            let hole = data.min(blocks) - block;
            builder.push_zeros(block, hole).map_err(index)?;
            progress(hole * BLOCK_BYTES);
            block += hole;
            continue;
        }
        let start = block * BLOCK_BYTES;
        let len = (size - start).min(BATCH * BLOCK_BYTES);
        let offsets = (start..start + len).step_by(BLOCK_BYTES as usize);
        let lens = offsets.map(|at| (start + len - at).min(BLOCK_BYTES) as usize);
        let lens: Vec<usize> = lens.collect();
        let read = |number: usize, bytes: &mut [u8]| {
            let at = FileOffset::new(start + number as u64 * BLOCK_BYTES);
            storage.read_at(at, bytes).map_err(failed)
        };
        let ids = push.put_read(&lens, read)?;
        for (id, len) in ids.into_iter().zip(&lens) {
            match id {
                Some(id) => {
                    data_bytes += *len as u64;
                    builder.push_chunk(block, id)
                }
                None => builder.push_zeros(block, 1),
            }
            .map_err(index)?;
            block += 1;
        }
        progress(len);
    }
    Ok(data_bytes)
}

/// Where the next bytes are that may be other than zero; the end of the file if there are none.
///
/// It moves the cursor of the descriptor, which nobody uses. Source: lseek(2), `SEEK_DATA`.
#[cfg(target_os = "linux")]
fn next_data(file: &File, at: u64, size: u64) -> std::io::Result<u64> {
    let offset = at.try_into().map_err(std::io::Error::other)?;
    match nix::unistd::lseek(file, offset, nix::unistd::Whence::SeekData) {
        Ok(found) => Ok(found.unsigned_abs()),
        Err(nix::errno::Errno::ENXIO) => Ok(size.next_multiple_of(BLOCK_BYTES)),
        // A file system without holes.
        Err(nix::errno::Errno::EINVAL) => Ok(at),
        Err(errno) => Err(errno.into()),
    }
}

/// As on Linux, but that no hole is known.
#[cfg(not(target_os = "linux"))]
fn next_data(_: &File, at: u64, _: u64) -> std::io::Result<u64> {
    Ok(at)
}

/// Writes a disk as a raw image, zeros as holes, into `out`, which must be empty. `progress` is
/// told of bytes that are done.
///
/// # Errors
/// [`BlockError::Read`] naming the block, [`BlockError::Export`].
pub fn export<B: Backend>(
    image: &DiskImage<B>,
    out: &dyn Storage,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<u64, BlockError> {
    let failed = |source: StorageError| BlockError::Export { source };
    let size = image.size();
    out.set_len(size).map_err(failed)?;
    let blocks = size.get().div_ceil(BLOCK_BYTES);
    let (mut block, mut data_bytes) = (0, 0);
    let mut batch: Vec<(u64, ChunkId)> = Vec::with_capacity(EXPORT_BATCH);
    while block < blocks {
        let (located, run) = image.located(block, blocks - block)?;
        match located {
            Located::Zero => progress((run * BLOCK_BYTES).min(size.get())),
            Located::Chunk(id, _) => batch.push((block, id)),
            Located::Base | Located::Parts => {
                for block in block..block + run {
                    if let Some(bytes) = image.content(block, u16::MAX)? {
                        let at = FileOffset::new(block * BLOCK_BYTES);
                        out.write_at(at, &bytes).map_err(failed)?;
                        data_bytes += bytes.len() as u64;
                    }
                    progress(BLOCK_BYTES.min(size.get()));
                }
            }
        }
        block += run;
        if batch.len() == EXPORT_BATCH {
            data_bytes += write_batch(image, &batch, out, progress)?;
            batch.clear();
        }
    }
    data_bytes += write_batch(image, &batch, out, progress)?;
    Ok(data_bytes)
}

/// Writes a disk as [`export`] does, with what a log has on top of it.
///
/// # Errors
/// As [`export`].
pub fn export_view<B: Backend>(
    view: &DiskView<B>,
    out: &dyn Storage,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<u64, BlockError> {
    let disk = match view {
        DiskView::Stored(image) => return export(image, out, progress),
        DiskView::Logged(disk) => disk,
    };
    let failed = |source: StorageError| BlockError::Export { source };
    let size = disk.size().get();
    out.set_len(disk.size()).map_err(failed)?;
    let mut bytes = vec![0; (BATCH * BLOCK_BYTES) as usize];
    let (mut at, mut data_bytes) = (0, 0);
    while at < size {
        let mut run = (0, false);
        disk.extents(at, size - at, &mut |len, is_zero| {
            run = (len, is_zero);
            false
        })?;
        let (len, is_zero) = run;
        let mut done = 0;
        while done < len {
            let part = (len - done).min(BATCH * BLOCK_BYTES);
            if !is_zero {
                let part = &mut bytes[..part as usize];
                disk.read_at(at + done, part)?;
                out.write_at(FileOffset::new(at + done), part)
                    .map_err(failed)?;
                data_bytes += part.len() as u64;
            }
            progress(part);
            done += part;
        }
        at += len.max(1);
    }
    Ok(data_bytes)
}

fn write_batch<B: Backend>(
    image: &DiskImage<B>,
    batch: &[(u64, ChunkId)],
    out: &dyn Storage,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<u64, BlockError> {
    let ids: Vec<ChunkId> = batch.iter().map(|(_, id)| *id).collect();
    let done = Mutex::new((Ok(0), progress));
    image.visit_chunks(&ids, &|number, bytes| {
        let (block, id) = batch[number];
        let written = write_block(image, block, id, bytes, out);
        let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
        let (total, progress) = &mut *done;
        match (written, total) {
            (Ok(len), Ok(total)) => {
                *total += len;
                progress(len);
                ControlFlow::Continue(())
            }
            (Err(error), total) => {
                *total = Err(error);
                ControlFlow::Break(())
            }
            (Ok(_), Err(_)) => ControlFlow::Break(()),
        }
    });
    let (total, _) = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    total
}

fn write_block<B: Backend>(
    image: &DiskImage<B>,
    block: u64,
    id: ChunkId,
    bytes: Result<&[u8], StoreError>,
    out: &dyn Storage,
) -> Result<u64, BlockError> {
    let bytes = bytes.map_err(|source| BlockError::Read { block, source })?;
    let at = block * BLOCK_BYTES;
    let (expected, found) = (
        (image.size().get() - at).min(BLOCK_BYTES),
        bytes.len() as u64,
    );
    if found != expected {
        let source = StoreError::WrongChunkLen {
            id,
            block,
            expected,
            found,
        };
        return Err(BlockError::Read { block, source });
    }
    let written = out.write_at(FileOffset::new(at), bytes);
    written.map_err(|source| BlockError::Export { source })?;
    Ok(found)
}
