//! The flat image that a disk was made of and that is read where the disk says nothing else.
//!
//! Invariant: bytes leave it only if the file was, after they were read, still of the length and
//! the time of change that it had when its identity was taken.

use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use coldframe_chunkfile::BaseId;
use coldframe_chunks::is_zero;
use coldframe_storage::{FileStorage, IoContext, Operation, Storage, StorageError};
use coldframe_units::{BLOCK_BYTES, ByteLen, FileOffset};

use crate::BlockError;
use crate::record::PAGE_BYTES;

/// The most pages that are looked at for the identity.
const SAMPLES_MAX: u64 = 256;

/// What the identity is derived with. Spec: BLK-30
const CONTEXT: &str = "coldframe base image v1";

/// What tells that a file was changed, without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    len: u64,
    seconds: i64,
    nanoseconds: i64,
}

impl From<&Metadata> for Stamp {
    fn from(metadata: &Metadata) -> Self {
        Self {
            len: metadata.len(),
            seconds: metadata.mtime(),
            nanoseconds: metadata.mtime_nsec(),
        }
    }
}

/// A raw image file, open for reading.
#[derive(Debug)]
pub struct BaseFile {
    file: File,
    storage: FileStorage,
    path: PathBuf,
    stamp: Stamp,
    id: BaseId,
}

impl BaseFile {
    /// Opens a file, and takes its identity: its length, its time of change, and a sample of its
    /// pages. Moving or renaming the file keeps it, any write to the file changes it.
    ///
    /// Spec: BLK-30
    ///
    /// # Errors
    /// [`BlockError::BaseRead`].
    pub fn open(path: &Path) -> Result<Self, BlockError> {
        let opened = File::open(path).at(Operation::Open, path).and_then(|file| {
            let metadata = file.metadata().at(Operation::Len, path)?;
            let copy = file.try_clone().at(Operation::Open, path)?;
            Ok((
                Stamp::from(&metadata),
                FileStorage::from_file(copy, path),
                file,
            ))
        });
        let (stamp, storage, file) = opened.map_err(read)?;
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
        let metadata = self.file.metadata().at(Operation::Len, &self.path);
        if Stamp::from(&metadata.map_err(read)?) != self.stamp {
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

fn read(source: StorageError) -> BlockError {
    BlockError::BaseRead { source }
}

fn identity(storage: &FileStorage, stamp: Stamp) -> Result<BaseId, StorageError> {
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
    hasher.update(&stamp.len.to_le_bytes());
    hasher.update(&stamp.seconds.to_le_bytes());
    hasher.update(&stamp.nanoseconds.to_le_bytes());
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
