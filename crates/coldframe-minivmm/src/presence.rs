#![cfg_attr(target_os = "linux", allow(unsafe_code))]
//! Which parts of a region hold anything: what was never touched is not to be faulted in by
//! hashing it.
//!
//! Invariant: a range said to be absent reads as zeros. Where the kernel cannot say, the answer is
//! that all is present.
//!
//! # Safety
//! The unsafe operations are a seek on a descriptor that is borrowed for the call, and sysconf(3),
//! which takes no pointer.

use std::ops::Range;

use coldframe_dirty::RegionDirty;
use vm_memory::GuestRegionMmap;

/// Whether some byte of `range` in `region` may be other than zero.
///
/// An anonymous mapping is asked for in `/proc/self/pagemap` (kernel:
/// Documentation/admin-guide/mm/pagemap.rst), a memfd by `lseek(2)` with `SEEK_DATA`.
pub(crate) fn may_hold_data(region: &GuestRegionMmap<RegionDirty>, range: &Range<usize>) -> bool {
    sys::may_hold_data(region, range).unwrap_or(true)
}

#[cfg(target_os = "linux")]
mod sys {
    //! By pagemap and `SEEK_DATA`.

    use std::fs::File;
    use std::ops::Range;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::FileExt;

    use coldframe_dirty::RegionDirty;
    use vm_memory::{GuestRegionMmap, MmapRegion};

    /// A page is in memory or in swap.
    const PRESENT_OR_SWAPPED: u64 = 3 << 62;

    pub(super) fn may_hold_data(
        region: &GuestRegionMmap<RegionDirty>,
        range: &Range<usize>,
    ) -> Option<bool> {
        let mapping: &MmapRegion<RegionDirty> = region;
        match mapping.file_offset() {
            Some(file) => {
                let start = i64::try_from(file.start()).ok()?;
                let first = start.checked_add(i64::try_from(range.start).ok()?)?;
                let end = start.checked_add(i64::try_from(range.end).ok()?)?;
                let fd = file.file().as_raw_fd();
                // SAFETY: the descriptor is open for as long as `file` is borrowed.
                let data = unsafe { libc::lseek(fd, first, libc::SEEK_DATA) };
                let none = std::io::Error::last_os_error().raw_os_error() == Some(libc::ENXIO);
                if data < 0 {
                    (none).then_some(false)
                } else {
                    Some(data < end)
                }
            }
            None => anonymous(
                mapping.as_ptr().addr().checked_add(range.start)?,
                range.len(),
            ),
        }
    }

    /// Whether a page of the `len` bytes at `addr` was ever touched.
    fn anonymous(addr: usize, len: usize) -> Option<bool> {
        let page = host_page()?;
        let pagemap = File::open("/proc/self/pagemap").ok()?;
        // An entry of 8 bytes for each page of the host that the range has a byte of.
        let (first, end) = (addr / page, addr.checked_add(len)?.div_ceil(page));
        let mut entries = vec![0; (end - first) * 8];
        let at = u64::try_from(first.checked_mul(8)?).ok()?;
        pagemap.read_exact_at(&mut entries, at).ok()?;
        let touched = |entry: &[u8; 8]| u64::from_le_bytes(*entry) & PRESENT_OR_SWAPPED != 0;
        Some(entries.as_chunks::<8>().0.iter().any(touched))
    }

    /// The page size of the host: 4 KiB, and 16 or 64 KiB on some kernels of aarch64.
    fn host_page() -> Option<usize> {
        // SAFETY: no pointer is passed.
        let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        usize::try_from(bytes).ok().filter(|bytes| *bytes > 0)
    }
}

#[cfg(not(target_os = "linux"))]
mod sys {
    //! Not known here.

    use std::ops::Range;

    use coldframe_dirty::RegionDirty;
    use vm_memory::GuestRegionMmap;

    pub(super) fn may_hold_data(
        _region: &GuestRegionMmap<RegionDirty>,
        _range: &Range<usize>,
    ) -> Option<bool> {
        None
    }
}
