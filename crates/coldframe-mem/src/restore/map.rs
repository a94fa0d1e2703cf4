//! Restore by mapping: the Full file copy-on-write over all of RAM, the Diffs' extents over it.
//!
//! Invariants: the files are never written to (`MAP_PRIVATE`); for a lone Full file no table is
//! read and the cost does not depend on the size of RAM; there are never more mappings than the
//! stated budget, what is over it is copied, the smallest extents first.
//!
//! # Safety
//! `MAP_FIXED` replaces whatever is mapped at an address. It is used only on ranges that
//! [`Window`] has checked to lie in a region, and only where those pages are ours to replace:
//! in the reservation of a [`MappedRam`], or by the promise made to [`map_over`]. The mappings are
//! of guest memory, which is reached through raw pointers alone and may change at any time, so a
//! file that changes is no worse than a guest that writes; it is refused all the same if it has a
//! write bit.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Instant;

use coldframe_storage::{FileStorage, StorageError};
use coldframe_units::{ByteLen, RamLayout, RamOffset};
use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

use crate::chain::reader::Reader;
use crate::chain::{Layer, Layers, resolve, sweep::Piece};
use crate::ram::{RamMap, Window};
use crate::restore::plugged::check_plugged;
use crate::{GuestRam, MemError, RamRegion, Verify, sys};

/// Memory begins at such a boundary, so that huge pages of the host fit.
const ALIGN: usize = 2 << 20;

/// How a chain is mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MapOptions {
    /// The most mappings that guest memory may be split into. A process may have 65,530 of them
    /// in all unless the host says otherwise (proc_sys_vm(5), `max_map_count`).
    pub mappings_max: usize,
}

impl Default for MapOptions {
    /// A quarter of the mappings that Linux lets a process have.
    fn default() -> Self {
        Self {
            mappings_max: 16 * 1024,
        }
    }
}

/// Guest memory whose pages come from the files of a chain when they are first touched.
///
/// Dropping it unmaps the memory.
#[derive(Debug)]
pub struct MappedRam {
    start: NonNull<u8>,
    len: NonZeroUsize,
    layout: RamLayout,
    /// The Full file, which says where pages are that were not touched yet.
    base: Arc<FileStorage>,
}

// SAFETY: the memory is owned, and reached only through raw pointers by who upholds GuestRam.
unsafe impl Send for MappedRam {}
// SAFETY: as for Send.
unsafe impl Sync for MappedRam {}

// SAFETY: the range is mapped readable and writable from `restore_map` to `drop`; regions lie at
// their RAM offsets, so they do not overlap; this type makes no reference into it.
unsafe impl GuestRam for MappedRam {
    fn regions(&self) -> Vec<RamRegion<'_>> {
        let regions = self.layout.with_offsets();
        regions
            .map(|(offset, region)| RamRegion {
                file: Some(self.base.as_fd()),
                ..RamRegion::new(
                    region,
                    self.start.as_ptr().wrapping_add(offset.get() as usize),
                )
            })
            .collect()
    }
}

impl MappedRam {
    /// Where RAM lies in the guest.
    #[must_use]
    pub const fn layout(&self) -> &RamLayout {
        &self.layout
    }

    /// Where RAM offset 0 is in this process, a boundary of 2 MiB; RAM offset x is x bytes on.
    #[must_use]
    pub const fn host(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    fn reserve(chain: &Layers) -> Result<Self, MemError> {
        let layout = chain.layout().clone();
        let total = layout.total();
        let failed = |source: Errno| map_error(total, source);
        let len = NonZeroUsize::new(total.get() as usize).ok_or(failed(Errno::EINVAL))?;
        let roomy = len.checked_add(ALIGN).ok_or(failed(Errno::ENOMEM))?;
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
        // SAFETY: a new mapping at an address that the kernel picks touches nothing that exists.
        let found = unsafe { mmap_anonymous(None, roomy, ProtFlags::PROT_NONE, flags) };
        let found = found.map_err(failed)?;
        let skip = found.addr().get().next_multiple_of(ALIGN) - found.addr().get();
        let base = found.map_addr(|addr| addr.saturating_add(skip));
        unmap(found, skip);
        unmap(
            base.map_addr(|addr| addr.saturating_add(len.get())),
            ALIGN - skip,
        );
        Ok(Self {
            start: base.cast(),
            len,
            layout,
            base: mappable(&chain.layers()[0])?,
        })
    }
}

impl Drop for MappedRam {
    fn drop(&mut self) {
        unmap(self.start.cast(), self.len.get());
    }
}

/// Gives back a part of our own reservation that nothing refers to any more.
fn unmap(start: NonNull<c_void>, len: usize) {
    if len == 0 {
        return;
    }
    // SAFETY: both callers own the range: what a reservation does not need, or all of it when it
    // is dropped, when no borrow of it can be left.
    if let Err(errno) = unsafe { munmap(start, len) } {
        tracing::warn!(%errno, len, "guest memory could not be unmapped");
    }
}

fn map_error(len: ByteLen, errno: Errno) -> MemError {
    MemError::Map {
        len,
        source: io::Error::from(errno),
    }
}

/// The open file of a layer, for mapping it over a guest.
fn mappable(layer: &Layer) -> Result<Arc<FileStorage>, MemError> {
    let path = || layer.file.path().to_path_buf();
    let opened = layer.file.storage().and_then(|file| {
        let stat = nix::sys::stat::fstat(&*file).map_err(|errno| StorageError::Open {
            path: path(),
            source: errno.into(),
        })?;
        #[allow(clippy::useless_conversion, reason = "macOS has modes of 16 bits")]
        let mode = u32::from(stat.st_mode) & 0o7777;
        if mode & 0o222 != 0 {
            let path = path();
            return Err(StorageError::NotReadOnly { path, mode });
        }
        Ok(file)
    });
    opened.map_err(|source| MemError::ReadSource { source })
}

/// Maps the memory of `chain` at a new place in this process.
///
/// No page is read, and no hash is checked: see [`Layers::verify`]. The guest's first touch of a
/// page reads it from the file; where that fails, because the disk fails or the file was cut short,
/// the process gets SIGBUS (mmap(2)), as for any mapped file. [`crate::restore_copy`] has an error
/// for it.
///
/// **Discarding memory.** Private pages of a file come back with the file's bytes after
/// `MADV_DONTNEED` (madvise(2)), not as zeros. A balloon or free page reporting must map anonymous
/// memory over what it discards, as [`discard`] does, and mark the pages dirty;
/// [`crate::dontneed_reads_zero`] says whether memory needs that.
///
/// # Errors
/// [`MemError::Map`], [`MemError::HostAlignment`], [`MemError::ReadSource`] (also for a file that
/// someone may write to); [`MemError::Decode`] if the chain has Diffs.
pub fn restore_map(chain: &Layers, options: MapOptions) -> Result<MappedRam, MemError> {
    let ram = MappedRam::reserve(chain)?;
    // SAFETY: the reservation is ours, and nothing refers into it yet.
    unsafe { map_over(chain, &ram, options) }?;
    Ok(ram)
}

/// Maps the memory of `chain` over that of a guest which does not run.
///
/// The addresses stay the same, and code that unmaps them by address needs to know nothing. What
/// was shared there is so no more: other processes do not see the new memory. After an error the
/// memory holds some of the old and some of the new. What is not plugged in
/// ([`crate::RamRegion::absent`]) is left as it is.
///
/// # Errors
/// As [`restore_map`]; [`MemError::TargetLayout`], [`MemError::NotPlugged`].
///
/// # Safety
/// All pages of the regions belong to the guest's memory alone, were made by mmap(2), and are
/// unmapped as such.
pub unsafe fn map_over<R: GuestRam + ?Sized>(
    chain: &Layers,
    ram: &R,
    options: MapOptions,
) -> Result<(), MemError> {
    let started = Instant::now();
    let map = RamMap::new(ram)?;
    map.check_layout(chain.layout())?;
    let ram_bytes = chain.layout().total().get();
    let _span = tracing::info_span!("restore_map", ram_bytes).entered();
    let base = &chain.layers()[0];
    let base_file = mappable(base)?;
    if map.absent().next().is_some() {
        check_plugged(chain, &map, &resolve(chain.layers())?, Verify::No)?;
    }
    for window in map.windows() {
        for range in window.present(&window.range()) {
            let file = Some((base_file.as_fd(), base.data_offset + range.start));
            // SAFETY: passed on to our caller.
            unsafe { place(window, &range, file) }?;
        }
    }
    let (mut mapped, mut copied) = (0_usize, 0_usize);
    if chain.len() > 1 {
        let pieces = overlays(chain, &map)?;
        let mut choice = Choice::new(&pieces, options);
        let mut reader = Reader::new(chain.layers(), &[]);
        for (window, piece) in &pieces {
            if choice.is_mapped(window, piece) {
                let layer = &chain.layers()[piece.layer];
                let file = match piece.file {
                    Some(offset) => Some((mappable(layer)?, offset)),
                    None => None,
                };
                let file = file.as_ref().map(|(file, offset)| (file.as_fd(), *offset));
                // SAFETY: passed on to our caller.
                unsafe { place(window, &piece.range, file) }?;
                mapped += 1;
            } else {
                copy(&mut reader, window, piece)?;
                copied += 1;
            }
        }
    }
    tracing::info!(
        ram_bytes,
        mapped,
        copied,
        duration_us = started.elapsed().as_micros() as u64,
        "memory restored by map"
    );
    Ok(())
}

/// Makes a range of guest memory zero and gives its pages back to the host, whatever is mapped
/// there: anonymous memory is mapped over it. The guest must not use the range meanwhile.
///
/// `MADV_DONTNEED` does so only for private anonymous memory; in memory that was restored by
/// mapping it brings back the bytes of the snapshot. Mark the range dirty too: no page table tells
/// a dirty log of it.
///
/// # Errors
/// [`MemError::Map`], [`MemError::HostAlignment`] for a range not of whole pages of the host, or
/// outside of memory.
///
/// # Safety
/// As [`map_over`].
pub unsafe fn discard<R: GuestRam + ?Sized>(
    ram: &R,
    start: RamOffset,
    len: ByteLen,
) -> Result<(), MemError> {
    let map = RamMap::new(ram)?;
    let page = sys::host_page();
    let end = start.get().saturating_add(len.get());
    if end > map.layout().total().get() {
        return Err(map_error(len, Errno::EINVAL));
    }
    for (window, piece) in map.pieces(start.get()..end) {
        let inside = piece.start - window.range().start;
        if !page.divides(inside) || !page.divides(piece.end - piece.start) {
            return Err(MemError::HostAlignment {
                addr: window.guest_addr(piece.start),
                host_page: page,
            });
        }
        // SAFETY: passed on to our caller.
        unsafe { place(window, &piece, None) }?;
    }
    Ok(())
}

/// What the Diffs have, each piece in one window.
fn overlays<'m, 'a>(
    chain: &Layers,
    map: &'m RamMap<'a>,
) -> Result<Vec<(&'m Window<'a>, Piece)>, MemError> {
    let mut overlays = Vec::new();
    for piece in resolve(chain.layers())? {
        if piece.layer > 0 {
            for (window, range) in map.pieces(piece.range.clone()) {
                let parts = window.present(&range).into_iter();
                overlays.extend(parts.map(|part| (window, piece.part(&part))));
            }
        }
    }
    Ok(overlays)
}

/// Which pieces are mapped: the longest, as many as the budget has room for.
struct Choice {
    page: u64,
    /// Pieces longer than this are mapped.
    longer_than: u64,
    /// So many pieces of just that length are mapped too.
    equals: usize,
}

impl Choice {
    fn new(pieces: &[(&Window<'_>, Piece)], options: MapOptions) -> Self {
        // A piece splits what it lies in: it costs two mappings.
        let most = options.mappings_max / 2;
        let mut lens: Vec<u64> = pieces.iter().map(|(_, piece)| len(piece)).collect();
        let (mut longer_than, mut equals) = (0, 0);
        if lens.len() > most {
            let (longer, nth, _) = lens.select_nth_unstable_by(most, |a, b| b.cmp(a));
            longer_than = *nth;
            equals = longer.iter().filter(|len| **len == longer_than).count();
        }
        Self {
            page: sys::host_page().bytes(),
            longer_than,
            equals,
        }
    }

    fn is_mapped(&mut self, window: &Window<'_>, piece: &Piece) -> bool {
        let from_start = piece.range.start - window.range().start;
        let all = from_start | len(piece) | piece.file.unwrap_or(0);
        if !all.is_multiple_of(self.page) || len(piece) < self.longer_than {
            return false;
        }
        if len(piece) > self.longer_than {
            return true;
        }
        let room = self.equals > 0;
        self.equals = self.equals.saturating_sub(1);
        room
    }
}

const fn len(piece: &Piece) -> u64 {
    piece.range.end - piece.range.start
}

/// How much is copied at a time.
const STEP_BYTES: u64 = 1 << 20;

fn copy(reader: &mut Reader<'_>, window: &Window<'_>, piece: &Piece) -> Result<(), MemError> {
    let mut next = piece.range.start;
    while next < piece.range.end {
        let part = piece.part(&(next..next + STEP_BYTES));
        match reader.read(&part)? {
            Some(bytes) => window.write(part.range.start, bytes),
            None => window.write_zeros(&part.range),
        }
        next = part.range.end;
    }
    Ok(())
}

/// Maps `file` from an offset on, or zeros, in the place of a range of a window.
///
/// # Safety
/// As [`map_over`].
unsafe fn place(
    window: &Window<'_>,
    range: &Range<u64>,
    file: Option<(BorrowedFd<'_>, u64)>,
) -> Result<(), MemError> {
    let bytes = ByteLen::new(range.end - range.start);
    let invalid = || map_error(bytes, Errno::EINVAL);
    let addr = NonZeroUsize::new(window.host_of(range).addr());
    let len = NonZeroUsize::new(bytes.get() as usize).ok_or_else(invalid)?;
    let prot = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE | MapFlags::MAP_FIXED;
    let placed = match file {
        Some((file, offset)) => {
            let offset = offset.try_into().map_err(|_| invalid())?;
            // SAFETY: `host_of` has checked that the range lies in a region, whose pages may be
            // replaced by the promise of the caller.
            unsafe { mmap(addr, len, prot, flags, file, offset) }
        }
        // SAFETY: as above.
        None => unsafe { mmap_anonymous(addr, len, prot, flags) },
    };
    placed.map(drop).map_err(|errno| map_error(bytes, errno))
}
