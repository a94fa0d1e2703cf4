//! Which store a log belongs to: a note in the log itself.
//!
//! A copy of a store names the same logs as the store, byte for byte. What tells them apart is
//! where they are, so the log says where the store was that opened it last, and which file the log
//! was itself. A copy of both is a pair of its own; a store that was moved is not where it was.

use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io::{self, ErrorKind};
use std::mem::size_of;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use coldframe_chunkfile::LogId;
use coldframe_chunks::{Backend, LocalStore, PackStore, StoreError};
use coldframe_envelope::{Layout, field};
use coldframe_ring::{NOTE_LEN_MAX, RingWal};
use coldframe_storage::{IoContext, Operation, Storage};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::BlockError;
use crate::device::DeviceParts;
use crate::error::log;

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
    /// another directory at the path. What cannot be looked at is not gone. Device numbers change
    /// when a host starts again, so the log is told by its inode, and directories by what they are
    /// now.
    fn may_be_of_another(&self, own: &Self) -> bool {
        if self.log.1 != own.log.1 || self.store == own.store {
            return false;
        }
        match std::fs::metadata(&self.path) {
            Ok(metadata) => number(&metadata) != own.store,
            Err(error) => !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
        }
    }
}

/// Refuses a log that the tag names if it belongs to another store that is still there and whose
/// tag names it too: of the two one is a copy of the other, and what one takes out of the log is
/// lost to the other.
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
    if !noted.may_be_of_another(&own) {
        return Ok(());
    }
    let tag = LocalStore::open(&noted.path).and_then(|store| store.tag(&parts.head));
    match tag {
        Ok(tag) if tag.is_none_or(|tag| tag.log != Some(id)) => Ok(()),
        // The path has another use now.
        Err(StoreError::NoStore { .. }) => Ok(()),
        _ => Err(BlockError::LogOfOtherStore {
            head: parts.head.clone(),
            store: noted.path,
        }),
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
