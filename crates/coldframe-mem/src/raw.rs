//! Raw dumps of guest memory, of and for other programs: the regions back to back, RAM offset `x`
//! at file offset `x`.
//!
//! Invariant: the dump is read by pread(2), never mapped: it is another program's file, which may
//! change or be cut at any time.

use std::fs::File;
use std::ops::Range;
use std::time::Instant;

use coldframe_memfile::{Kind, MemFileBuilder};
use coldframe_storage::{FileStorage, Storage, StorageError};
use coldframe_units::{BLOCK_BYTES, ByteLen, FileOffset, PageIndex, PageRun, RamLayout, RootHash};

use crate::capture::{CaptureSpec, CaptureStats, Captured};
use crate::chain::resolve;
use crate::restore::Checker;
use crate::{Chain, MemError, sys};

/// Bytes read or written at a time.
const STEP_BYTES: u64 = 1 << 20;

/// What becomes of zero pages in a raw dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holes {
    /// They are written.
    None,
    /// They are left out: the file is sparse.
    ForZeros,
}

/// Copies a raw dump into a memory file, which must be empty.
///
/// Without a parent it becomes a Full file, and a hole of the dump is zero. With one it becomes a
/// Diff, and a hole is clean; a page that is allocated in the dump and zero is an explicit zero.
/// `progress` is told of bytes of RAM that are done.
///
/// # Errors
/// [`MemError::DumpLength`], [`MemError::HoleInPage`], [`MemError::ReadDump`], [`MemError::Build`],
/// [`MemError::NotEmpty`], [`MemError::WritePages`].
pub fn import_raw(
    dump: &FileStorage,
    layout: &RamLayout,
    parent: Option<RootHash>,
    spec: &CaptureSpec,
    storage: &dyn Storage,
    progress: &mut dyn FnMut(u64),
) -> Result<Captured, MemError> {
    let started = Instant::now();
    let read = |source| MemError::ReadDump { source };
    let ram = layout.total();
    let found = dump.len().map_err(read)?;
    if found != ram {
        let path = dump.path().to_path_buf();
        return Err(MemError::DumpLength {
            path,
            expected: ram,
            found,
        });
    }
    let CaptureSpec {
        arch,
        page_size,
        producer,
        ..
    } = *spec;
    let builder = match parent {
        None => MemFileBuilder::full(arch, page_size, layout, producer)?,
        Some(parent) => MemFileBuilder::diff(arch, page_size, layout, producer, parent)?,
    };
    crate::output::check_empty(storage)?;
    let mut importer = Importer {
        dump,
        storage,
        page: page_size.bytes(),
        stats: CaptureStats::default(),
        next: 0,
        progress,
        builder,
    };
    if importer.builder.kind() == Kind::Full {
        let len = ByteLen::new(importer.builder.data_offset().get() + ram.get());
        storage.set_len(len).map_err(write_pages)?;
    }
    for span in importer.spans(ram.get())? {
        importer.take(span)?;
    }
    importer.skip(ram.get())?;
    let Importer {
        builder, mut stats, ..
    } = importer;
    stats.extents = builder.extents().len() as u64;
    tracing::info!(
        ram_bytes = ram.get(),
        pages = stats.data_pages,
        extents = stats.extents,
        duration_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
        "dump imported"
    );
    Ok(Captured {
        builder,
        stats,
        known: Vec::new(),
    })
}

struct Importer<'a> {
    dump: &'a FileStorage,
    storage: &'a dyn Storage,
    builder: MemFileBuilder,
    page: u64,
    stats: CaptureStats,
    /// All RAM before this is in the builder.
    next: u64,
    progress: &'a mut dyn FnMut(u64),
}

impl Importer<'_> {
    /// The allocated parts of the dump in whole pages.
    fn spans(&self, ram: u64) -> Result<Vec<Range<u64>>, MemError> {
        let residency = |source| MemError::Residency { source };
        // A descriptor of our own: looking for holes moves its cursor.
        let file = File::open(self.dump.path()).map_err(residency)?;
        let mut parts: Vec<Range<u64>> = Vec::new();
        sys::data_parts(&file, &(0..ram), |part| parts.push(part)).map_err(residency)?;
        let mut spans: Vec<Range<u64>> = Vec::new();
        for part in parts {
            let whole =
                part.start / self.page * self.page..part.end.next_multiple_of(self.page).min(ram);
            if self.builder.kind() == Kind::Diff && whole != part {
                let path = self.dump.path().to_path_buf();
                let odd = if whole.start == part.start {
                    part.end
                } else {
                    part.start
                };
                let offset = FileOffset::new(odd);
                return Err(MemError::HoleInPage { path, offset });
            }
            match spans.last_mut() {
                Some(last) if last.end >= whole.start => last.end = whole.end,
                _ => spans.push(whole),
            }
        }
        Ok(spans)
    }

    /// Passes over a hole up to `end`.
    fn skip(&mut self, end: u64) -> Result<(), MemError> {
        if end > self.next {
            if self.builder.kind() == Kind::Full {
                self.zero(self.next..end)?;
            }
            (self.progress)(end - self.next);
            self.next = end;
        }
        Ok(())
    }

    /// Reads an allocated part, in whole pages.
    fn take(&mut self, span: Range<u64>) -> Result<(), MemError> {
        self.skip(span.start)?;
        let step = STEP_BYTES.max(self.page);
        let mut buffer = vec![0; step.min(span.end - span.start) as usize];
        let mut start = span.start;
        while start < span.end {
            let len = step.min(span.end - start);
            let bytes = &mut buffer[..len as usize];
            self.dump
                .read_at(FileOffset::new(start), bytes)
                .map_err(|source| MemError::ReadDump { source })?;
            for run in runs(bytes, self.page as usize) {
                let range = start + run.bytes.start as u64..start + run.bytes.end as u64;
                if run.is_zero {
                    self.zero(range)?;
                } else {
                    self.data(range, &bytes[run.bytes])?;
                }
            }
            start += len;
            self.next = start;
            (self.progress)(len);
        }
        Ok(())
    }

    fn zero(&mut self, range: Range<u64>) -> Result<(), MemError> {
        let run = self.run(&range);
        self.builder.push_zero(run)?;
        self.stats.zero_pages += run.count();
        Ok(())
    }

    fn data(&mut self, range: Range<u64>, bytes: &[u8]) -> Result<(), MemError> {
        let run = self.run(&range);
        let place = self.builder.push_data(run)?;
        self.storage.write_at(place, bytes).map_err(write_pages)?;
        self.stats.data_pages += run.count();
        self.stats.bytes_written += bytes.len() as u64;
        Ok(())
    }

    fn run(&self, range: &Range<u64>) -> PageRun {
        let (start, count) = (
            range.start / self.page,
            (range.end - range.start) / self.page,
        );
        PageRun::new(PageIndex::new(start), count).expect("a range of whole pages, not empty")
    }
}

/// Pages that are alike.
struct Run {
    bytes: Range<usize>,
    is_zero: bool,
}

/// The runs of zero pages and of others in whole pages of bytes.
fn runs(bytes: &[u8], page: usize) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (index, page_bytes) in bytes.chunks(page).enumerate() {
        let start = index * page;
        let end = start + page_bytes.len();
        let is_zero = page_bytes.iter().all(|byte| *byte == 0);
        match runs.last_mut() {
            Some(last) if last.is_zero == is_zero => last.bytes.end = end,
            _ => runs.push(Run {
                bytes: start..end,
                is_zero,
            }),
        }
    }
    runs
}

/// Writes the memory of a chain as a raw dump into `storage`, which must be empty. Every block is
/// checked as it is read. `progress` is told of bytes of RAM that are done.
///
/// # Errors
/// [`MemError::NotEmpty`], [`MemError::Decode`], [`MemError::Damaged`], [`MemError::WritePages`].
pub fn export_raw(
    chain: &Chain,
    storage: &dyn Storage,
    holes: Holes,
    progress: &mut dyn FnMut(u64),
) -> Result<(), MemError> {
    static ZEROS: [u8; STEP_BYTES as usize] = [0; STEP_BYTES as usize];

    crate::output::check_empty(storage)?;
    storage
        .set_len(chain.layout().total())
        .map_err(write_pages)?;
    let checkers = Checker::of(chain.layers())?;
    for piece in resolve(chain.layers())? {
        let mut start = piece.range.start;
        while start < piece.range.end {
            let end = (start / STEP_BYTES + 1) * STEP_BYTES;
            let part = piece.part(&(start..end));
            let len = part.range.end - part.range.start;
            let bytes = match part.file {
                Some(file) => {
                    for block in
                        part.range.start / BLOCK_BYTES..part.range.end.div_ceil(BLOCK_BYTES)
                    {
                        checkers[part.layer].check(block * BLOCK_BYTES)?;
                    }
                    Some(chain.layers()[part.layer].bytes(file, len))
                }
                None if holes == Holes::None => Some(&ZEROS[..len as usize]),
                None => None,
            };
            if let Some(bytes) = bytes {
                let place = FileOffset::new(part.range.start);
                storage.write_at(place, bytes).map_err(write_pages)?;
            }
            start = part.range.end;
            progress(len);
        }
    }
    Ok(())
}

fn write_pages(source: StorageError) -> MemError {
    MemError::WritePages { source }
}
