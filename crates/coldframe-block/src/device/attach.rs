//! Which store a log belongs to: a note in the log itself.
//!
//! A copy of a store names the same logs as the store, byte for byte. What tells them apart is
//! where they are, so the log says where the store was that opened it last, and which file the log
//! was itself. A copy of both is a pair of its own. A store that is not where it was may have been
//! moved, or be on a volume that is not mounted: only a directory that is the same one is known to
//! be the store.

use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io::{self, ErrorKind};
use std::mem::size_of;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use coldframe_chunkfile::LogId;
use coldframe_chunks::{Backend, LocalStore, PackStore, StoreError, TagName};
use coldframe_envelope::{Layout, field};
use coldframe_ring::{NOTE_LEN_MAX, RingWal, peek_note};
use coldframe_storage::{FileStorage, IoContext, Operation, Storage};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::BlockError;
use crate::device::DeviceParts;
use crate::error::log;
use crate::logfile::region_of;

const VERSION: u32 = 1;

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct HeadBytes {
    version: U32,
    reserved: U32,
    log_device: U64,
    log_inode: U64,
    store_device: U64,
    store_inode: U64,
}

pub(crate) const LAYOUT: Layout = Layout {
    name: "block attachment",
    size: size_of::<HeadBytes>(),
    fields: &[
        field("version", std::mem::offset_of!(HeadBytes, version), 4),
        field("reserved", std::mem::offset_of!(HeadBytes, reserved), 4),
        field("log_device", std::mem::offset_of!(HeadBytes, log_device), 8),
        field("log_inode", std::mem::offset_of!(HeadBytes, log_inode), 8),
        field(
            "store_device",
            std::mem::offset_of!(HeadBytes, store_device),
            8,
        ),
        field(
            "store_inode",
            std::mem::offset_of!(HeadBytes, store_inode),
            8,
        ),
    ],
};

const _: () = assert!(size_of::<HeadBytes>() == 40);

/// A log's file, and the directory of the store that it belongs to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Attachment {
    log: (u64, u64),
    store: (u64, u64),
    path: PathBuf,
}

fn number(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

impl Attachment {
    /// That of a log and a store; `None` if one of them has no place on this host.
    ///
    /// # Errors
    /// [`BlockError::LogFile`] if one of them cannot be looked at.
    fn of<B: Backend, S: Storage>(
        store: &PackStore<B>,
        log: &RingWal<S>,
    ) -> Result<Option<Self>, BlockError> {
        let (Some(file), Some(dir)) = (log.storage().host_file(), store.backend().directory())
        else {
            return Ok(None);
        };
        let look = || {
            let file = file.as_fd().try_clone_to_owned().map(File::from)?;
            let path = dir.canonicalize()?;
            Ok(Self {
                log: number(&file.metadata()?),
                store: number(&path.metadata()?),
                path,
            })
        };
        let looked: io::Result<Self> = look();
        let looked = looked.at(Operation::Open, dir);
        looked
            .map(Some)
            .map_err(|source| BlockError::LogFile { source })
    }

    fn encode(&self) -> Vec<u8> {
        let head = HeadBytes {
            version: VERSION.into(),
            reserved: 0.into(),
            log_device: self.log.0.into(),
            log_inode: self.log.1.into(),
            store_device: self.store.0.into(),
            store_inode: self.store.1.into(),
        };
        [head.as_bytes(), self.path.as_os_str().as_bytes()].concat()
    }

    /// What another version wrote says nothing to this one.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (head, path) = HeadBytes::read_from_prefix(bytes).ok()?;
        let is_known = head.version.get() == VERSION && head.reserved.get() == 0;
        is_known.then(|| Self {
            log: (head.log_device.get(), head.log_inode.get()),
            store: (head.store_device.get(), head.store_inode.get()),
            path: PathBuf::from(OsStr::from_bytes(path)),
        })
    }

    /// Whether it says that the log may belong to another store than `own`: this very file, and
    /// another directory, or none, at the path. Device numbers change when a host starts again, and
    /// are given to other devices, so the log is told by its inode, and directories by what they
    /// are now; the numbers that were noted count only if nothing is at the path.
    fn may_be_of_another(&self, own: &Self) -> bool {
        self.log.1 == own.log.1
            && match std::fs::metadata(&self.path) {
                Ok(found) => number(&found) != own.store,
                Err(_) => self.store != own.store,
            }
    }

    /// The other store that the log belongs to, if `own` is not it. One that is there and does not
    /// name the log any more has given it up.
    fn other_store(
        &self,
        own: &Self,
        head: &TagName,
        (log, id): (&Path, LogId),
    ) -> Option<OtherStore> {
        if !self.may_be_of_another(own) {
            return None;
        }
        let tag = LocalStore::open(&self.path).and_then(|store| store.tag(head));
        let is_there = match tag {
            Ok(tag) if tag.is_none_or(|tag| tag.log != Some(id)) => return None,
            // It was moved within its file system, and something else is there now.
            Err(StoreError::NoStore { .. }) if self.store == own.store => return None,
            // Moved, or not mounted now: a mount point is an empty directory then.
            Err(StoreError::NoStore { .. }) => false,
            _ => std::fs::symlink_metadata(&self.path).map_or_else(is_not_gone, |_| true),
        };
        let (log, path) = (log.to_path_buf(), self.path.clone());
        Some(OtherStore {
            log,
            path,
            is_there,
        })
    }
}

fn is_not_gone(error: io::Error) -> bool {
    !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// A store that a log belongs to, and not the one that it was looked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct OtherStore {
    log: PathBuf,
    path: PathBuf,
    is_there: bool,
}

impl OtherStore {
    /// Whether it is at its path; else it may have been moved, or not be mounted.
    pub(super) const fn is_there(&self) -> bool {
        self.is_there
    }

    pub fn refuse(self, head: &TagName) -> BlockError {
        BlockError::LogOfOtherStore {
            head: head.clone(),
            log: self.log,
            store: self.path,
            is_there: self.is_there,
        }
    }
}

/// The other store that the log in a file belongs to, which may be in use; `None` if it says
/// nothing of the kind.
pub(super) fn other_store_of<B: Backend>(
    store: &PackStore<B>,
    head: &TagName,
    path: &Path,
    id: LogId,
) -> Option<OtherStore> {
    let storage = FileStorage::open_read_only(path).ok()?;
    let note = peek_note(&storage, region_of(&storage).ok()?)?;
    let noted = Attachment::decode(&note)?;
    let dir = store.backend().directory()?.canonicalize().ok()?;
    let own = Attachment {
        log: number(&std::fs::metadata(path).ok()?),
        store: number(&dir.metadata().ok()?),
        path: dir,
    };
    noted.other_store(&own, head, (path, id))
}

/// Refuses a log that the tag names if it belongs to another store whose tag names it too, or that
/// is not there now: of the two one may be a copy of the other, and what one takes out of the log
/// is lost to the other.
///
/// Spec: BLK-37
pub(super) fn refuse_copy<B: Backend, S: Storage>(
    parts: &DeviceParts<B, S>,
    id: LogId,
) -> Result<(), BlockError> {
    let noted = parts.log.note().as_deref().and_then(Attachment::decode);
    let own = Attachment::of(&parts.store, &parts.log)?;
    let (Some(noted), Some(own)) = (noted, own) else {
        return Ok(());
    };
    let path = parts.log.storage().path();
    match noted.other_store(&own, &parts.head, (path, id)) {
        Some(other) => Err(other.refuse(&parts.head)),
        None => Ok(()),
    }
}

/// Says in the log which store it belongs to.
pub(super) fn attach<B: Backend, S: Storage>(parts: &DeviceParts<B, S>) -> Result<(), BlockError> {
    let own = Attachment::of(&parts.store, &parts.log)?.map(|own| own.encode());
    match own.filter(|bytes| bytes.len() <= NOTE_LEN_MAX) {
        Some(bytes) => parts.log.set_note(&bytes).map_err(log),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
