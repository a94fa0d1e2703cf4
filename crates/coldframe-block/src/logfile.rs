//! The file of a device's log.
//!
//! Invariant: the file appears under its name with a whole log in it, or not at all, and nothing
//! that was there before is written over.

use std::fs::{self, File};
use std::path::Path;

use coldframe_storage::{FileStorage, IoContext, Operation, Storage, StorageError};
use coldframe_units::{ByteLen, FileOffset};
use coldframe_wal::{Region, RingOptions, RingWal};

use crate::BlockError;
use crate::error::log;

/// What the size of a region is a multiple of.
const ALIGN: u64 = 16;

/// Opens the log in a file; makes one of `size` bytes there if there is no file.
///
/// # Errors
/// [`BlockError::LogFile`]; [`BlockError::Log`]: someone else has the log, the file holds something
/// else, or is damaged.
pub fn open_log(path: &Path, size: ByteLen) -> Result<RingWal<FileStorage>, BlockError> {
    if !path
        .try_exists()
        .at(Operation::Open, path)
        .map_err(failed)?
    {
        create(path, size)?;
    }
    let storage = FileStorage::open(path).map_err(failed)?;
    let have = storage.len().map_err(failed)?.get() / ALIGN * ALIGN;
    let region = Region::new(FileOffset::ZERO, ByteLen::new(have)).map_err(log)?;
    RingWal::open(storage, region, RingOptions::ON_DEMAND).map_err(log)
}

fn create(path: &Path, size: ByteLen) -> Result<(), BlockError> {
    let size = ByteLen::new(size.get() / ALIGN * ALIGN);
    let region = Region::new(FileOffset::ZERO, size).map_err(log)?;
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    let number = getrandom::u64()
        .at(Operation::TemporaryName, path)
        .map_err(failed)?;
    let temporary = parent.join(format!(".log-{number:016x}"));
    let storage = FileStorage::create(&temporary).map_err(failed)?;
    let made = RingWal::create(storage, region, RingOptions::ON_DEMAND)
        .and_then(RingWal::close)
        .map_err(log);
    let named = made.and_then(|()| link(&temporary, path, parent).map_err(failed));
    // Two names of one file, or what is left of a failure: either way it has done its part.
    let removed = fs::remove_file(&temporary).at(Operation::Remove, &temporary);
    named.and_then(|()| removed.map_err(failed))
}

/// Of several that make the same log at once, one wins, and all open what it made.
fn link(temporary: &Path, path: &Path, parent: &Path) -> Result<(), StorageError> {
    match fs::hard_link(temporary, path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        linked => linked.at(Operation::Create, path),
    }?;
    let synced = File::open(parent).and_then(|directory| directory.sync_all());
    synced.at(Operation::SyncDirectory, parent)
}

fn failed(source: StorageError) -> BlockError {
    BlockError::LogFile { source }
}
