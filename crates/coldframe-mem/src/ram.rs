//! Guest memory as this crate sees it: regions of the host's address space, in RAM offset space.
//!
//! Invariants: nothing here makes a reference into guest memory; it is read and written through
//! raw pointers only, because the guest may write to it at any time. Every access is checked to
//! lie inside its window first.
//!
//! # Safety
//! Everything rests on the promise that an implementation of [`GuestRam`] makes. The accesses of
//! [`Window`] are bounded by an `assert`, so that promise is all they need.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::ptr;

use coldframe_storage::RawPart;
use coldframe_units::{GuestRegion, RamLayout, RamOffset};

use crate::MemError;
use crate::sys;

/// Memory of a guest, mapped in this process.
///
/// # Safety
/// For as long as it is borrowed, each region that [`GuestRam::regions`] names is mapped readable
/// and writable at the same place, regions do not overlap in the host, and no `&` or `&mut` of
/// Rust points into them: all other access comes from outside of Rust's view (a guest, a device,
/// another process) or goes through raw pointers as well.
pub unsafe trait GuestRam: Sync {
    /// The regions, in rising guest address.
    fn regions(&self) -> Vec<RamRegion<'_>>;
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
    #[cfg_attr(
        not(target_os = "linux"),
        expect(dead_code, reason = "only Linux is asked")
    )]
    pub file: Option<BorrowedFd<'a>>,
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
            windows.push(Window {
                start: start.get(),
                len: found.len().get(),
                host: region.host,
                file: region.file,
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

/// The first byte of a page run and the byte after its last.
pub(crate) fn span(start: RamOffset, len: coldframe_units::ByteLen) -> Range<u64> {
    start.get()..start.get() + len.get()
}
