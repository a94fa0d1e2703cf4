//! Guest RAM: its layout and its allocation.
//!
//! Invariant: RAM leaves out the last GiB below 4 GiB, which belongs to devices; what does not fit
//! below begins at 4 GiB.

use std::io;

use coldframe_dirty::{DirtyBitmap, RegionDirty};
use coldframe_mem::{CopyInto, Layers, MapVmMemory, Source};
use coldframe_units::{ByteLen, GuestAddr, GuestRegion, PageSize, RamLayout};
use vm_memory::mmap::MmapRegionBuilder;
use vm_memory::{FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestRegionMmap};

use crate::config::{Backing, Config};
use crate::error::MiniVmError;

/// Guest RAM: what the VMM writes through it is marked in the dirty bitmap that its regions share.
pub type Ram = GuestMemoryMmap<RegionDirty>;

/// Where the devices' address space below 4 GiB begins.
const HOLE_START: u64 = 3 << 30;
/// Where it ends.
const HOLE_END: u64 = 4 << 30;

/// The layout of `ram` bytes on a PC.
///
/// # Errors
/// [`MiniVmError::RamSize`] for less than [`Config::RAM_MIN`] or a broken page.
pub fn ram_layout(ram: ByteLen) -> Result<RamLayout, MiniVmError> {
    let least = Config::RAM_MIN;
    if ram < least || !PageSize::SIZE_4K.divides(ram.get()) {
        return Err(MiniVmError::RamSize { ram, least });
    }
    let low = ram.get().min(HOLE_START);
    let mut regions = vec![(0, low)];
    if ram.get() > low {
        regions.push((HOLE_END, ram.get() - low));
    }
    let regions = regions
        .into_iter()
        .map(|(addr, len)| GuestRegion::new(GuestAddr::new(addr), ByteLen::new(len)))
        .collect::<Result<Vec<_>, _>>()
        .map_err(MiniVmError::Layout)?;
    RamLayout::new(regions).map_err(MiniVmError::Layout)
}

/// RAM of that layout, all zero and not yet touched, with a bitmap of 4 KiB pages.
///
/// # Errors
/// [`MiniVmError::AllocateRam`].
pub fn allocate_ram(layout: &RamLayout, backing: Backing) -> Result<Ram, MiniVmError> {
    let ram = layout.total();
    let failed = |source| MiniVmError::AllocateRam { ram, source };
    let file = match backing {
        Backing::Anonymous => None,
        Backing::Memfd => Some(sys::memfd(ram.get()).map_err(failed)?),
    };
    let dirty =
        DirtyBitmap::new(ram, PageSize::SIZE_4K).map_err(|e| failed(io::Error::other(e)))?;
    let mut regions = Vec::new();
    for (offset, region) in layout.with_offsets() {
        let marks = RegionDirty::new(dirty.clone(), offset, region.len())
            .expect("a region of the layout lies inside its total");
        let len = usize::try_from(region.len().get()).map_err(|e| failed(io::Error::other(e)))?;
        let builder = MmapRegionBuilder::new_with_bitmap(len, marks)
            .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE);
        let builder = match &file {
            None => builder
                .with_mmap_flags(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE),
            Some(file) => builder
                .with_mmap_flags(libc::MAP_SHARED | libc::MAP_NORESERVE)
                .with_file_offset(FileOffset::new(
                    file.try_clone().map_err(failed)?,
                    offset.get(),
                )),
        };
        let mapping = builder.build().map_err(|e| failed(io::Error::other(e)))?;
        let region = GuestRegionMmap::new(mapping, GuestAddress(region.addr().get()))
            .expect("a region of the layout ends below 2^64");
        regions.push(region);
    }
    Ram::from_regions(regions).map_err(|e| failed(io::Error::other(e)))
}

/// The bitmap that all regions of `ram` share.
pub(crate) fn dirty_bitmap(ram: &Ram) -> &DirtyBitmap {
    let first = ram.iter().next().expect("RAM has a region");
    // The mapping's own bitmap: the region's method gives only a slice of it.
    let mapping: &vm_memory::MmapRegion<RegionDirty> = first;
    mapping.bitmap().bitmap()
}

#[cfg(target_os = "linux")]
mod sys {
    #![allow(unsafe_code)]
    //! The memfd.
    //!
    //! # Safety
    //! The only unsafe operations are a system call on a literal string, and taking the descriptor
    //! that it returned.

    use std::fs::File;
    use std::io;
    use std::os::fd::FromRawFd;

    /// An unlinked file in memory of `len` zero bytes, by `memfd_create(2)`.
    pub(super) fn memfd(len: u64) -> io::Result<File> {
        // SAFETY: the name is a literal that ends in a zero byte; the call has no other pointer.
        let fd = unsafe { libc::memfd_create(c"guest-ram".as_ptr(), libc::MFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made by the kernel, and nobody else has it.
        let file = unsafe { File::from_raw_fd(fd) };
        file.set_len(len)?;
        Ok(file)
    }
}

#[cfg(not(target_os = "linux"))]
mod sys {
    //! No memfd here.

    use std::fs::File;
    use std::io;

    pub(super) fn memfd(_len: u64) -> io::Result<File> {
        Err(io::Error::from(io::ErrorKind::Unsupported))
    }
}

/// How a guest gets the RAM of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RamSource {
    /// Mapped from the snapshot's files: a page is read when it is touched, and written to memory
    /// of its own.
    Map,
    /// Copied, each block checked on the way.
    Copy,
}

impl Source for RamSource {
    type Memory = Ram;
    type Error = MiniVmError;

    fn restore(self, layers: &Layers) -> Result<Ram, MiniVmError> {
        match self {
            Self::Map => map(layers),
            Self::Copy => {
                let ram = allocate_ram(layers.layout(), Backing::Anonymous)?;
                let copied = CopyInto::new(&ram).restore(layers);
                copied.map_err(MiniVmError::RestoreRam)?;
                Ok(ram)
            }
        }
    }
}

fn map(layers: &Layers) -> Result<Ram, MiniVmError> {
    let dirty = DirtyBitmap::new(layers.layout().total(), PageSize::SIZE_4K)
        .map_err(MiniVmError::TrackRam)?;
    let bitmap = |offset, region: GuestRegion| {
        RegionDirty::new(dirty.clone(), offset, region.len())
            .expect("a region of the layout lies inside its total")
    };
    let mapped = MapVmMemory::new(bitmap).restore(layers);
    mapped.map_err(MiniVmError::RestoreRam)
}
