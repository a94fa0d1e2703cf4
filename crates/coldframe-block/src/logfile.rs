//! The file of a device's log.
//!
//! Invariant: the file appears under its name with a whole log in it, or not at all, and nothing
//! that was there before is written over. What a process left that was killed while it made a log
//! is removed by the next that makes one in that directory.

use std::io::ErrorKind;
use std::path::Path;

use coldframe_ring::{Region, RingOptions, RingWal};
use coldframe_storage::{
    FileStorage, IoContext, Operation, Overwrite, PendingFile, Storage, StorageError, sweep_stale,
};
use coldframe_units::{ByteLen, FileOffset};

use crate::BlockError;
use crate::device::Room;
use crate::error::log;

/// What the size of a region is a multiple of.
const ALIGN: u64 = 16;

/// Opens the log in a file; makes one of `size` bytes there if there is no file.
///
/// The name of the log is durable when this returns, also if another process made it: what is
/// flushed is in it.
///
/// # Errors
/// [`BlockError::LogFile`]; [`BlockError::LogTooSmall`]: none is made;
/// [`BlockError::Log`]: someone else has the log, the file holds something
/// else, or is damaged.
pub fn open_log(path: &Path, size: ByteLen) -> Result<RingWal<FileStorage>, BlockError> {
    let is_there = path.try_exists().at(Operation::Open, path);
    let is_ours = !is_there.map_err(failed)? && create(path, size)?;
    let storage = FileStorage::open(path).map_err(failed)?;
    let region = region_of(&storage)?;
    let opened = RingWal::open(storage, region, RingOptions::ON_DEMAND).map_err(log)?;
    if !is_ours {
        sync_name(path).map_err(failed)?;
    }
    Ok(opened)
}

/// Makes the name of a log durable that another process made: it may have ended before it could.
fn sync_name(path: &Path) -> Result<(), StorageError> {
    let real = path.canonicalize().at(Operation::Open, path)?;
    match coldframe_storage::sync_name(&real) {
        // Not ours to read, so another made what is there, and answers for it.
        Err(StorageError::SyncDirectory { source, .. } | StorageError::Open { source, .. })
            if source.kind() == ErrorKind::PermissionDenied =>
        {
            Ok(())
        }
        synced => synced,
    }
}

/// The whole of a file, as the region of a ring.
pub(crate) fn region_of(storage: &FileStorage) -> Result<Region, BlockError> {
    Region::whole(storage.len().map_err(failed)?).map_err(log)
}

/// Makes a log; whether it is the one that is there then, and its name durable.
fn create(path: &Path, size: ByteLen) -> Result<bool, BlockError> {
    let size = ByteLen::new(size.get() / ALIGN * ALIGN);
    let region = Region::new(FileOffset::ZERO, size).map_err(log)?;
    let pending = match PendingFile::create(path, Overwrite::Refuse) {
        Ok(pending) => pending,
        Err(error) if error.is_exists() => return Ok(false),
        Err(error) => return Err(failed(error)),
    };
    if let Some(parent) = pending.dest().parent()
        && let Err(error) = sweep_stale(parent)
    {
        tracing::warn!(path = %parent.display(), %error, "leftovers not swept");
    }
    let made = RingWal::create(&pending, region, RingOptions::ON_DEMAND).map_err(log)?;
    // Before it is there: one that is too small would be refused ever after.
    Room::of(made.stats().ring.get())?;
    made.close().map_err(log)?;
    match pending.publish_in_use() {
        // Of several that make the same log at once, one wins, and all open what it made.
        Err(error) if error.is_exists() => Ok(false),
        published => published.map(|_| true).map_err(failed),
    }
}

fn failed(source: StorageError) -> BlockError {
    BlockError::LogFile { source }
}
