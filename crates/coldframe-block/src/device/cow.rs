//! A log as a read-only disk needs it: what opening it writes stays in memory.
//!
//! Invariant: not one byte of what is below changes; bytes that are written equal to what is below
//! take no memory. What cannot be read below is an error, until it is written here or read around.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{PoisonError, RwLock};

use coldframe_storage::read_around;
use coldframe_storage::{Storage, StorageError};
use coldframe_units::{ByteLen, FileOffset};

/// The unit in which written bytes are kept.
const CELL: u64 = 4096;

/// A storage whose writes are kept in memory.
#[derive(Debug)]
pub(crate) struct CowStorage<S> {
    below: S,
    cells: RwLock<BTreeMap<u64, Box<[u8]>>>,
    /// Cells that are read around what cannot be read of them: the first of each stretch, and the
    /// first behind it.
    around: RwLock<BTreeMap<u64, u64>>,
}

impl<S: Storage> CowStorage<S> {
    pub const fn new(below: S) -> Self {
        Self {
            below,
            cells: RwLock::new(BTreeMap::new()),
            around: RwLock::new(BTreeMap::new()),
        }
    }

    /// From now on what cannot be read of a range is no error: other bytes take its place. However
    /// long the range is, it takes no memory.
    pub fn read_around(&self, offset: FileOffset, len: u64) {
        let end = offset.get().saturating_add(len).div_ceil(CELL);
        let first = offset.get() / CELL;
        let mut around = self.around.write().unwrap_or_else(PoisonError::into_inner);
        let known = around.entry(first).or_default();
        *known = end.max(*known);
    }

    fn is_read_around(&self, cell: u64) -> bool {
        let around = self.around.read().unwrap_or_else(PoisonError::into_inner);
        around.range(..=cell).any(|(_, end)| cell < *end)
    }

    /// Bytes of one cell below.
    fn part_below(&self, cell: u64, offset: u64, part: &mut [u8]) -> Result<(), StorageError> {
        let offset = FileOffset::new(offset);
        match self.is_read_around(cell) {
            true => read_around(&self.below, offset, part).map(drop),
            false => self.below.read_at(offset, part),
        }
    }

    /// The bytes of a cell below, as far as there are any; zeros behind the end. Also whether all
    /// of it can be read: the caller fills what cannot.
    fn cell_below(&self, cell: u64) -> Result<(Box<[u8]>, bool), StorageError> {
        let mut bytes = vec![0; CELL as usize].into_boxed_slice();
        let len = self.below.len()?.get();
        let at = cell * CELL;
        let have = len.saturating_sub(at).min(CELL) as usize;
        let offset = FileOffset::new(at);
        let unreadable = read_around(&self.below, offset, &mut bytes[..have])?;
        Ok((bytes, unreadable.is_empty()))
    }
}

/// The parts of a range by cell: the cell, where in it, and how many bytes.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let end = offset + len as u64;
    let mut at = offset;
    std::iter::from_fn(move || {
        let (cell, from) = (at / CELL, at % CELL);
        let count = (end - at).min(CELL - from);
        at += count;
        (count > 0).then_some((cell, from as usize, count as usize))
    })
}

impl<S: Storage> Storage for CowStorage<S> {
    fn read_at(&self, offset: FileOffset, buf: &mut [u8]) -> Result<(), StorageError> {
        let cells = self.cells.read().unwrap_or_else(PoisonError::into_inner);
        let end = offset.get().saturating_add(buf.len() as u64);
        let touched = offset.get() / CELL..end.div_ceil(CELL);
        let is_around = {
            let around = self.around.read().unwrap_or_else(PoisonError::into_inner);
            let mut before = around.range(..touched.end);
            before.any(|(_, end)| touched.start < *end)
        };
        if !is_around && cells.range(touched).next().is_none() {
            return self.below.read_at(offset, buf);
        }
        let mut rest = buf;
        for (cell, from, count) in parts(offset.get(), rest.len()) {
            let (part, behind) = rest.split_at_mut(count);
            match cells.get(&cell) {
                Some(bytes) => part.copy_from_slice(&bytes[from..from + count]),
                None => self.part_below(cell, cell * CELL + from as u64, part)?,
            }
            rest = behind;
        }
        Ok(())
    }

    fn write_at(&self, offset: FileOffset, bytes: &[u8]) -> Result<(), StorageError> {
        let mut cells = self.cells.write().unwrap_or_else(PoisonError::into_inner);
        let mut rest = bytes;
        for (cell, from, count) in parts(offset.get(), rest.len()) {
            let (part, behind) = rest.split_at(count);
            rest = behind;
            if let Some(found) = cells.get_mut(&cell) {
                found[from..from + count].copy_from_slice(part);
                continue;
            }
            let (mut below, is_readable) = self.cell_below(cell)?;
            if !is_readable || below[from..from + count] != *part {
                below[from..from + count].copy_from_slice(part);
                cells.insert(cell, below);
            }
        }
        Ok(())
    }

    fn len(&self) -> Result<ByteLen, StorageError> {
        self.below.len()
    }

    /// A log of a fixed region never changes the length of its file.
    fn set_len(&self, _: ByteLen) -> Result<(), StorageError> {
        Ok(())
    }

    fn sync_data(&self) -> Result<(), StorageError> {
        Ok(())
    }

    fn path(&self) -> &Path {
        self.below.path()
    }
}

#[cfg(test)]
mod tests;
