//! Capture: guest memory into a memory file.
//!
//! Invariants: in the pause ([`capture_full`], [`capture_diff`]) pages are copied and nothing
//! else; hashing and tables come after it ([`Captured::finish`]), from the bytes in the file, so
//! what a writer changed under the copy cannot make the file contradict itself. Memory that was
//! never touched stays so. The header is written last: a file without it is no memory file.

use std::borrow::Cow;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::time::{Duration, Instant};

use coldframe_dirty::DirtyPages;
use coldframe_envelope::Producer;
use coldframe_memfile::MemFileBuilder;
use coldframe_storage::Storage;
use coldframe_units::{Arch, ByteLen, FileOffset, PageSize, RootHash};

use crate::capture::copier::Copier;
use crate::capture::discarded::Discarded;
use crate::output::Output;
use crate::ram::{PIECES_MAX, RamMap, Window, copy_out_all, span};
use crate::residency::{Residency, Touched};
use crate::{GuestRam, MemError, hash};

mod budget;
mod copier;
mod discarded;

pub use budget::MergeBudget;

/// Residency is asked for this much memory at a time, which bounds the answer.
const WINDOW_BYTES: u64 = 256 << 20;

/// Runs of dirty memory from this length on may hold memory that was never touched: a coarse
/// bitmap marks it. What is shorter is taken to be touched, as it was written to.
const ASK_BYTES: u64 = 64 << 10;

/// How many runs of dirty memory are looked at together.
const AHEAD_RUNS: usize = 64;

/// What a capture is told about its file.
#[derive(Clone, Copy, Debug)]
pub struct CaptureSpec {
    /// The guest's architecture.
    pub arch: Arch,
    /// The page size of the file, at most 2 MiB.
    pub page_size: PageSize,
    /// Who writes it.
    pub producer: Producer,
    /// Which clean pages a Diff may take along.
    pub merge: MergeBudget,
}

/// What was counted while memory was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CaptureStats {
    /// Pages that are in the file as bytes.
    pub data_pages: u64,
    /// Pages that are in the file as zero.
    pub zero_pages: u64,
    /// Runs of pages in the file.
    pub extents: u64,
    /// Bytes handed to the storage so far.
    pub bytes_written: u64,
}

/// A memory file once it is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemRoot {
    /// The hash that identifies the file.
    pub root: RootHash,
    /// What was counted; here the tables are in it.
    pub stats: CaptureStats,
    /// The length of the file.
    pub file_len: ByteLen,
}

/// Memory that is copied, but not yet hashed: the guest may run again.
#[must_use = "without `finish` the file has no header"]
#[derive(Debug)]
pub struct Captured {
    pub(crate) builder: MemFileBuilder,
    pub(crate) stats: CaptureStats,
    /// Hashes of whole blocks that are known already, in rising block.
    pub(crate) known: Vec<(u64, [u8; 32])>,
}

/// Copies all of guest memory to `storage`, which must be empty.
///
/// # Errors
/// [`MemError::Layout`], [`MemError::HostAlignment`], [`MemError::Build`], [`MemError::NotEmpty`],
/// [`MemError::Residency`], [`MemError::NotMapped`], [`MemError::Unreadable`],
/// [`MemError::Unfilled`], [`MemError::Absent`], [`MemError::WritePages`].
pub fn capture_full<R: GuestRam + ?Sized>(
    ram: &R,
    spec: &CaptureSpec,
    storage: &dyn Storage,
) -> Result<Captured, MemError> {
    capture_full_discarded(ram, None, spec, storage)
}

/// As [`capture_full`]; pages in `discarded` are kept as zero and not read, whatever they hold.
///
/// # Errors
/// As [`capture_full`]; [`MemError::DirtyRam`] if `discarded` is of another RAM.
pub fn capture_full_discarded<R: GuestRam + ?Sized>(
    ram: &R,
    discarded: Option<&DirtyPages>,
    spec: &CaptureSpec,
    storage: &dyn Storage,
) -> Result<Captured, MemError> {
    let started = Instant::now();
    let map = RamMap::new(ram)?;
    let total = map.layout().total();
    let _span = tracing::info_span!("capture_full", ram_bytes = total.get()).entered();
    let discarded = Discarded::new(discarded, total)?;
    let builder = MemFileBuilder::full(spec.arch, spec.page_size, map.layout(), spec.producer)?
        .with_absent(map.absent())?;
    let output = Output::new(storage, builder, spec.page_size, total)?;
    let residency = Residency::new(&map)?;
    let mut copier = Copier::new(output, spec.page_size);
    for window in map.windows() {
        let mut next = window.range().start;
        while next < window.range().end {
            let range = next..window.range().end.min(next + WINDOW_BYTES);
            next = range.end;
            let touched = ask(&residency, window, &range, &discarded)?;
            copier.copy(window, range, &touched)?;
        }
    }
    Ok(done(
        "full memory copied",
        total,
        started.elapsed(),
        copier.finish()?,
    ))
}

/// Copies the dirty pages to `storage`, which must be empty; `parent` is the root of the memory
/// file that all other pages are in.
///
/// A dirty bitmap of larger or smaller pages is cut anew: a page of the file is copied if it
/// shares a byte with a dirty one. Pages that became zero are kept as zero, not left out; so are
/// those that are not plugged in ([`crate::RamRegion::absent`]), dirty or not. A page that is not
/// plugged in as a whole is copied with zeros there.
///
/// # Errors
/// As [`capture_full`]; [`MemError::DirtyRam`], [`MemError::Rechunk`].
pub fn capture_diff<R: GuestRam + ?Sized>(
    ram: &R,
    dirty: &DirtyPages,
    parent: RootHash,
    spec: &CaptureSpec,
    storage: &dyn Storage,
) -> Result<Captured, MemError> {
    capture_diff_discarded(ram, dirty, None, parent, spec, storage)
}

/// As [`capture_diff`]; those of the dirty pages that are in `discarded` are kept as zero and not
/// read, whatever they hold.
///
/// # Errors
/// As [`capture_diff`].
pub fn capture_diff_discarded<R: GuestRam + ?Sized>(
    ram: &R,
    dirty: &DirtyPages,
    discarded: Option<&DirtyPages>,
    parent: RootHash,
    spec: &CaptureSpec,
    storage: &dyn Storage,
) -> Result<Captured, MemError> {
    let started = Instant::now();
    let map = RamMap::new(ram)?;
    let (page_size, total) = (spec.page_size, map.layout().total());
    let _span = tracing::info_span!("capture_diff", ram_bytes = total.get()).entered();
    check_ram(dirty, total)?;
    let discarded = Discarded::new(discarded, total)?;
    let builder = MemFileBuilder::diff(spec.arch, page_size, map.layout(), spec.producer, parent)?
        .with_absent(map.absent())?;
    let output = Output::new(storage, builder, page_size, total)?;
    let dirty = pages_to_copy(dirty, page_size, &map)?;
    // Asked for only if there is a long run: a small Diff costs no look at the page table.
    let mut residency = None;
    let mut copier = Copier::new(output, page_size);
    let mut ranges = budget::merged(&dirty, spec.merge).map(|run| {
        let (start, len) = run
            .byte_range(page_size)
            .expect("a dirty page lies inside the RAM");
        span(start, len)
    });
    loop {
        let batch: Vec<Range<u64>> = ranges.by_ref().take(AHEAD_RUNS).collect();
        if batch.is_empty() {
            break;
        }
        if discarded.is_empty() && copy_short(&map, &batch, &mut copier)? {
            continue;
        }
        for range in batch {
            copy_dirty(&map, range, &discarded, &mut residency, &mut copier)?;
        }
    }
    Ok(done(
        "dirty memory copied",
        total,
        started.elapsed(),
        copier.finish()?,
    ))
}

/// The dirty pages as pages of the file, and those that are not plugged in: the parent may have
/// bytes there.
fn pages_to_copy<'d>(
    dirty: &'d DirtyPages,
    page_size: PageSize,
    map: &RamMap<'_>,
) -> Result<Cow<'d, DirtyPages>, MemError> {
    let mut pages = Cow::Borrowed(dirty);
    if dirty.page_size() != page_size {
        let rechunked = dirty.rechunk(page_size);
        let refused = |source| MemError::Rechunk { page_size, source };
        pages = Cow::Owned(rechunked.map_err(refused)?);
    }
    for part in map.absent() {
        let marked = pages.to_mut().mark(part.start, part.len);
        marked.expect("a part lies inside the RAM, whose size the pages have");
    }
    Ok(pages)
}

/// Copies short runs out through the kernel in one call, and takes them from there; false if that
/// is not how they can be taken.
fn copy_short<'a>(
    map: &RamMap<'a>,
    ranges: &[Range<u64>],
    copier: &mut Copier<'a>,
) -> Result<bool, MemError> {
    let is_short = |range: &Range<u64>| range.end - range.start < ASK_BYTES;
    if !ranges.iter().all(is_short) {
        return Ok(false);
    }
    let pieces = ranges.iter().flat_map(|range| map.pieces(range.clone()));
    let pieces: Vec<_> = pieces.collect();
    let is_plugged =
        |(window, piece): &(&Window<'_>, Range<u64>)| window.present(piece) == [piece.clone()];
    if pieces.len() > PIECES_MAX || !pieces.iter().all(is_plugged) {
        return Ok(false);
    }
    let sum: u64 = ranges.iter().map(|range| range.end - range.start).sum();
    let mut bytes = vec![0; sum as usize];
    if !copy_out_all(&pieces, &mut bytes) {
        return Ok(false);
    }
    let mut rest = &bytes[..];
    for (_, piece) in &pieces {
        let (head, tail) = rest.split_at((piece.end - piece.start) as usize);
        copier.take(piece, head)?;
        rest = tail;
    }
    Ok(true)
}

/// Copies one run of dirty memory.
fn copy_dirty<'a>(
    map: &RamMap<'a>,
    range: Range<u64>,
    discarded: &Discarded,
    residency: &mut Option<Residency>,
    copier: &mut Copier<'a>,
) -> Result<(), MemError> {
    for (window, piece) in map.pieces(range) {
        let mut next = piece.start;
        while next < piece.end {
            let range = next..piece.end.min(next + WINDOW_BYTES);
            next = range.end;
            if range.end - range.start < ASK_BYTES {
                let spans = discarded.take_out(window.present(&range));
                let touched = Touched {
                    careful: spans.clone(),
                    spans,
                };
                copier.copy(window, range, &touched)?;
                continue;
            }
            let residency = match residency {
                Some(residency) => residency,
                None => residency.insert(Residency::new(map)?),
            };
            let touched = ask(residency, window, &range, discarded)?;
            copier.copy(window, range, &touched)?;
        }
    }
    Ok(())
}

/// What was touched of a range; nobody is asked about what the guest gave back.
fn ask(
    residency: &Residency,
    window: &Window<'_>,
    range: &Range<u64>,
    discarded: &Discarded,
) -> Result<Touched, MemError> {
    if discarded.is_empty() {
        return residency.touched(window, range);
    }
    let mut touched = Touched::default();
    for part in discarded.take_out(vec![range.clone()]) {
        let mut found = residency.touched(window, &part)?;
        touched.spans.append(&mut found.spans);
        touched.careful.append(&mut found.careful);
    }
    Ok(touched)
}

fn check_ram(pages: &DirtyPages, ram: ByteLen) -> Result<(), MemError> {
    if pages.ram() == ram {
        return Ok(());
    }
    let dirty = pages.ram();
    Err(MemError::DirtyRam { dirty, ram })
}

fn done(what: &str, ram: ByteLen, took: Duration, captured: Captured) -> Captured {
    let stats = captured.stats;
    tracing::info!(
        ram_bytes = ram.get(),
        pages = stats.data_pages,
        zero_pages = stats.zero_pages,
        extents = stats.extents,
        duration_us = took.as_micros() as u64,
        "{what}"
    );
    captured
}

impl Captured {
    /// What was counted while memory was copied.
    #[must_use]
    pub const fn stats(&self) -> CaptureStats {
        self.stats
    }

    /// The same Diff against another parent, whose root was not known when memory was copied; all
    /// of memory names no parent, and stays as it is.
    pub fn with_parent(self, parent: RootHash) -> Self {
        let builder = self.builder.with_parent(parent);
        Self { builder, ..self }
    }

    /// Hashes what was copied, reading it back from `storage`, and writes tables and header.
    ///
    /// Nothing is synced: that belongs to publishing.
    ///
    /// # Errors
    /// [`MemError::ReadBack`], [`MemError::WriteTables`], [`MemError::Build`].
    pub fn finish(self, storage: &dyn Storage) -> Result<MemRoot, MemError> {
        self.finish_on(storage, None)
    }

    /// As [`Captured::finish`], with at most so many threads: on one, none is made, for a process
    /// whose seccomp filter refuses clone(2).
    ///
    /// # Errors
    /// As [`Captured::finish`].
    pub fn finish_on(
        self,
        storage: &dyn Storage,
        threads: Option<NonZeroUsize>,
    ) -> Result<MemRoot, MemError> {
        let started = Instant::now();
        let Self {
            builder,
            mut stats,
            known,
        } = self;
        let _span = tracing::info_span!("finish_capture", pages = stats.data_pages).entered();
        let hashes = hash::blocks(storage, &builder, &known, threads)?;
        let encoded = builder.finish(hashes)?;
        let write_tables = |source| MemError::WriteTables { source };
        storage
            .write_at(encoded.tail_offset, &encoded.tail)
            .map_err(write_tables)?;
        storage.set_len(encoded.file_len).map_err(write_tables)?;
        storage
            .write_at(FileOffset::ZERO, &encoded.header)
            .map_err(write_tables)?;
        stats.bytes_written += encoded.tail.len() as u64 + encoded.header.len() as u64;
        tracing::info!(
            pages = stats.data_pages,
            extents = stats.extents,
            file_bytes = encoded.file_len.get(),
            duration_us = started.elapsed().as_micros() as u64,
            "memory file finished"
        );
        Ok(MemRoot {
            root: encoded.root,
            stats,
            file_len: encoded.file_len,
        })
    }
}
