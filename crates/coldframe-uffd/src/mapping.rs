//! Memory whose faults can be handled: a mapping that no Rust reference ever points into.
//!
//! # Safety
//! A mapping is made by mmap(2) at an address of the kernel's choice and unmapped when it is
//! dropped, by nobody else. Its bytes are read and written by atomic operations and by the kernel;
//! its address is handed out as a number, or as a pointer whose use is the caller's. So its bytes
//! may change at any time, and a fault in it may take any time.
#![allow(unsafe_code)]

use std::io;
use std::num::NonZero;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use coldframe_units::{ByteLen, PageSize};
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap, mmap_anonymous, munmap};

use crate::{HostAddr, HostRange, Operation, UffdError, host_page};

/// `HUGETLBFS_MAGIC` of linux/magic.h.
const HUGETLBFS: i64 = 0x9584_58f6;

/// The pages of a pool of huge ones (hugetlbfs; Documentation/admin-guide/mm/hugetlbpage.rst).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HugePages {
    /// 2 MiB.
    Size2M,
    /// 1 GiB.
    Size1G,
}

/// Who sees what is written to a mapping of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// The mapping alone: a page is copied when it is written to. The file need not be open for
    /// writing.
    Private,
    /// Everybody who has the file mapped or reads it.
    Shared,
}

/// Memory of this process. It is neither inherited by a child (`MADV_DONTFORK`), in which it would
/// be without its userfaultfd and so read as zeros, nor part of a core dump (`MADV_DONTDUMP`).
#[derive(Debug)]
pub struct Mapping {
    at: NonNull<u8>,
    len: NonZero<usize>,
    page: PageSize,
    is_file: bool,
}

// SAFETY: nothing in it belongs to a thread; the bytes are accessed atomically.
unsafe impl Send for Mapping {}
// SAFETY: as above; unmapping takes the value itself.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Anonymous private memory, of which no page is there. Nothing is reserved for it.
    ///
    /// # Errors
    /// [`UffdError::Map`]; also if `len` is no whole number of pages.
    pub fn anonymous(len: ByteLen) -> Result<Self, UffdError> {
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
        Self::map_anonymous(len, host_page(), flags)
    }

    /// Anonymous private memory of huge pages, all reserved in the pool: a fault in it cannot find
    /// the pool empty.
    ///
    /// # Errors
    /// [`UffdError::Map`]: `ENOMEM` if the pool has not so many.
    pub fn anonymous_huge(len: ByteLen, pages: HugePages) -> Result<Self, UffdError> {
        let (page, size) = match pages {
            HugePages::Size2M => (PageSize::SIZE_2M, MapFlags::MAP_HUGE_2MB),
            HugePages::Size1G => (PageSize::SIZE_1G, MapFlags::MAP_HUGE_1GB),
        };
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_HUGETLB | size;
        Self::map_anonymous(len, page, flags)
    }

    /// A file's bytes from `offset` on, such as a memfd's.
    ///
    /// # Errors
    /// [`UffdError::Map`]; also if `offset` or `len` is no whole number of the file's pages.
    pub fn file(
        file: impl AsFd,
        offset: u64,
        len: ByteLen,
        sharing: Sharing,
    ) -> Result<Self, UffdError> {
        let page = page_of(file.as_fd());
        let flags = match sharing {
            Sharing::Private => MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE,
            Sharing::Shared => MapFlags::MAP_SHARED,
        };
        let bytes = whole_pages(len, page)?;
        let at = match libc::off_t::try_from(offset) {
            Ok(offset) if page.divides(offset.unsigned_abs()) => {
                // SAFETY: a new mapping at an address that the kernel chooses touches no other.
                unsafe { mmap(None, bytes, read_write(), flags, file, offset) }
            }
            _ => Err(nix::errno::Errno::EINVAL),
        };
        let is_file = true;
        Self::new(
            at.map_err(map_error(len, page))?.cast(),
            bytes,
            page,
            is_file,
        )
    }

    fn map_anonymous(len: ByteLen, page: PageSize, flags: MapFlags) -> Result<Self, UffdError> {
        let bytes = whole_pages(len, page)?;
        // SAFETY: a new mapping at an address that the kernel chooses touches no other.
        let at = unsafe { mmap_anonymous(None, bytes, read_write(), flags) };
        let is_file = false;
        Self::new(
            at.map_err(map_error(len, page))?.cast(),
            bytes,
            page,
            is_file,
        )
    }

    fn new(
        at: NonNull<u8>,
        len: NonZero<usize>,
        page: PageSize,
        is_file: bool,
    ) -> Result<Self, UffdError> {
        let mapping = Self {
            at,
            len,
            page,
            is_file,
        };
        for advice in [MmapAdvise::MADV_DONTFORK, MmapAdvise::MADV_DONTDUMP] {
            // SAFETY: the range is this mapping; neither advice changes a byte of it.
            let advised = unsafe { madvise(at.cast(), len.get(), advice) };
            advised.map_err(map_error(mapping.len(), page))?;
        }
        Ok(mapping)
    }

    /// Where it is.
    #[must_use]
    pub fn range(&self) -> HostRange {
        HostRange::new(self.addr(), self.len()).expect("a mapping is a range of addresses")
    }

    /// Its first address.
    #[must_use]
    pub fn addr(&self) -> HostAddr {
        HostAddr::new(self.at.expose_provenance().get() as u64)
    }

    /// Its first byte, to be given to the kernel or to be used as guest memory: volatile, and never
    /// as a reference.
    #[must_use]
    pub const fn as_ptr(&self) -> *mut u8 {
        self.at.as_ptr()
    }

    /// Its length.
    #[must_use]
    pub const fn len(&self) -> ByteLen {
        ByteLen::new(self.len.get() as u64)
    }

    /// Always false: a mapping has at least one page.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// The size of its pages, the unit of all that is done to it.
    #[must_use]
    pub const fn page(&self) -> PageSize {
        self.page
    }

    /// `len` bytes at `offset` of it.
    ///
    /// # Errors
    /// [`UffdError::OutsideMapping`] if they are not whole pages of it.
    pub fn part(&self, offset: ByteLen, len: ByteLen) -> Result<HostRange, UffdError> {
        let is_whole = self.page.divides(offset.get()) && self.page.divides(len.get());
        let start = self.addr().checked_add(offset);
        match start.and_then(|start| HostRange::new(start, len)) {
            Some(part) if is_whole && part.end() <= self.range().end() => Ok(part),
            _ => Err(UffdError::OutsideMapping {
                offset: offset.get(),
                len: len.get(),
                page: self.page,
            }),
        }
    }

    /// Reads the 8 bytes at `offset`.
    ///
    /// # Panics
    /// If they are outside of it, or `offset` is no multiple of 8.
    #[must_use]
    pub fn load(&self, offset: usize) -> u64 {
        self.word(offset).load(Ordering::Relaxed)
    }

    /// Writes 8 bytes at `offset`.
    ///
    /// # Panics
    /// If they are outside of it, or `offset` is no multiple of 8.
    pub fn store(&self, offset: usize, value: u64) {
        self.word(offset).store(value, Ordering::Relaxed);
    }

    fn word(&self, offset: usize) -> &AtomicU64 {
        let end = offset.checked_add(size_of::<u64>());
        assert!(
            end.is_some_and(|end| end <= self.len.get()) && offset.is_multiple_of(8),
            "8 bytes at {offset} are not in a mapping of {} bytes",
            self.len
        );
        // SAFETY: the offset was checked to be in the mapping.
        let at = unsafe { self.at.add(offset) };
        // SAFETY: 8 bytes in the mapping, which lives as long as the borrow of `self`; aligned, as
        // mappings begin on a page; everybody accesses them atomically (this file's header).
        unsafe { AtomicU64::from_ptr(at.as_ptr().cast()) }
    }

    /// Reads bytes from `offset` on, each by itself: what is written meanwhile may be seen in part.
    ///
    /// # Panics
    /// If they are outside of it.
    pub fn read_at(&self, offset: usize, bytes: &mut [u8]) {
        for (byte, at) in bytes.iter_mut().zip(offset..) {
            *byte = self.byte(at).load(Ordering::Relaxed);
        }
    }

    /// Writes bytes from `offset` on, each by itself.
    ///
    /// # Panics
    /// If they are outside of it.
    pub fn write_at(&self, offset: usize, bytes: &[u8]) {
        for (byte, at) in bytes.iter().zip(offset..) {
            self.byte(at).store(*byte, Ordering::Relaxed);
        }
    }

    fn byte(&self, offset: usize) -> &AtomicU8 {
        assert!(
            offset < self.len.get(),
            "{offset} is not in a mapping of {} bytes",
            self.len
        );
        // SAFETY: the offset was checked to be in the mapping.
        let at = unsafe { self.at.add(offset) };
        // SAFETY: a byte of the mapping, which lives as long as the borrow of `self`; everybody
        // accesses it atomically (this file's header).
        unsafe { AtomicU8::from_ptr(at.as_ptr()) }
    }

    /// Gives up whole pages: anonymous memory reads as zeros after that, a private mapping of a
    /// file as the file, and of a shared one the file has a hole there. Where a userfaultfd with
    /// [`EVENT_REMOVE`](crate::Features::EVENT_REMOVE) is registered, this waits until its reader
    /// has read the event.
    ///
    /// # Errors
    /// [`UffdError::OutsideMapping`], [`UffdError::Range`].
    pub fn discard(
        &self,
        offset: ByteLen,
        len: ByteLen,
        sharing: Sharing,
    ) -> Result<(), UffdError> {
        let range = self.part(offset, len)?;
        let advice = match sharing {
            Sharing::Shared if self.is_file => MmapAdvise::MADV_REMOVE,
            _ => MmapAdvise::MADV_DONTNEED,
        };
        // Both fit: the part is inside of a mapping of this process.
        let (offset, len) = (offset.get() as usize, len.get() as usize);
        // SAFETY: the part was checked to be in the mapping.
        let at = unsafe { self.at.add(offset) };
        // SAFETY: the range is in this mapping, whose bytes nothing in Rust depends on.
        let advised = unsafe { madvise(at.cast(), len, advice) };
        advised.map_err(|errno| UffdError::Range {
            operation: Operation::Discard,
            range,
            source: errno.into(),
        })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and no borrow of it is left. It cannot fail.
        let _ = unsafe { munmap(self.at.cast(), self.len.get()) };
    }
}

fn read_write() -> ProtFlags {
    ProtFlags::PROT_READ | ProtFlags::PROT_WRITE
}

fn map_error(len: ByteLen, page: PageSize) -> impl Fn(nix::errno::Errno) -> UffdError {
    move |errno| UffdError::Map {
        len,
        page,
        source: errno.into(),
    }
}

fn whole_pages(len: ByteLen, page: PageSize) -> Result<NonZero<usize>, UffdError> {
    let bytes = usize::try_from(len.get()).ok().and_then(NonZero::new);
    bytes.filter(|_| page.divides(len.get())).ok_or_else(|| {
        let source = io::Error::from_raw_os_error(libc::EINVAL);
        UffdError::Map { len, page, source }
    })
}

/// A file of hugetlbfs has pages of its own size (fstatfs(2)), all others have the host's.
fn page_of(file: BorrowedFd<'_>) -> PageSize {
    let Ok(found) = nix::sys::statfs::fstatfs(file) else {
        return host_page();
    };
    // The types of these two differ between C libraries.
    #[allow(clippy::unnecessary_cast, clippy::cast_lossless)]
    let (kind, block) = (found.filesystem_type().0 as i64, found.block_size() as i64);
    match u64::try_from(block).map(PageSize::new) {
        Ok(Ok(page)) if kind & 0xffff_ffff == HUGETLBFS => page,
        _ => host_page(),
    }
}
