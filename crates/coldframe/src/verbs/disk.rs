//! `coldframe disk`: what its verbs share.

mod access;
mod advice;
mod checkpoint;
mod control;
mod ls;
mod recover;
mod resize;
mod serve;
mod transfer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use coldframe_block::{
    BaseFile, BlockDevice, BlockError, DeviceOptions, DeviceParts, DiskView, OtherLog, ViewLog,
    check_log, open_log,
};
use coldframe_chunks::{AnyBackend, StoreUrl};
use coldframe_storage::{FileStorage, rename_new};
use coldframe_units::ByteLen;

use crate::cli::disk::{Disk, Log, ReadLog, Which};
use crate::exit::{Failure, line};
use crate::store::Store;
use crate::verbs::disk::advice::{Advice, Takes};

/// How many logs of one disk may be given up before someone removes them.
const NAMES_MAX: u32 = 1000;

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
        Disk::Recover(args) => recover::run(args),
    }
}

/// What is damaged is exit 1, what cannot be meant exit 2, everything else exit 3.
fn failure(advice: Advice<'_>, what: impl std::fmt::Display, error: &BlockError) -> Failure {
    let is_damaged = error.is_corrupt() && error.is_unusable_log();
    if error.is_log_trouble() || is_damaged || error.is_unreadable_log() {
        let text = line(what, error);
        let text = match advice.way_out(error) {
            Some(way) => format!("{text}; {way}"),
            None => text,
        };
        return match error.is_unreadable_log() {
            true => Failure::Environment(text),
            false => Failure::Wanting(text),
        };
    }
    if error.is_misuse() || matches!(error, BlockError::BaseMissing { .. }) {
        Failure::usage(what, error)
    } else if error.is_corrupt() {
        Failure::wanting(what, error)
    } else {
        Failure::environment(what, error)
    }
}

/// What to say about a log of the disk that was asked for.
fn advice<'a>(which: &'a Which, wal: Option<&'a Path>, takes: Takes) -> Advice<'a> {
    Advice {
        store: &which.store,
        disk: which.name.as_str(),
        wal,
        takes,
    }
}

/// The flat image that was given.
fn base(path: Option<&Path>) -> Result<Option<Arc<BaseFile>>, Failure> {
    let opened = path.map(|path| {
        let cannot = format!("cannot open {}", path.display());
        BaseFile::open(path).map_err(|error| match error.is_misuse() {
            true => Failure::usage(cannot, &error),
            false => Failure::environment(cannot, &error),
        })
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

/// Where the log of a disk is unless one is named; `None` if the store can keep no log.
fn default_log(which: &Which) -> Option<PathBuf> {
    let Ok(StoreUrl::Directory(store)) = which.store.parse() else {
        return None;
    };
    Some(store.join("wal").join(format!("{}.wal", which.name)))
}

/// Opens a disk for reading, with what its log has unless that is not wanted.
fn open_view(
    store: &Store,
    which: &Which,
    wal: Option<&Path>,
    read_log: &ReadLog,
) -> Result<DiskView<AnyBackend>, Failure> {
    let paths: Vec<PathBuf> = default_log(which).into_iter().collect();
    let log = match (wal, read_log.without_log) {
        (_, true) => ViewLog::Ignore,
        (Some(path), false) => ViewLog::File(path),
        (None, false) => ViewLog::Find(&paths),
    };
    let base = base(which.base.as_deref())?;
    let view = DiskView::open(store, &which.name, base, log);
    let advice = advice(
        which,
        wal.or(paths.first().map(PathBuf::as_path)),
        Takes::ReadLog,
    );
    view.map_err(|error| failure(advice, format!("cannot open disk {}", which.name), &error))
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
    let usual = default_log(which);
    let wal = log.wal.as_deref().or(usual.as_deref());
    let advice = advice(which, wal, Takes::Log);
    let failed = |error: BlockError| failure(advice, &cannot, &error);
    let other_log = match log.abandon_log {
        true => OtherLog::Abandon,
        false => OtherLog::Refuse,
    };
    let options = DeviceOptions {
        other_log,
        take_log: log.take_log,
        ..options
    };
    let base = base(which.base.as_deref())?;
    // Before a log is made for it: there must be such a disk, and no other log with its changes.
    check_log(&store, name, wal, usual.as_deref(), other_log).map_err(&failed)?;
    let path = log_path(which, log)?;
    let cannot_log = format!("cannot open the log {}", path.display());
    let open = || {
        let log = open_log(&path, ByteLen::new(log.wal_size));
        let parts = DeviceParts {
            store: store.clone(),
            chunks: None,
            head: name.clone(),
            log: log?,
            base: base.clone(),
        };
        BlockDevice::open(parts, options)
    };
    let opened = match open() {
        // The default log has no other place: it must not be in the way of going on without it.
        Err(error) if log.abandon_log && log.wal.is_none() && error.is_unusable_log() => {
            set_aside(&path, &error)?;
            open()
        }
        opened => opened,
    };
    opened.map_err(|error| match error {
        BlockError::Log { .. } | BlockError::LogFile { .. } | BlockError::LogTooSmall { .. } => {
            failure(advice, cannot_log, &error)
        }
        error => failed(error),
    })
}

/// Renames a log that is given up, and says so; nothing of it is deleted.
fn set_aside(log: &Path, why: &BlockError) -> Result<(), Failure> {
    let cannot = || format!("cannot rename {}", log.display());
    let numbered = |number: u32| {
        let mut name = log.as_os_str().to_owned();
        name.push(format!(".abandoned-{number}"));
        PathBuf::from(name)
    };
    let renamed = |aside: PathBuf| match rename_new(log, &aside) {
        Err(error) if error.is_exists() => None,
        renamed => Some(renamed.map(|()| aside)),
    };
    let Some(renamed) = (1..=NAMES_MAX).map(numbered).find_map(renamed) else {
        let text = "too many logs were given up there";
        return Err(Failure::Environment(format!("{}: {text}", cannot())));
    };
    let aside = renamed.map_err(|error| Failure::environment(cannot(), &error))?;
    let said = format!("{} is given up, and now {}", log.display(), aside.display());
    eprintln!("coldframe: {}", line(said, why));
    Ok(())
}
