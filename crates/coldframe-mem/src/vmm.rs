//! Guest memory of the crate vm-memory.
//!
//! # Safety
//! A `GuestMemoryMmap` keeps its regions mapped for as long as it lives, hands out no references
//! into them but volatile slices, and unmaps by address what it has mapped itself.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::AsFd;

use coldframe_units::{ByteLen, GuestAddr, GuestRegion, RamOffset};
use vm_memory::bitmap::Bitmap;
use vm_memory::mmap::MmapRegionBuilder;
use vm_memory::{
    Address, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap,
};

use crate::{GuestRam, Layers, MapOptions, MemError, RamRegion, Source, map_over};

// SAFETY: see the module header: mapped while borrowed, no references into it; vm-memory refuses
// regions that overlap in the guest, and each is a mapping of its own.
unsafe impl<B: Bitmap + Send + Sync> GuestRam for GuestMemoryMmap<B> {
    fn regions(&self) -> Vec<RamRegion<'_>> {
        self.iter()
            .map(|region| {
                let place = GuestRegion::new(
                    GuestAddr::new(region.start_addr().raw_value()),
                    ByteLen::new(region.len()),
                )
                .expect("vm-memory has no empty region, and none past the address space");
                RamRegion {
                    file: region.file_offset().map(|place| place.file().as_fd()),
                    ..RamRegion::new(place, region.as_ptr())
                }
            })
            .collect()
    }
}

/// Maps the memory of `chain` as a `GuestMemoryMmap`, which unmaps it; `bitmap` makes the dirty
/// bitmap of each region.
///
/// # Errors
/// As [`crate::restore_map`].
pub fn restore_map_vm_memory<B: Bitmap + Send + Sync>(
    chain: &Layers,
    options: MapOptions,
    mut bitmap: impl FnMut(RamOffset, GuestRegion) -> B,
) -> Result<GuestMemoryMmap<B>, MemError> {
    let mut regions = Vec::new();
    for (offset, region) in chain.layout().with_offsets() {
        let len = region.len();
        let failed = |source| MemError::Map { len, source };
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let mapping =
            MmapRegionBuilder::new_with_bitmap(len.get() as usize, bitmap(offset, region))
                .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE)
                .with_mmap_flags(flags)
                .build()
                .map_err(|source| failed(io::Error::other(source)))?;
        let region = GuestRegionMmap::new(mapping, GuestAddress(region.addr().get()));
        regions.push(region.ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?);
    }
    let memory = GuestMemoryMmap::from_regions(regions).map_err(|source| MemError::Map {
        len: chain.layout().total(),
        source: io::Error::other(source),
    })?;
    // SAFETY: the regions were mapped just now, by vm-memory, which unmaps them; nobody else
    // knows of them yet.
    unsafe { map_over(chain, &memory, options) }?;
    Ok(memory)
}

/// Maps the files as a `GuestMemoryMmap`: [`restore_map_vm_memory`]. Checks no hash.
#[derive(Debug)]
pub struct MapVmMemory<F> {
    bitmap: F,
    options: MapOptions,
}

impl<B, F> MapVmMemory<F>
where
    B: Bitmap + Send + Sync,
    F: FnMut(RamOffset, GuestRegion) -> B,
{
    /// `bitmap` makes the dirty bitmap of each region.
    pub fn new(bitmap: F) -> Self {
        let options = MapOptions::default();
        Self { bitmap, options }
    }
}

impl<B, F> Source for MapVmMemory<F>
where
    B: Bitmap + Send + Sync,
    F: FnMut(RamOffset, GuestRegion) -> B,
{
    type Memory = GuestMemoryMmap<B>;
    type Error = MemError;

    fn restore(self, layers: &Layers) -> Result<GuestMemoryMmap<B>, MemError> {
        restore_map_vm_memory(layers, self.options, self.bitmap)
    }
}
