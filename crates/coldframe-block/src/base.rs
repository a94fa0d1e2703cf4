//! The flat image that a disk was made of and that is read where the disk says nothing else.
//!
//! Invariant: bytes leave it only if the file was, after they were read, still the inode, of the
//! length and the times of change, that it was when its identity was taken.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use coldframe_chunkfile::BaseId;
use coldframe_chunks::is_zero;
use coldframe_storage::{FileStorage, IoContext, Operation, Storage, StorageError};
use coldframe_units::{BLOCK_BYTES, ByteLen, FileOffset};

use crate::BlockError;
use crate::foreign::{ImageFormat, image_format};
use crate::record::PAGE_BYTES;

/// The most pages that are looked at for the identity.
const SAMPLES_MAX: u64 = 256;

/// What the identity is derived with. Spec: BLK-30
const CONTEXT: &str = "coldframe base image v1";

/// What tells that a file was changed, without reading it. The time of the last change of the
/// inode cannot be set, and the inode tells another file; both may differ for the same content
/// elsewhere, and are no part of the identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    len: u64,
    changed: (i64, i64),
    inode_changed: (i64, i64),
    inode: (u64, u64),
}

impl Stamp {
    /// Of an open file. A block device has no times of its own, but those of its node, which
    /// writes do not touch.
    fn of(file: &File, storage: &FileStorage) -> Result<Self, StorageError> {
        let metadata = file.metadata().at(Operation::Len, storage.path())?;
        let is_device = metadata.file_type().is_block_device();
        let times = match is_device {
            true => [(0, 0); 2],
            false => [
                (metadata.mtime(), metadata.mtime_nsec()),
                (metadata.ctime(), metadata.ctime_nsec()),
            ],
        };
        let [changed, inode_changed] = times;
        Ok(Self {
            len: storage.len()?.get(),
            changed,
            inode_changed,
            inode: (metadata.dev(), metadata.ino()),
        })
    }
}

/// A raw image, a file or a block device, open for reading.
#[derive(Debug)]
pub struct BaseFile {
    file: File,
    storage: FileStorage,
    path: PathBuf,
    stamp: Stamp,
    id: BaseId,
}

impl BaseFile {
    /// Opens an image, and takes its identity: its length, its time of change, and a sample of its
    /// pages. Moving or renaming the file keeps it. BLK-30 says which changes are seen.
    ///
    /// Spec: BLK-30
    ///
    /// # Errors
    /// [`BlockError::NotAnImage`] if the path is neither a regular file nor a block device;
    /// [`BlockError::BaseRead`].
    pub fn open(path: &Path) -> Result<Self, BlockError> {
        let file = open_image(path)?;
        let copy = file.try_clone().at(Operation::Open, path).map_err(read)?;
        let storage = FileStorage::from_file(copy, path);
        let stamp = Stamp::of(&file, &storage).map_err(read)?;
        let id = identity(&storage, stamp).map_err(read)?;
        let path = path.to_path_buf();
        Ok(Self {
            file,
            storage,
            path,
            stamp,
            id,
        })
    }

    /// The format that it is of if it is no raw image.
    pub(crate) fn format(&self) -> Result<Option<ImageFormat>, BlockError> {
        image_format(&self.storage, self.stamp.len).map_err(read)
    }

    /// Its identity.
    #[must_use]
    pub const fn id(&self) -> BaseId {
        self.id
    }

    /// Its length.
    #[must_use]
    pub const fn size(&self) -> ByteLen {
        ByteLen::new(self.stamp.len)
    }

    /// The bytes of a block, of which it has `len`; `None` if they are all zero.
    pub(crate) fn block(&self, block: u64, len: u64) -> Result<Option<Bytes>, BlockError> {
        let mut bytes = vec![0; len as usize];
        let got = self
            .storage
            .read_at(FileOffset::new(block * BLOCK_BYTES), &mut bytes);
        // A file that was cut is one that was changed, and that is what to say.
        let now = Stamp::of(&self.file, &self.storage).map_err(read)?;
        if now != self.stamp {
            let path = self.path.clone();
            return Err(BlockError::BaseChanged { path });
        }
        got.map_err(read)?;
        Ok((!is_zero(&bytes)).then(|| Bytes::from(bytes)))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Opens what has bytes at offsets; nothing is waited for (a FIFO) or woken (a device).
pub(crate) fn open_image(path: &Path) -> Result<File, BlockError> {
    open_positional(path).map_err(|error| match error {
        StorageError::NotRegular { path } => BlockError::NotAnImage { path },
        error => read(error),
    })
}

fn open_positional(path: &Path) -> Result<File, StorageError> {
    let storage = FileStorage::open_read_only(path)?;
    let file = storage.as_fd().try_clone_to_owned();
    file.map(File::from).at(Operation::Open, path)
}

fn read(source: StorageError) -> BlockError {
    BlockError::BaseRead { source }
}

fn identity(storage: &FileStorage, stamp: Stamp) -> Result<BaseId, StorageError> {
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
    hasher.update(&stamp.len.to_le_bytes());
    let (seconds, nanoseconds) = stamp.changed;
    hasher.update(&seconds.to_le_bytes());
    hasher.update(&nanoseconds.to_le_bytes());
    let pages = stamp.len / PAGE_BYTES;
    let samples = pages.min(SAMPLES_MAX);
    let mut page = [0; PAGE_BYTES as usize];
    for sample in 0..samples {
        // 2^60 bytes at most matter, so the product fits.
        let number = u128::from(sample) * u128::from(pages) / u128::from(samples);
        let at = u64::try_from(number).unwrap_or(0) * PAGE_BYTES;
        storage.read_at(FileOffset::new(at), &mut page)?;
        hasher.update(&page);
    }
    Ok(BaseId::from_bytes(*hasher.finalize().as_bytes()))
}
