//! Boot structures of aarch64: one table of translations at 0x9000, which the payloads switch on.

use vm_memory::{GuestMemoryBackend, GuestMemoryRegion};

use super::write_words;
use crate::config::Entry;
use crate::error::MiniVmError;
use crate::load::LoadError;
use crate::memory::Ram;

/// EM_AARCH64: the machine of the ELF images that can be run.
pub(crate) const ELF_MACHINE: u16 = 183;
/// The table of translations.
const TABLE: u64 = 0x9000;
/// How many GiB it maps: 39 bits of addresses.
const GIB: u64 = 512;
/// A block of 1 GiB that was accessed (Arm DDI 0487, D8.3).
const BLOCK: u64 = 0x401;
/// Inner shareable, attributes 0.
const MEMORY: u64 = BLOCK | 0x300;
/// Attributes 1, never executed.
const DEVICE: u64 = BLOCK | 1 << 2 | 3 << 53;

/// What a payload of ours finds: a table that maps each GiB to itself, as memory where RAM is.
pub(crate) fn for_workload(ram: &Ram) -> Result<(), MiniVmError> {
    let block = |gib: u64| {
        let start = gib << 30;
        let mut regions = ram.iter();
        let is_ram = regions.any(|region| {
            let from = region.start_addr().0;
            from < start + (1 << 30) && start < from + region.len()
        });
        start | if is_ram { MEMORY } else { DEVICE }
    };
    let blocks: Vec<u64> = (0..GIB).map(block).collect();
    write_words(ram, TABLE, &blocks)
}

/// What a program finds: nothing but itself.
pub(crate) fn for_program(_ram: &Ram, entry: Entry) -> Result<(), MiniVmError> {
    match entry {
        Entry::El1 => Ok(()),
        Entry::Real | Entry::Protected | Entry::Long => {
            Err(MiniVmError::Load(LoadError::NoSuchEntry))
        }
    }
}
