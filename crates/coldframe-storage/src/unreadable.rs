//! Stretches of a file that the host cannot read, and reading around them.
//!
//! Invariant: bytes that cannot be read are replaced by [`FILLER`] in memory, and the stretch is
//! noted; no check of a record or header holds over filler unless those were its bytes.

use std::fmt;
use std::io;

use coldframe_units::{ByteLen, FileOffset};

use crate::{Storage, StorageError};

/// What stands in memory for a byte that cannot be read. Not zero: zeros end a log as clean.
const FILLER: u8 = 0xdb;

/// What a host reads at once through its page cache.
const CELL: u64 = 4096;

/// The least that a disk can fail to read.
const SECTOR: u64 = 512;

/// A stretch of a file that the host cannot read, in whole sectors of 512 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unreadable {
    /// Where it begins in the file.
    pub offset: FileOffset,
    /// How long it is.
    pub len: ByteLen,
    /// What the host said where it begins (errno(3)), if it was a number.
    pub errno: Option<i32>,
}

impl Unreadable {
    const fn end(&self) -> u64 {
        self.offset.get().saturating_add(self.len.get())
    }

    /// What the host said.
    #[must_use]
    pub fn reason(&self) -> io::Error {
        let unknown = || io::Error::other("the host cannot read it");
        self.errno
            .map_or_else(unknown, io::Error::from_raw_os_error)
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (offset, len) = (self.offset, self.len);
        write!(
            f,
            "{len} bytes at {offset} cannot be read: {}",
            self.reason()
        )
    }
}

/// Reads around what cannot be read, and remembers it: a disk may take seconds to say so.
#[derive(Clone, Debug, Default)]
pub struct ReadAround {
    /// In order, apart from each other.
    ranges: Vec<Unreadable>,
}

impl ReadAround {
    /// Goes on with what is known.
    #[must_use]
    pub fn knowing(ranges: &[Unreadable]) -> Self {
        Self {
            ranges: ranges.to_vec(),
        }
    }

    /// What could not be read so far, in order and apart from each other.
    #[must_use]
    pub fn ranges(&self) -> &[Unreadable] {
        &self.ranges
    }

    /// Whether one of these bytes cannot be read, as far as was tried.
    #[must_use]
    pub fn overlaps(&self, offset: FileOffset, len: u64) -> bool {
        let (start, end) = (offset.get(), offset.get().saturating_add(len));
        let index = self.ranges.partition_point(|range| range.end() <= start);
        (self.ranges.get(index)).is_some_and(|range| range.offset.get() < end)
    }

    /// Fills `buf`, with filler where the host cannot read.
    ///
    /// # Errors
    /// Whatever is not the failure to read bytes that are there.
    pub fn read<S: Storage + ?Sized>(
        &mut self,
        storage: &S,
        offset: FileOffset,
        buf: &mut [u8],
    ) -> Result<(), StorageError> {
        if buf.is_empty() {
            return Ok(());
        }
        if !self.overlaps(offset, buf.len() as u64) {
            match storage.read_at(offset, buf) {
                Err(StorageError::Read { .. }) => {}
                read => return read,
            }
        }
        // In the middle of a long stretch only whole cells are tried.
        let mut step = SECTOR;
        for (at, cell) in pieces(offset.get(), buf, CELL) {
            if step == CELL {
                if self.try_piece(storage, at, cell, CELL)? {
                    step = SECTOR;
                }
                continue;
            }
            if !self.overlaps(FileOffset::new(at), cell.len() as u64) {
                match storage.read_at(FileOffset::new(at), cell) {
                    Err(StorageError::Read { .. }) => {}
                    read => {
                        read?;
                        continue;
                    }
                }
            }
            let mut is_any_read = false;
            for (at, sector) in pieces(at, cell, SECTOR) {
                is_any_read |= self.try_piece(storage, at, sector, SECTOR)?;
            }
            if !is_any_read {
                step = CELL;
            }
        }
        Ok(())
    }

    /// Reads what lies in one unit, or notes the unit; whether it was read.
    fn try_piece<S: Storage + ?Sized>(
        &mut self,
        storage: &S,
        at: u64,
        piece: &mut [u8],
        unit: u64,
    ) -> Result<bool, StorageError> {
        let offset = FileOffset::new(at);
        if !self.overlaps(offset, piece.len() as u64) {
            match storage.read_at(offset, piece) {
                Err(StorageError::Read { source, .. }) => {
                    self.add(at / unit * unit, unit, source.raw_os_error());
                }
                read => {
                    read?;
                    return Ok(true);
                }
            }
        }
        piece.fill(FILLER);
        Ok(false)
    }

    /// Adds a stretch, joined with those that it touches.
    fn add(&mut self, start: u64, len: u64, errno: Option<i32>) {
        let first = self.ranges.partition_point(|range| range.end() < start);
        let end = start.saturating_add(len);
        let touches = |range: &&Unreadable| range.offset.get() <= end;
        let count = self.ranges[first..].iter().take_while(touches).count();
        let joined = &self.ranges[first..first + count];
        let from = joined
            .first()
            .map_or(start, |range| range.offset.get().min(start));
        let to = joined.last().map_or(end, |range| range.end().max(end));
        let errno = joined.first().map_or(errno, |range| range.errno);
        let range = Unreadable {
            offset: FileOffset::new(from),
            len: ByteLen::new(to - from),
            errno,
        };
        self.ranges.splice(first..first + count, [range]);
    }
}

/// A buffer by aligned units of its file.
fn pieces(offset: u64, buf: &mut [u8], unit: u64) -> impl Iterator<Item = (u64, &mut [u8])> {
    let (mut at, mut rest) = (offset, buf);
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let len = rest.len().min((unit - at % unit) as usize);
        let (piece, behind) = std::mem::take(&mut rest).split_at_mut(len);
        let piece = (at, piece);
        (at, rest) = (at + len as u64, behind);
        Some(piece)
    })
}

/// Fills `buf` with what the host can read, and [filler](Unreadable) elsewhere; returns the
/// stretches that it cannot read, in order.
///
/// # Errors
/// Whatever is not the failure to read bytes that are there.
pub fn read_around<S: Storage + ?Sized>(
    storage: &S,
    offset: FileOffset,
    buf: &mut [u8],
) -> Result<Vec<Unreadable>, StorageError> {
    let mut around = ReadAround::default();
    around.read(storage, offset, buf)?;
    Ok(around.ranges)
}
