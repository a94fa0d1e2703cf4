//! `coldframe disk`: what its verbs share.

mod checkpoint;
mod control;
mod ls;
mod resize;
mod serve;
mod transfer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use coldframe_block::{BaseFile, BlockDevice, BlockError, DeviceOptions, DeviceParts, open_log};
use coldframe_chunks::{AnyBackend, StoreUrl};
use coldframe_storage::FileStorage;
use coldframe_units::ByteLen;

use crate::cli::disk::{Disk, Log, Which};
use crate::exit::Failure;
use crate::store::Store;

/// A device as the verbs open it.
type Device = BlockDevice<AnyBackend, FileStorage>;

/// Runs a verb of the group.
pub fn run(disk: &Disk) -> Result<(), Failure> {
    match disk {
        Disk::Import(args) => transfer::import(args),
        Disk::Export(args) => transfer::export(args),
        Disk::Ls(args) => ls::run(args),
        Disk::Resize(args) => resize::run(args),
        Disk::Serve(args) => serve::run(args),
        Disk::Checkpoint(args) => checkpoint::run(args),
    }
}

/// What is damaged is exit 1, what cannot be meant exit 2, everything else exit 3.
fn failure(what: impl std::fmt::Display, error: &BlockError) -> Failure {
    let is_wanting = matches!(
        error,
        BlockError::Diverged { .. } | BlockError::LogOfAnother { .. }
    );
    if error.is_misuse() || matches!(error, BlockError::BaseMissing { .. }) {
        Failure::usage(what, error)
    } else if error.is_corrupt() || is_wanting {
        Failure::wanting(what, error)
    } else {
        Failure::environment(what, error)
    }
}

/// The flat image that was given.
fn base(path: Option<&Path>) -> Result<Option<Arc<BaseFile>>, Failure> {
    let opened = path.map(|path| {
        let cannot = format!("cannot open {}", path.display());
        BaseFile::open(path).map_err(|error| failure(cannot, &error))
    });
    Ok(opened.transpose()?.map(Arc::new))
}

/// Where the log is that was asked for; it is always the same one for a disk, unless one is named.
fn log_path(which: &Which, log: &Log) -> Result<PathBuf, Failure> {
    if let Some(path) = &log.wal {
        return Ok(path.clone());
    }
    let Ok(StoreUrl::Directory(store)) = which.store.parse() else {
        let text = format!("the store at {} can keep no log: name one", which.store);
        return Err(Failure::Usage(format!("--wal is missing: {text}")));
    };
    let dir = store.join("wal");
    // Durably: flushed writes will be in it.
    let made = coldframe_storage::create_dir_all(&dir);
    let cannot = || format!("cannot make {}", dir.display());
    made.map_err(|error| Failure::environment(cannot(), &error))?;
    Ok(dir.join(format!("{}.wal", which.name)))
}

/// Opens a disk for writing.
fn open_device(
    store: Store,
    which: &Which,
    log: &Log,
    options: DeviceOptions,
) -> Result<Device, Failure> {
    let name = &which.name;
    let cannot = format!("cannot open disk {name}");
    let failed = |error: BlockError| failure(&cannot, &error);
    // Before a log is made for it.
    if store
        .tag(name)
        .map_err(|error| crate::store::failure(&cannot, &error))?
        .is_none()
    {
        let name = name.clone();
        return Err(failed(BlockError::MissingDisk { name }));
    }
    let base = base(which.base.as_deref())?;
    let path = log_path(which, log)?;
    let cannot_log = format!("cannot open the log {}", path.display());
    let log = open_log(&path, ByteLen::new(log.wal_size));
    let parts = DeviceParts {
        store,
        chunks: None,
        head: name.clone(),
        log: log.map_err(|error| failure(cannot_log, &error))?,
        base,
    };
    BlockDevice::open(parts, options).map_err(failed)
}
