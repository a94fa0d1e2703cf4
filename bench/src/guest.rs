//! Guest memory without a guest: private anonymous memory of this process.
//!
//! # Safety
//! A [`Guest`] owns its mapping for as long as it lives. While [`Guest::ram`] lends it out, only
//! shared borrows of it can exist, and nobody writes to it.
#![allow(unsafe_code)]

use anyhow::Result;
use coldframe_envelope::Producer;
use coldframe_mem::{CaptureSpec, MappedRam, MergeBudget, RamRegion, RawRam};
use coldframe_units::{Arch, ByteLen, GuestAddr, GuestRegion, PageSize};
use memmap2::{MmapMut, MmapOptions};

/// Bytes in a page of all files and bitmaps here.
pub const PAGE: u64 = 4096;
/// Bytes.
pub const MIB: u64 = 1 << 20;
/// Bytes.
pub const GIB: u64 = 1 << 30;

/// One region of guest memory, from guest address 0 on.
pub struct Guest {
    memory: MmapMut,
}

impl Guest {
    /// Memory that nobody has touched.
    pub fn untouched(len: u64) -> Result<Self> {
        let memory = MmapOptions::new()
            .len(len as usize)
            .no_reserve_swap()
            .map_anon()?;
        Ok(Self { memory })
    }

    /// Memory of which one page in `every` is touched, and holds no zero byte.
    pub fn touched(len: u64, every: usize) -> Result<Self> {
        let mut guest = Self::untouched(len)?;
        let mut random = Random(1);
        for page in guest.memory.chunks_exact_mut(PAGE as usize).step_by(every) {
            for word in page.chunks_exact_mut(8) {
                word.copy_from_slice(&(random.next() | 0x0101_0101_0101_0101).to_le_bytes());
            }
        }
        Ok(guest)
    }

    /// Memory with these bytes, all of it touched.
    pub fn of(bytes: &[u8]) -> Result<Self> {
        let mut guest = Self::untouched(bytes.len() as u64)?;
        guest.memory.copy_from_slice(bytes);
        Ok(guest)
    }

    /// The bytes, for plain means and for peers.
    pub fn bytes(&self) -> &[u8] {
        &self.memory
    }

    /// The bytes, to be overwritten by plain means.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory
    }

    /// As coldframe sees it, for captures, which only read.
    pub fn ram(&self) -> RawRam<'_> {
        self.lend(self.memory.as_ptr().cast_mut())
    }

    /// As coldframe sees it, for restores.
    pub fn ram_mut(&mut self) -> RawRam<'_> {
        let host = self.memory.as_mut_ptr();
        self.lend(host)
    }

    fn lend(&self, host: *mut u8) -> RawRam<'_> {
        let len = ByteLen::new(self.memory.len() as u64);
        let region = GuestRegion::new(GuestAddr::new(0), len).expect("a guest is not empty");
        // SAFETY: mapped readable and writable for as long as `self` is borrowed; one region, so
        // none overlaps. `ram` is handed to captures only, which never write, so that shared
        // borrows beside it do no harm; `ram_mut` has borrowed the memory for itself alone.
        unsafe { RawRam::new(vec![RamRegion::new(region, host)]) }
    }
}

/// Reads the first byte of restored memory.
pub fn first_byte(ram: &MappedRam) -> u8 {
    // SAFETY: a `MappedRam` is mapped readable while it lives, and is not empty.
    unsafe { ram.host().read_volatile() }
}

/// What all captures are told.
pub fn spec() -> CaptureSpec {
    CaptureSpec {
        arch: Arch::X86_64,
        page_size: PageSize::SIZE_4K,
        producer: Producer::new("coldframe-bench", "0").expect("a short name"),
        merge: MergeBudget::NONE,
    }
}

/// Pseudo-random numbers, the same in every run (Marsaglia, xorshift64).
pub struct Random(pub u64);

impl Random {
    /// The next one.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
