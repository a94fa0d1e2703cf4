//! A disk that is written to: changed pages are in a log, from where they are read too, and are
//! brought into the store as chunks and a delta index when there are enough of them. In memory is
//! only where the log has them.
//!
//! Invariants. A page is looked for in the active layer, the frozen one, the image: the first that
//! has it is right. A writer of a page holds the writer's lock of its shard from before the
//! record is appended until the page is in the active layer, so that the log has the changes of a
//! page in the order in which they happened. The tag is what decides which index a log is on top
//! of: it moves after the index and the record that names it are durable, and only then records
//! are given up.

mod ahead;
pub(crate) mod attach;
mod cow;
mod extents;
mod fold;
mod inner;
mod lower;
mod open;
pub(crate) mod pages;
mod read;
mod resize;
mod rows;
mod view;
mod worker;
mod write;
mod zero;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use coldframe_chunks::{Backend, ChunkStore, PackStore, PutCount, TagName};
use coldframe_ring::{RingStats, RingWal};
use coldframe_storage::{Overwrite, Storage};
use coldframe_units::{ByteLen, RootHash};

use crate::{BaseFile, BlockError};
use inner::Inner;
pub(crate) use inner::Room;
pub use open::check_log;
pub use view::{DiskView, LoggedDisk, LostRecords, Recovered, ViewLog, recover};
use worker::Worker;

/// What becomes of changes in another log, which the disk's tag names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherLog {
    /// They stay: a device is opened with that log, or not at all.
    Refuse,
    /// They are given up.
    Abandon,
}

/// How a device works; none of it changes what others can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceOptions {
    /// Memory for what was changed: where the log has it, and blocks of a flat image that were
    /// read, in bytes. At half of it, or of the log, changes are brought into the store.
    pub dirty_bytes_max: u64,
    /// An index with more ancestors than this is written whole.
    pub ancestors_max: usize,
    /// Blocks that are read ahead of a sequential reader; 0 switches it off.
    pub read_ahead_blocks: u64,
    /// Whether to go on without the changes of another log.
    pub other_log: OtherLog,
    /// Whether to take a log that belongs to another store, of which this one is a copy, or the
    /// other way round: its changes are lost to that one.
    pub take_log: bool,
}

impl DeviceOptions {
    /// 256 MiB of memory, 32 ancestors, 1 MiB read ahead.
    pub const USUAL: Self = Self {
        dirty_bytes_max: 256 << 20,
        ancestors_max: 32,
        read_ahead_blocks: 16,
        other_log: OtherLog::Refuse,
        take_log: false,
    };
}

/// What may become of the end of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shrink {
    /// It stays: a smaller size is an error.
    Refuse,
    /// It may be cut off.
    Allow,
}

/// What bringing changes into the store came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Folded {
    /// The index that holds all of them.
    pub root: RootHash,
    /// Blocks that it names anew; 0 if nothing had changed.
    pub blocks: u64,
    /// Bytes of the index's file; 0 if nothing had changed.
    pub index_bytes: u64,
    /// What became of the chunks.
    pub chunks: PutCount,
}

/// A device at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceStat {
    /// The size of the disk.
    pub size: ByteLen,
    /// Memory that changes take, in bytes.
    pub dirty_bytes: u64,
    /// How often changes were brought into the store since it was opened.
    pub folds: u64,
    /// Ancestors of the index.
    pub ancestors: usize,
    /// Chunks that were read before they were asked for.
    pub read_ahead_chunks: u64,
    /// The log.
    pub log: RingStats,
}

/// What a device is opened over.
pub struct DeviceParts<B: Backend, S> {
    /// Where indexes, tags and new chunks go.
    pub store: PackStore<B>,
    /// Through what chunks are read; `None` for the store itself.
    pub chunks: Option<Arc<dyn ChunkStore>>,
    /// The tag of the disk, and that the device moves.
    pub head: TagName,
    /// Where writes go first.
    pub log: RingWal<S>,
    /// The flat image that the disk was made of, if it still needs one.
    pub base: Option<Arc<BaseFile>>,
}

/// A copy-on-write disk.
///
/// Any number of threads may use one at a time. Dropping it keeps all that was written in the log;
/// [`BlockDevice::close`] brings it into the store.
pub struct BlockDevice<B: Backend, S: Storage + 'static> {
    inner: Arc<Inner<B, S>>,
    worker: Worker,
}

impl<B: Backend, S: Storage + 'static> fmt::Debug for BlockDevice<B, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockDevice")
            .field("head", &self.inner.head)
            .finish_non_exhaustive()
    }
}

impl<B: Backend, S: Storage + 'static> BlockDevice<B, S> {
    /// Opens the disk of a tag with its log, and takes from the log what the tag does not have.
    ///
    /// Spec: BLK-20, BLK-21
    ///
    /// # Errors
    /// [`BlockError::MissingDisk`], [`BlockError::NotADisk`]; [`BlockError::LogElsewhere`] if the
    /// tag names another log with changes; [`BlockError::Diverged`],
    /// [`BlockError::LogOfAnotherLife`], [`BlockError::LogOfAnother`], [`BlockError::Record`],
    /// [`BlockError::LogTooSmall`], [`BlockError::BaseMissing`], [`BlockError::BaseChanged`],
    /// [`BlockError::Store`], [`BlockError::Log`].
    pub fn open(parts: DeviceParts<B, S>, options: DeviceOptions) -> Result<Self, BlockError> {
        let inner = Arc::new(open::open(parts, options)?);
        let worker = Worker::start(&inner)?;
        Ok(Self { inner, worker })
    }

    /// How long the disk is now.
    #[must_use]
    pub fn size(&self) -> ByteLen {
        ByteLen::new(self.inner.size())
    }

    /// The tag that the device moves.
    #[must_use]
    pub fn head(&self) -> &TagName {
        &self.inner.head
    }

    /// Fills `buf` with the bytes from `offset` on. Writes that go on meanwhile are seen page by
    /// page.
    ///
    /// # Errors
    /// [`BlockError::PastEnd`], [`BlockError::Read`] naming the block, [`BlockError::BaseRead`],
    /// [`BlockError::BaseChanged`].
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), BlockError> {
        self.inner.read_at(offset, buf)
    }

    /// The `len` bytes from `offset` on, in pieces that lie in one block each: those of a block
    /// that was not changed since the last fold are shared with the chunk, and not copied.
    ///
    /// # Errors
    /// As [`BlockDevice::read_at`].
    pub fn read_shared(&self, offset: u64, len: u64) -> Result<Vec<Bytes>, BlockError> {
        self.inner.read_shared(offset, len)
    }

    /// Writes `data` at `offset`. It survives the end of the process when this returns, and a
    /// power cut after [`BlockDevice::flush`].
    ///
    /// # Errors
    /// [`BlockError::PastEnd`]: nothing was written. [`BlockError::Store`] and
    /// [`BlockError::LogFull`]: there is no room for more changes, all that was acknowledged is
    /// kept, and writing may be tried again. [`BlockError::Log`].
    pub fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), BlockError> {
        self.inner.write_at(offset, data)
    }

    /// Makes `len` bytes at `offset` zero; whole pages take no space, whatever was there.
    ///
    /// # Errors
    /// As [`BlockDevice::write_at`].
    pub fn write_zeroes(&self, offset: u64, len: u64) -> Result<(), BlockError> {
        self.inner.write_zeroes(offset, len)
    }

    /// Forgets `len` bytes at `offset`: whole pages of 4 KiB among them read as zeros from now on,
    /// and the others stay as they are. Nothing is read for it: what cannot be read can be
    /// discarded.
    ///
    /// # Errors
    /// As [`BlockDevice::write_at`].
    pub fn discard(&self, offset: u64, len: u64) -> Result<(), BlockError> {
        self.inner.discard(offset, len)
    }

    /// Brings the chunks of a range into the store's memory, many at a time.
    ///
    /// # Errors
    /// As [`BlockDevice::read_at`].
    pub fn fetch(&self, offset: u64, len: u64) -> Result<(), BlockError> {
        self.inner.fetch_range(offset, len)
    }

    /// The store's memory for chunks that were read, in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.inner.store.options().cache_bytes
    }

    /// Returns when all that was written before survives a power cut.
    ///
    /// Spec: BLK-10
    ///
    /// # Errors
    /// [`BlockError::Log`]: nothing is acknowledged any more until the device is opened again.
    pub fn flush(&self) -> Result<(), BlockError> {
        self.inner.flush()
    }

    /// Makes the disk so long, durably: new bytes are zero. A size of 0 keeps it as it is.
    ///
    /// # Errors
    /// [`BlockError::Shrink`] unless cutting is allowed, [`BlockError::TooLarge`]; as
    /// [`BlockDevice::write_at`].
    pub fn resize(&self, size: ByteLen, shrink: Shrink) -> Result<(), BlockError> {
        self.inner.resize(size.get(), shrink)
    }

    /// Tells how the bytes from `offset` on are stored: `each` gets lengths, and whether the bytes
    /// are known to be zero, until it says false or `len` bytes are told.
    ///
    /// # Errors
    /// As [`BlockDevice::read_at`]; no chunk is read.
    pub fn extents(
        &self,
        offset: u64,
        len: u64,
        each: &mut dyn FnMut(u64, bool) -> bool,
    ) -> Result<(), BlockError> {
        self.inner.extents(offset, len, each)
    }

    /// Points a tag to the disk as it is now: a delta index on the last one, as long as what
    /// changed since. Writes go on meanwhile, and are in it or not.
    ///
    /// Spec: BLK-22
    ///
    /// # Errors
    /// [`BlockError::Exists`] unless an existing tag is to be replaced, [`BlockError::HeadMoved`],
    /// [`BlockError::Store`], [`BlockError::Read`], [`BlockError::Log`]; all changes are kept.
    pub fn checkpoint(&self, name: &TagName, overwrite: Overwrite) -> Result<Folded, BlockError> {
        self.inner.checkpoint(name, overwrite)
    }

    /// Brings all changes into the store, and gives up their records in the log.
    ///
    /// # Errors
    /// As [`BlockDevice::checkpoint`].
    pub fn fold(&self) -> Result<Folded, BlockError> {
        self.inner.fold()
    }

    /// Sizes and counts.
    #[must_use]
    pub fn stat(&self) -> DeviceStat {
        self.inner.stat()
    }

    /// Brings all changes into the store and closes the log, also if that fails; changes stay in
    /// the log then.
    ///
    /// Spec: BLK-36
    ///
    /// # Errors
    /// As [`BlockDevice::fold`]: then the log keeps what the store does not have.
    pub fn close(self) -> Result<Folded, BlockError> {
        let Self { inner, worker } = self;
        drop(worker);
        let folded = inner.fold();
        let folded = folded.and_then(|folded| inner.release().map(|()| folded));
        // The worker's share is gone: this is the last. Also if the store took nothing: from here
        // on what was flushed last is known to be durable.
        let closed = match Arc::into_inner(inner) {
            Some(inner) => inner.log.close().map_err(crate::error::log),
            None => Ok(()),
        };
        folded.and_then(|folded| closed.map(|()| folded))
    }
}
