//! The page table of this process: which pages are there, or swapped out.
//!
//! Source: Documentation/admin-guide/mm/pagemap.rst of Linux: the `PAGEMAP_SCAN` ioctl since 6.7,
//! before it the entries of /proc/self/pagemap.
//!
//! # Safety
//! The one ioctl is given a structure of our own with the address and length of a vector of our
//! own, both alive during the call; it writes only there.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;

use super::{Touched, push};
use crate::sys;

/// `PAGE_IS_PRESENT`, `PAGE_IS_SWAPPED`, `PAGE_IS_PFNZERO` of linux/fs.h.
const PRESENT: u64 = 1 << 3;
const SWAPPED: u64 = 1 << 4;
const PFN_ZERO: u64 = 1 << 5;

/// Regions per call.
const REGIONS: usize = 512;

/// `struct page_region` of linux/fs.h.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Region {
    start: u64,
    end: u64,
    categories: u64,
}

/// `struct pm_scan_arg` of linux/fs.h.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct ScanArg {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

const _: () = assert!(size_of::<ScanArg>() == 96 && size_of::<Region>() == 24);

nix::ioctl_readwrite!(pagemap_scan, b'f', 16, ScanArg);

/// The open page table.
#[derive(Debug)]
pub(super) struct Pagemap {
    file: File,
    has_scan: AtomicBool,
    page: u64,
}

impl Pagemap {
    pub fn open() -> io::Result<Self> {
        Ok(Self {
            file: File::open("/proc/self/pagemap")?,
            has_scan: AtomicBool::new(true),
            page: sys::host_page().bytes(),
        })
    }

    /// As if the kernel were older than 6.7.
    #[cfg(test)]
    pub fn without_scan(self) -> Self {
        self.has_scan.store(false, Ordering::Relaxed);
        self
    }

    /// Adds the parts of a range of addresses that have pages. Pages that are not present but have
    /// an entry are to be read with care: such an entry may be of a page in swap, or of a poisoned
    /// one.
    pub fn push_present(&self, range: Range<u64>, touched: &mut Touched) -> io::Result<()> {
        if self.has_scan.load(Ordering::Relaxed) {
            let mut found = Touched::default();
            match self.scan(&range, &mut found) {
                // No such call, a kernel that knows fewer categories, or a filter.
                Err(errno) if sys::is_refusal(errno) => {
                    self.has_scan.store(false, Ordering::Relaxed);
                }
                Err(errno) => return Err(errno.into()),
                Ok(()) => {
                    touched.spans.append(&mut found.spans);
                    touched.careful.append(&mut found.careful);
                    return Ok(());
                }
            }
        }
        match self.read_entries(&range, touched) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                push(&mut touched.spans, range.clone());
                push(&mut touched.careful, range);
                Ok(())
            }
            other => other,
        }
    }

    fn scan(&self, range: &Range<u64>, touched: &mut Touched) -> Result<(), Errno> {
        let mut regions = [Region::default(); REGIONS];
        let mut next = range.start;
        while next < range.end {
            let mut arg = ScanArg {
                size: size_of::<ScanArg>() as u64,
                start: next,
                end: range.end,
                vec: regions.as_mut_ptr().expose_provenance() as u64,
                vec_len: REGIONS as u64,
                category_inverted: PFN_ZERO,
                category_mask: PFN_ZERO,
                category_anyof_mask: PRESENT | SWAPPED,
                return_mask: PRESENT | SWAPPED,
                ..ScanArg::default()
            };
            // SAFETY: `arg` is a whole pm_scan_arg that names `regions` with its true length;
            // both outlive the call, and nothing else refers to `regions` meanwhile.
            let found = unsafe { pagemap_scan(self.file.as_raw_fd(), &raw mut arg) }?;
            for region in &regions[..usize::try_from(found).unwrap_or(0).min(REGIONS)] {
                push(&mut touched.spans, region.start..region.end);
                if region.categories & SWAPPED != 0 {
                    push(&mut touched.careful, region.start..region.end);
                }
            }
            if arg.walk_end <= next {
                return Err(Errno::EINVAL);
            }
            next = arg.walk_end;
        }
        Ok(())
    }

    /// 8 bytes for each page: bit 63 present, bit 62 swapped.
    fn read_entries(&self, range: &Range<u64>, touched: &mut Touched) -> io::Result<()> {
        let mut buf = vec![0; 64 * 1024];
        let mut next = range.start;
        while next < range.end {
            let pages = ((range.end - next) / self.page).min(buf.len() as u64 / 8);
            let bytes = &mut buf[..pages as usize * 8];
            self.file.read_exact_at(bytes, next / self.page * 8)?;
            // Bits 63 and 62, in the host's byte order.
            let top_byte = if cfg!(target_endian = "little") { 7 } else { 0 };
            for entry in bytes.chunks_exact(8) {
                if entry[top_byte] & 0b1100_0000 != 0 {
                    push(&mut touched.spans, next..next + self.page);
                }
                if entry[top_byte] & 0b0100_0000 != 0 {
                    push(&mut touched.careful, next..next + self.page);
                }
                next += self.page;
            }
        }
        Ok(())
    }
}
