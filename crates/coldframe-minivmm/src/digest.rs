//! The digest of a guest at its end: what must be equal between a guest that was never stopped and
//! one that was thawed.
//!
//! Invariant: hashing RAM faults nothing in that was never touched, where absent pages are known to
//! be zero.

use std::fmt;

use coldframe_dirty::RegionDirty;
use coldframe_units::GuestAddr;
use vm_memory::{
    Bytes, GuestMemoryBackend, GuestMemoryRegion, GuestRegionMmap, MemoryRegionAddress,
};

use crate::error::MiniVmError;
use crate::memory::Ram;
use crate::presence;

/// Bytes hashed at a time, and asked for at a time whether they were ever touched.
const CHUNK: usize = 256 << 10;

/// RAM, registers and console of a guest at its end, each as the 64 hex digits of its BLAKE3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndState {
    /// All RAM, in RAM offset order.
    pub ram_blake3: String,
    /// The registers of all vCPUs, save clocks.
    pub regs_blake3: String,
    /// All that the guest printed.
    pub console_blake3: String,
}

impl EndState {
    /// From the guest's parts; `registers` is any encoding that names each value once.
    ///
    /// `fresh`: RAM was allocated empty, so that what was never touched is zero.
    pub(crate) fn of(
        ram: &Ram,
        fresh: bool,
        registers: &[u8],
        console: &[u8],
    ) -> Result<Self, MiniVmError> {
        Ok(Self {
            ram_blake3: hash_ram(ram, fresh)?.to_hex().to_string(),
            regs_blake3: blake3::hash(registers).to_hex().to_string(),
            console_blake3: blake3::hash(console).to_hex().to_string(),
        })
    }
}

impl fmt::Display for EndState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            ram_blake3,
            regs_blake3,
            console_blake3,
        } = self;
        write!(
            f,
            "ram {ram_blake3} regs {regs_blake3} console {console_blake3}"
        )
    }
}

/// BLAKE3 of all RAM.
fn hash_ram(ram: &Ram, fresh: bool) -> Result<blake3::Hash, MiniVmError> {
    let mut hasher = blake3::Hasher::new();
    let zeros = vec![0; CHUNK];
    let mut chunk = vec![0; CHUNK];
    for region in ram.iter() {
        let len = usize::try_from(region.len()).expect("a mapped length fits in a usize");
        for start in (0..len).step_by(CHUNK) {
            let range = start..len.min(start + CHUNK);
            if fresh && !presence::may_hold_data(region, &range) {
                hasher.update(&zeros[..range.len()]);
                continue;
            }
            let chunk = &mut chunk[..range.len()];
            read_chunk(region, start, chunk)?;
            hasher.update(chunk);
        }
    }
    Ok(hasher.finalize())
}

/// The bytes of `region` from `start` on.
fn read_chunk(
    region: &GuestRegionMmap<RegionDirty>,
    start: usize,
    out: &mut [u8],
) -> Result<(), MiniVmError> {
    let start = start as u64;
    region
        .read_slice(out, MemoryRegionAddress(start))
        .map_err(|source| MiniVmError::AccessRam {
            addr: GuestAddr::new(region.start_addr().0 + start),
            source,
        })
}
