//! A file that is only in memory, for tests, examples, and results too small for a disk.
//!
//! It behaves as [`crate::FileStorage`] does, but every byte up to its length is allocated: a gap
//! costs memory.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use coldframe_units::{ByteLen, FileOffset};

use crate::storage::{Storage, end_of};
use crate::{IoContext, Operation, StorageError};

/// Bytes in memory that behave like a file.
#[derive(Debug)]
pub struct MemStorage {
    bytes: RwLock<Vec<u8>>,
    name: PathBuf,
}

impl MemStorage {
    /// An empty one; errors call it `(memory)`.
    #[must_use]
    pub fn new() -> Self {
        Self::from_vec(Vec::new())
    }

    /// One that holds `bytes`.
    #[must_use]
    pub fn from_vec(bytes: Vec<u8>) -> Self {
        Self {
            bytes: RwLock::new(bytes),
            name: PathBuf::from("(memory)"),
        }
    }

    /// A copy of what it holds.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        self.read().clone()
    }

    /// What it holds.
    #[must_use]
    pub fn into_vec(self) -> Vec<u8> {
        self.bytes
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }

    // A panic in here cannot leave a Vec<u8> in a bad state, so a poisoned lock is no reason.
    fn read(&self) -> RwLockReadGuard<'_, Vec<u8>> {
        self.bytes.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Vec<u8>> {
        self.bytes.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemStorage {
    fn default() -> Self {
        Self::new()
    }
}

/// Grows or cuts `bytes` to `len`; running out of memory is an error.
fn resize(bytes: &mut Vec<u8>, len: u64) -> io::Result<()> {
    let len = usize::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge)?;
    let more = len.saturating_sub(bytes.len());
    bytes
        .try_reserve(more)
        .map_err(|_| io::ErrorKind::OutOfMemory)?;
    bytes.resize(len, 0);
    Ok(())
}

impl Storage for MemStorage {
    fn read_at(&self, offset: FileOffset, buf: &mut [u8]) -> Result<(), StorageError> {
        let end = end_of(&self.name, offset, buf.len())?;
        if buf.is_empty() {
            return Ok(());
        }
        let bytes = self.read();
        // In range on a 64-bit host: end_of has bounded both.
        match bytes.get(offset.get() as usize..end as usize) {
            Some(found) => {
                buf.copy_from_slice(found);
                Ok(())
            }
            None => Err(StorageError::UnexpectedEnd {
                path: self.name.clone(),
                offset,
                need: ByteLen::new(buf.len() as u64),
                have: ByteLen::new((bytes.len() as u64).saturating_sub(offset.get())),
            }),
        }
    }

    fn write_at(&self, offset: FileOffset, bytes: &[u8]) -> Result<(), StorageError> {
        let end = end_of(&self.name, offset, bytes.len())?;
        if bytes.is_empty() {
            return Ok(());
        }
        let mut held = self.write();
        if end > held.len() as u64 {
            let len = ByteLen::new(bytes.len() as u64);
            resize(&mut held, end).at(Operation::Write(offset, len), &self.name)?;
        }
        held[offset.get() as usize..end as usize].copy_from_slice(bytes);
        Ok(())
    }

    fn len(&self) -> Result<ByteLen, StorageError> {
        Ok(ByteLen::new(self.read().len() as u64))
    }

    fn set_len(&self, len: ByteLen) -> Result<(), StorageError> {
        end_of(&self.name, FileOffset::ZERO, len.get() as usize)?;
        resize(&mut self.write(), len.get()).at(Operation::SetLen(len), &self.name)
    }

    fn sync_data(&self) -> Result<(), StorageError> {
        Ok(())
    }

    fn path(&self) -> &Path {
        &self.name
    }
}
