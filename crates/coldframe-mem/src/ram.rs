//! Guest memory as this crate sees it: regions of the host's address space, in RAM offset space.
//!
//! Invariants: nothing here makes a reference into guest memory; it is read and written through
//! raw pointers only, because the guest may write to it at any time. Every access is checked to
//! lie inside its window first.
//!
//! Memory that may not be readable (a protected part, a poisoned page, a region that something
//! else fills) is read through the kernel, which answers EFAULT where a load would end in a signal.
//!
//! # Safety
//! Everything rests on the promise that an implementation of [`GuestRam`] makes. The accesses of
//! [`Window`] are bounded by an `assert`, so that promise is all they need.
#![allow(unsafe_code)]

use std::io;
use std::marker::PhantomData;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::ptr;

use coldframe_memfile::AbsentPart;
use coldframe_storage::RawPart;
use coldframe_units::{ByteLen, GuestAddr, GuestRegion, PageSize, RamLayout, RamOffset};

use crate::MemError;
use crate::sys;

/// Memory of a guest, mapped in this process.
///
/// # Safety
/// For as long as it is borrowed, each region that [`GuestRam::regions`] names is mapped at the
/// same place, regions do not overlap in the host, and no `&` or `&mut` of Rust points into them:
/// all other access comes from outside of Rust's view (a guest, a device, another process) or goes
/// through raw pointers as well. What is restored into is mapped writable. A capture finds out by
/// itself what cannot be read, and is then an error.
pub unsafe trait GuestRam: Sync {
    /// The regions, in rising guest address.
    fn regions(&self) -> Vec<RamRegion<'_>>;
}

/// What a page of a region reads as that is not there yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Fill {
    /// Nothing is said: zero, as of any mapping of anonymous memory. A region that is registered
    /// with a userfaultfd is refused, since its pages come from who knows where.
    #[default]
    Unstated,
    /// Zero, also where a userfaultfd is registered: its handler gives zeros, or tracks writes.
    Zero,
    /// Something that a userfaultfd handler brings: every page counts as touched and is read, so a
    /// capture fetches all that is missing. The handler must not need the thread that captures.
    Lazy,
}

/// One region of guest memory and where it is in the host.
#[derive(Clone, Copy, Debug)]
pub struct RamRegion<'a> {
    /// Where it is in the guest.
    pub region: GuestRegion,
    /// Where its first byte is in this process; a page boundary of the host.
    pub host: *mut u8,
    /// The file that is mapped there, if it is known. It is only a hint: it says where to look for
    /// holes, and is not used unless the kernel says that this file is what is mapped.
    pub file: Option<BorrowedFd<'a>>,
    /// What pages are that are not there yet.
    pub fill: Fill,
    /// The parts that are not plugged in, as bytes of the region: ascending, apart, in whole pages
    /// of the host. They are never read or written; a file names them as absent, with zeros there.
    pub absent: &'a [Range<u64>],
}

impl RamRegion<'_> {
    /// Plain memory.
    #[must_use]
    pub const fn new(region: GuestRegion, host: *mut u8) -> Self {
        Self {
            region,
            host,
            file: None,
            fill: Fill::Unstated,
            absent: &[],
        }
    }
}

/// Guest memory with more said of it than its owner can say, a `GuestMemoryMmap` for example.
#[derive(Debug)]
pub struct Described<'a, R: ?Sized> {
    ram: &'a R,
    fill: Fill,
    /// For each region the parts that are not plugged in.
    absent: Vec<Vec<Range<u64>>>,
}

impl<'a, R: GuestRam + ?Sized> Described<'a, R> {
    /// All of `ram`, filled as `fill` says; the memory in `absent`, in rising address, is not
    /// plugged in.
    #[must_use]
    pub fn new(ram: &'a R, fill: Fill, absent: &[GuestRegion]) -> Self {
        let regions = ram.regions().into_iter();
        let absent = regions.map(|RamRegion { region, .. }| {
            let (start, end) = (region.addr().get(), region.end().get());
            let parts = absent.iter().map(|part| {
                let part_start = part.addr().get().max(start);
                let part_end = part.end().get().min(end);
                part_start.saturating_sub(start)..part_end.saturating_sub(start)
            });
            parts.filter(|part| !part.is_empty()).collect()
        });
        let absent = absent.collect();
        Self { ram, fill, absent }
    }
}

// SAFETY: the regions are those of memory that keeps the promise, and so is what maps them.
unsafe impl<R: GuestRam + ?Sized> GuestRam for Described<'_, R> {
    fn regions(&self) -> Vec<RamRegion<'_>> {
        let regions = self.ram.regions().into_iter().zip(&self.absent);
        regions
            .map(|(region, absent)| RamRegion {
                fill: self.fill,
                absent,
                ..region
            })
            .collect()
    }
}

/// Guest memory as a plain list, for VMMs without vm-memory.
#[derive(Clone, Debug)]
pub struct RawRam<'a> {
    regions: Vec<RamRegion<'a>>,
}

// SAFETY: the promise made to `RawRam::new` holds on every thread.
unsafe impl Send for RawRam<'_> {}
// SAFETY: as for Send.
unsafe impl Sync for RawRam<'_> {}

impl<'a> RawRam<'a> {
    /// From regions in rising guest address.
    ///
    /// # Safety
    /// For all of `'a` and as long as the value lives, what [`GuestRam`] asks for holds.
    #[must_use]
    pub const unsafe fn new(regions: Vec<RamRegion<'a>>) -> Self {
        Self { regions }
    }
}

// SAFETY: promised by whoever called `RawRam::new`.
unsafe impl GuestRam for RawRam<'_> {
    fn regions(&self) -> Vec<RamRegion<'_>> {
        self.regions.clone()
    }
}

/// A region in RAM offset space.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window<'a> {
    start: u64,
    len: u64,
    host: *mut u8,
    /// Where it is in the guest.
    addr: GuestAddr,
    #[cfg_attr(
        not(target_os = "linux"),
        expect(dead_code, reason = "only Linux is asked")
    )]
    pub file: Option<BorrowedFd<'a>>,
    pub fill: Fill,
    absent: &'a [Range<u64>],
    memory: PhantomData<&'a ()>,
}

// SAFETY: `GuestRam` is Sync, and its promise holds on every thread.
unsafe impl Send for Window<'_> {}
// SAFETY: as for Send.
unsafe impl Sync for Window<'_> {}

impl<'a> Window<'a> {
    /// The RAM offsets that it holds.
    pub const fn range(&self) -> Range<u64> {
        self.start..self.start + self.len
    }

    /// The host's address of its first byte.
    pub fn host_start(&self) -> u64 {
        self.host.addr() as u64
    }

    /// The guest's address of a RAM offset in it.
    pub const fn guest_addr(&self, offset: u64) -> GuestAddr {
        GuestAddr::new(self.addr.get() + (offset - self.start))
    }

    /// The parts that are not plugged in, as RAM offsets.
    pub fn absent(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        let parts = self.absent.iter();
        parts.map(|part| self.start + part.start..self.start + part.end)
    }

    /// The parts of a range that are not plugged in.
    pub fn absent_in(&self, range: &Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let Range { start, end } = *range;
        let parts = self.absent();
        let parts = parts.map(move |part| part.start.max(start)..part.end.min(end));
        parts.filter(|part| !part.is_empty())
    }

    /// The parts of a range that are plugged in.
    pub fn present(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        let mut parts = Vec::new();
        let mut next = range.start;
        for part in self.absent_in(range) {
            if part.start > next {
                parts.push(next..part.start);
            }
            next = part.end;
        }
        if next < range.end {
            parts.push(next..range.end);
        }
        parts
    }

    /// Where the bytes of a range of RAM offsets are.
    fn at(&self, range: &Range<u64>) -> (*mut u8, usize) {
        let inside = range.start >= self.start
            && range.start <= range.end
            && range.end - self.start <= self.len;
        assert!(inside, "{range:?} is outside the window {:?}", self.range());
        // 64-bit targets only, and the window is mapped: its length is a usize.
        let offset = (range.start - self.start) as usize;
        (
            self.host.wrapping_add(offset),
            (range.end - range.start) as usize,
        )
    }

    /// The bytes, to be written to a file straight from where they are.
    pub fn part(&self, range: &Range<u64>) -> RawPart<'a> {
        let (host, len) = self.at(range);
        // SAFETY: `at` has checked the range; GuestRam promises the rest for 'a.
        unsafe { RawPart::new(host, len) }
    }

    /// Whether the bytes are all zero now; a whole number of 64-byte lines.
    pub fn is_zero(&self, range: &Range<u64>) -> bool {
        let (host, len) = self.at(range);
        assert!(
            host.addr().is_multiple_of(8) && len.is_multiple_of(64),
            "pages are aligned"
        );
        let words = host.cast::<u64>().cast_const();
        (0..len / 64).all(|line| {
            let mut seen = 0;
            for word in 0..8 {
                // SAFETY: within `len` bytes from `host` on, aligned (both checked above), and
                // readable by the promise of GuestRam; volatile, since the guest may write to it.
                seen |= unsafe { ptr::read_volatile(words.wrapping_add(line * 8 + word)) };
            }
            seen == 0
        })
    }

    /// Copies bytes out through the kernel, which says what cannot be read.
    pub fn copy_out(&self, range: &Range<u64>, buf: &mut [u8]) -> Result<(), CopyOut> {
        let (host, len) = self.at(range);
        assert_eq!(len, buf.len(), "a buffer for just the range");
        let mut done = 0;
        while done < len {
            match read_own(&[(host.wrapping_add(done), len - done)], &mut buf[done..]) {
                Ok(0) => return Err(CopyOut::Fault(range.start + done as u64)),
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::EFAULT) => {
                    return Err(CopyOut::Fault(range.start + done as u64));
                }
                Err(_) => return Err(CopyOut::Refused),
            }
        }
        Ok(())
    }

    /// Overwrites memory from RAM offset `start` on.
    pub fn write(&self, start: u64, bytes: &[u8]) {
        let (host, len) = self.at(&(start..start + bytes.len() as u64));
        // SAFETY: `at` has checked the range; GuestRam promises that it is writable and that no
        // reference points into it, so `bytes` does not overlap it.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), host, len) };
    }

    /// Overwrites memory with zeros.
    pub fn write_zeros(&self, range: &Range<u64>) {
        let (host, len) = self.at(range);
        // SAFETY: `at` has checked the range; GuestRam promises that it is writable.
        unsafe { ptr::write_bytes(host, 0, len) };
    }

    /// The host's address of a range of RAM offsets, for a new mapping at its place.
    pub fn host_of(&self, range: &Range<u64>) -> *mut u8 {
        self.at(range).0
    }
}

/// Why bytes could not be copied out through the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CopyOut {
    /// The page of this RAM offset cannot be read.
    Fault(u64),
    /// The host does not do it: a seccomp filter, say.
    Refused,
}

/// The most ranges that one call takes (`IOV_MAX`).
pub(crate) const PIECES_MAX: usize = 1024;

/// Copies pieces, one behind the other, in one call; false if not all could be read so.
pub(crate) fn copy_out_all(pieces: &[(&Window<'_>, Range<u64>)], buf: &mut [u8]) -> bool {
    let places = pieces.iter().map(|(window, range)| window.at(range));
    let places: Vec<_> = places.collect();
    let len: usize = places.iter().map(|(_, len)| len).sum();
    assert_eq!(len, buf.len(), "a buffer for just the pieces");
    matches!(read_own(&places, buf), Ok(count) if count == len)
}

/// Reads memory of this process through the kernel (process_vm_readv(2)): EFAULT, or fewer bytes,
/// where it cannot be read.
#[cfg(target_os = "linux")]
fn read_own(places: &[(*mut u8, usize)], buf: &mut [u8]) -> io::Result<usize> {
    let remote: Vec<libc::iovec> = places
        .iter()
        .map(|(host, len)| libc::iovec {
            iov_base: host.cast(),
            iov_len: *len,
        })
        .collect();
    let local = libc::iovec {
        iov_base: buf.as_mut_ptr().cast(),
        iov_len: buf.len(),
    };
    let count = remote.len().try_into().map_err(io::Error::other)?;
    let pid = std::process::id().try_into().map_err(io::Error::other)?;
    // SAFETY: `local` is all of `buf`, which is borrowed uniquely for the call and written within
    // its length only; `remote` is only read by the kernel, which checks every page of it.
    let read =
        unsafe { libc::process_vm_readv(pid, &raw const local, 1, remote.as_ptr(), count, 0) };
    usize::try_from(read).map_err(|_| io::Error::last_os_error())
}

/// Hosts whose kernel is not asked: a plain copy, by the promise of [`GuestRam`].
#[cfg(not(target_os = "linux"))]
fn read_own(places: &[(*mut u8, usize)], buf: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    for (host, len) in places {
        let part = &mut buf[done..done + len];
        // SAFETY: `part` has `len` bytes; GuestRam promises that the range is mapped, and that no
        // reference points into it, so the two do not overlap.
        unsafe { ptr::copy_nonoverlapping(host.cast_const(), part.as_mut_ptr(), *len) };
        done += len;
    }
    Ok(done)
}

/// All windows, one behind the other.
#[derive(Clone, Debug)]
pub(crate) struct RamMap<'a> {
    layout: RamLayout,
    windows: Vec<Window<'a>>,
}

impl<'a> RamMap<'a> {
    /// The windows of `ram`; refuses regions that make no layout or are not page-aligned.
    pub fn new<R: GuestRam + ?Sized>(ram: &'a R) -> Result<Self, MemError> {
        let regions = ram.regions();
        let layout = RamLayout::new(regions.iter().map(|region| region.region).collect())
            .map_err(|source| MemError::Layout { source })?;
        let page = sys::host_page();
        let mut windows = Vec::with_capacity(regions.len());
        for (region, (start, found)) in regions.iter().zip(layout.with_offsets()) {
            if !page.divides(region.host.addr() as u64) || !page.divides(found.len().get()) {
                return Err(MemError::HostAlignment {
                    addr: found.addr(),
                    host_page: page,
                });
            }
            if !is_in_order(region.absent, found.len().get(), page) {
                let addr = found.addr();
                return Err(MemError::Absent { addr });
            }
            windows.push(Window {
                start: start.get(),
                len: found.len().get(),
                host: region.host,
                addr: found.addr(),
                file: region.file,
                fill: region.fill,
                absent: region.absent,
                memory: PhantomData,
            });
        }
        Ok(Self { layout, windows })
    }

    pub const fn layout(&self) -> &RamLayout {
        &self.layout
    }

    pub fn windows(&self) -> &[Window<'a>] {
        &self.windows
    }

    /// The parts that are not plugged in, in rising offset.
    pub fn absent(&self) -> impl Iterator<Item = AbsentPart> + '_ {
        let parts = self.windows.iter().flat_map(Window::absent);
        parts.map(|part| AbsentPart {
            start: RamOffset::new(part.start),
            len: ByteLen::new(part.end - part.start),
        })
    }

    /// The pieces of a range of RAM offsets, each in one window.
    pub fn pieces(&self, range: Range<u64>) -> impl Iterator<Item = (&Window<'a>, Range<u64>)> {
        let first = self
            .windows
            .partition_point(|window| window.range().end <= range.start);
        let end = range.end;
        let mut next = range.start;
        self.windows[first..].iter().map_while(move |window| {
            let piece = next..end.min(window.range().end);
            next = piece.end;
            (piece.start < piece.end).then_some((window, piece))
        })
    }

    /// Refuses memory of another layout than `expected`.
    pub fn check_layout(&self, expected: &RamLayout) -> Result<(), MemError> {
        if self.layout == *expected {
            return Ok(());
        }
        Err(MemError::TargetLayout {
            expected: expected.total(),
            found: self.layout.total(),
        })
    }
}

/// Whether parts of a region of `len` bytes ascend, lie apart and are whole pages of the host.
fn is_in_order(parts: &[Range<u64>], len: u64, page: PageSize) -> bool {
    let mut free_from = 0;
    parts.iter().all(|part| {
        let is_next = part.start >= free_from && part.start < part.end && part.end <= len;
        free_from = part.end;
        is_next && page.divides(part.start) && page.divides(part.end)
    })
}

/// The first byte of a page run and the byte after its last.
pub(crate) fn span(start: RamOffset, len: ByteLen) -> Range<u64> {
    start.get()..start.get() + len.get()
}
