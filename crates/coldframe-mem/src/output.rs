//! What is written of a memory file: pages in large calls, and the builder told of them.
//!
//! Invariants: calls are of [`CALL_BYTES`] or [`CALL_PARTS`] wherever that much data lies together
//! in the file, but for the first, after which they begin at a multiple of it; a zero page of the
//! tables is written as zeros or not at all.

use std::ops::Range;

use coldframe_memfile::{Kind, MemFileBuilder};
use coldframe_storage::{RawPart, Storage, StorageError};
use coldframe_units::{ByteLen, FileOffset, PageIndex, PageRun, PageSize};

use crate::MemError;
use crate::capture::{CaptureStats, Captured};

/// Bytes in one call. Smaller calls cost more for each byte, larger ones no less.
pub(crate) const CALL_BYTES: u64 = 1 << 20;

/// Parts in one call: what pwritev(2) takes at once.
const CALL_PARTS: usize = 1024;

/// Zero pages between data are written as zeros up to this many bytes in a Full file, rather than
/// split a call in two.
const FILL_BYTES: u64 = 12 << 10;

/// What is written where there is nothing to read.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// Writes pages, in rising order.
pub(crate) struct Output<'a> {
    storage: &'a dyn Storage,
    builder: MemFileBuilder,
    page_size: PageSize,
    /// What goes into the next call, and where in the file it begins: memory that is written
    /// from where it is, or bytes of our own, never both.
    parts: Vec<RawPart<'a>>,
    staged: Vec<u8>,
    at: u64,
    bytes: u64,
    stats: CaptureStats,
}

impl<'a> Output<'a> {
    /// Into an empty storage.
    pub fn new(
        storage: &'a dyn Storage,
        builder: MemFileBuilder,
        page_size: PageSize,
        ram: ByteLen,
    ) -> Result<Self, MemError> {
        check_empty(storage)?;
        if builder.kind() == Kind::Full {
            // The file has its length before the pages come, so none of them has to extend it.
            let len = ByteLen::new(builder.data_offset().get() + ram.get());
            storage.set_len(len).map_err(write_pages)?;
        }
        Ok(Self {
            storage,
            builder,
            page_size,
            parts: Vec::with_capacity(CALL_PARTS),
            staged: Vec::new(),
            at: 0,
            bytes: 0,
            stats: CaptureStats::default(),
        })
    }

    /// Whole pages that are zero.
    pub fn zero(&mut self, range: &Range<u64>) -> Result<(), MemError> {
        let run = self.run(range);
        self.builder.push_zero(run)?;
        self.stats.zero_pages += run.count();
        Ok(())
    }

    /// Whole pages of data; their bytes are added next, in order.
    pub fn data(&mut self, range: &Range<u64>) -> Result<(), MemError> {
        let run = self.run(range);
        let place = self.builder.push_data(run)?.get();
        self.stats.data_pages += run.count();
        if self.bytes > 0 {
            let gap = place - (self.at + self.bytes);
            if gap == 0 {
                return Ok(());
            }
            if self.builder.kind() == Kind::Full && gap <= FILL_BYTES {
                return self.add_zeros(gap);
            }
        }
        self.flush()?;
        self.at = place;
        Ok(())
    }

    /// How many bytes of data from RAM offset `next` on go up to the next multiple of
    /// [`CALL_BYTES`] in the file: the page cache takes whole such pieces best.
    pub fn room(&self, next: u64) -> u64 {
        let before = match self.builder.kind() {
            Kind::Full => next,
            Kind::Diff => self.stats.data_pages << self.page_size.log2(),
        };
        CALL_BYTES - (self.builder.data_offset().get() + before) % CALL_BYTES
    }

    /// Bytes of the pages that were announced.
    pub fn add(&mut self, part: RawPart<'a>) -> Result<(), MemError> {
        if !self.staged.is_empty() {
            self.flush()?;
        }
        self.parts.push(part);
        self.bytes += part.len().get();
        let end = self.at + self.bytes;
        let is_boundary = end.is_multiple_of(CALL_BYTES);
        if is_boundary || self.bytes >= CALL_BYTES || self.parts.len() == CALL_PARTS {
            self.flush()?;
        }
        Ok(())
    }

    /// As [`Output::add`], of bytes that the caller will use for something else.
    pub fn add_bytes(&mut self, mut bytes: &[u8]) -> Result<(), MemError> {
        if !self.parts.is_empty() {
            self.flush()?;
        }
        while !bytes.is_empty() {
            let end = self.at + self.bytes;
            let room = (CALL_BYTES - end % CALL_BYTES) as usize;
            let (now, rest) = bytes.split_at(room.min(bytes.len()));
            self.staged.extend_from_slice(now);
            self.bytes += now.len() as u64;
            bytes = rest;
            if now.len() == room {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// As [`Output::add`], of zeros.
    pub fn add_zeros(&mut self, len: u64) -> Result<(), MemError> {
        let mut left = len as usize;
        while left > 0 {
            let now = left.min(ZEROS.len());
            if self.staged.is_empty() {
                self.add(RawPart::from(&ZEROS[..now]))?;
            } else {
                self.add_bytes(&ZEROS[..now])?;
            }
            left -= now;
        }
        Ok(())
    }

    /// Writes what is left.
    pub fn finish(mut self) -> Result<Captured, MemError> {
        self.flush()?;
        self.stats.extents = self.builder.extents().len() as u64;
        Ok(Captured {
            builder: self.builder,
            stats: self.stats,
            known: Vec::new(),
        })
    }

    fn run(&self, range: &Range<u64>) -> PageRun {
        let log2 = self.page_size.log2();
        PageRun::new(
            PageIndex::new(range.start >> log2),
            (range.end - range.start) >> log2,
        )
        .expect("a range of whole pages")
    }

    fn flush(&mut self) -> Result<(), MemError> {
        if self.bytes == 0 {
            return Ok(());
        }
        let at = FileOffset::new(self.at);
        let written = if self.staged.is_empty() {
            self.storage.write_raw_at(at, &self.parts)
        } else {
            self.storage.write_at(at, &self.staged)
        };
        written.map_err(write_pages)?;
        self.staged.clear();
        self.stats.bytes_written += self.bytes;
        self.parts.clear();
        self.at += self.bytes;
        self.bytes = 0;
        Ok(())
    }
}

fn write_pages(source: StorageError) -> MemError {
    MemError::WritePages { source }
}

/// Bytes that are there already would show through where pages are zero.
pub(crate) fn check_empty(storage: &dyn Storage) -> Result<(), MemError> {
    match storage.len().map_err(write_pages)? {
        ByteLen::ZERO => Ok(()),
        len => Err(MemError::NotEmpty {
            path: storage.path().to_path_buf(),
            len,
        }),
    }
}
