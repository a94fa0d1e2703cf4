//! The bytes that a reader looks at: a whole buffer, or a window over storage.
//!
//! Invariant: what [`Window::get`] returns begins at a multiple of 16 in memory; a reader never
//! asks beyond the length of its last [`Window::refresh`].

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use bytes::Bytes;
use coldframe_storage::{Storage, StorageError};
use coldframe_units::FileOffset;

use super::entry::Buffer;
use coldframe_storage::{ReadAround, Unreadable};

/// How much is read at once, in bytes.
const READ_AHEAD: u64 = 1 << 20;

/// Where the bytes are.
#[derive(Clone)]
pub(crate) enum Backing {
    Bytes(Bytes),
    Storage(Arc<dyn Storage>),
}

pub(crate) struct Window {
    backing: Backing,
    len: u64,
    // What is in `loaded[..valid]` stands at `base`.
    loaded: Buffer,
    base: u64,
    valid: usize,
    /// What cannot be read; `None` if that is an error.
    around: Option<ReadAround>,
}

impl Window {
    pub(crate) fn new(backing: Backing) -> Result<Self, StorageError> {
        let mut window = Self {
            backing,
            len: 0,
            loaded: Buffer::new(),
            base: 0,
            valid: 0,
            around: None,
        };
        window.refresh()?;
        Ok(window)
    }

    pub(crate) fn of_bytes(bytes: Bytes) -> Self {
        Self {
            len: bytes.len() as u64,
            backing: Backing::Bytes(bytes),
            loaded: Buffer::new(),
            base: 0,
            valid: 0,
            around: None,
        }
    }

    /// Reads around what cannot be read from now on.
    pub(crate) fn read_around(&mut self) {
        self.around.get_or_insert_default();
    }

    /// What could not be read so far.
    pub(crate) fn unreadable(&self) -> &[Unreadable] {
        self.around.as_ref().map_or(&[], ReadAround::ranges)
    }

    /// Whether some of these bytes cannot be read, as far as was tried.
    pub(crate) fn is_unreadable(&self, offset: u64, len: u64) -> bool {
        let is_bad = |around: &ReadAround| around.overlaps(FileOffset::new(offset), len);
        self.around.as_ref().is_some_and(is_bad)
    }

    pub(crate) const fn len(&self) -> u64 {
        self.len
    }

    /// Takes note of the length of now, and forgets what was read.
    pub(crate) fn refresh(&mut self) -> Result<(), StorageError> {
        self.len = match &self.backing {
            Backing::Bytes(bytes) => bytes.len() as u64,
            Backing::Storage(storage) => storage.len()?.get(),
        };
        self.valid = 0;
        Ok(())
    }

    /// The `len` bytes from `offset` on, or as many as there are.
    pub(crate) fn get(&mut self, offset: u64, len: u64) -> Result<&[u8], StorageError> {
        let offset = offset.min(self.len);
        // 64-bit targets only: a u64 is a usize.
        let len = len.min(self.len - offset) as usize;
        if let Some(start) = self.loaded_at(offset, len) {
            return Ok(&self.loaded[start..start + len]);
        }
        let direct = match &self.backing {
            Backing::Bytes(bytes) => (bytes.as_ptr().addr() + offset as usize).is_multiple_of(16),
            Backing::Storage(_) => false,
        };
        if !direct && len > 0 {
            self.load(offset, len)?;
        }
        match &self.backing {
            Backing::Bytes(bytes) if direct => Ok(&bytes[offset as usize..offset as usize + len]),
            _ => Ok(&self.loaded[..len]),
        }
    }

    /// Whether its storage is a file that is not at its path any more.
    pub(crate) fn is_replaced(&self) -> bool {
        let Backing::Storage(storage) = &self.backing else {
            return false;
        };
        let Some(fd) = storage.host_file() else {
            return false;
        };
        let ours = fd
            .try_clone_to_owned()
            .and_then(|fd| File::from(fd).metadata());
        let there = std::fs::metadata(storage.path());
        match (ours, there) {
            (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) != (there.dev(), there.ino()),
            _ => true,
        }
    }

    /// The same bytes again as [`Window::get`] returned last.
    pub(crate) fn loaded(&self, offset: u64, len: u64) -> Option<&[u8]> {
        let len = len as usize;
        if let Some(start) = self.loaded_at(offset, len) {
            return self.loaded.get(start..start + len);
        }
        match &self.backing {
            Backing::Bytes(bytes) => bytes.get(offset as usize..offset as usize + len),
            Backing::Storage(_) => None,
        }
    }

    /// Where in the window these bytes are, if all of them are, and aligned.
    fn loaded_at(&self, offset: u64, len: usize) -> Option<usize> {
        let start = offset.checked_sub(self.base)? as usize;
        let whole = start <= self.valid && self.valid - start >= len;
        (whole && start.is_multiple_of(16)).then_some(start)
    }

    fn load(&mut self, offset: u64, len: usize) -> Result<(), StorageError> {
        let ahead = READ_AHEAD.min(self.len - offset) as usize;
        let want = match &self.backing {
            Backing::Bytes(_) => len,
            Backing::Storage(_) => len.max(ahead),
        };
        self.valid = 0;
        if self.loaded.len() < want {
            self.loaded.resize(want, 0);
        }
        match &self.backing {
            Backing::Bytes(bytes) => {
                let from = offset as usize;
                self.loaded[..want].copy_from_slice(&bytes[from..from + want]);
            }
            Backing::Storage(storage) => {
                let (offset, bytes) = (FileOffset::new(offset), &mut self.loaded[..want]);
                match &mut self.around {
                    Some(around) => around.read(&**storage, offset, bytes)?,
                    None => storage.read_at(offset, bytes)?,
                }
            }
        }
        (self.base, self.valid) = (offset, want);
        Ok(())
    }
}
