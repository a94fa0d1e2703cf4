//! What the guest finds in low memory before its first instruction.
//!
//! Invariant: all of it lies below [`END`], where no program may be placed.

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(not(target_arch = "aarch64"))]
mod x86_64;

use coldframe_units::GuestAddr;
use vm_memory::{Bytes, GuestAddress};

use crate::error::MiniVmError;
use crate::memory::Ram;

#[cfg(target_arch = "aarch64")]
pub(crate) use aarch64::{ELF_MACHINE, for_program, for_workload};
#[cfg(not(target_arch = "aarch64"))]
pub(crate) use x86_64::{BOOT_PARAMS, ELF_MACHINE, GDT, IDT, PML4, for_program, for_workload};

/// The first stack pointer.
pub(crate) const STACK: u64 = 0x8ff0;
/// Where the boot structures of a machine with one page directory end.
pub(crate) const END: u64 = 0xc000;

/// Writes `words` little-endian from `addr` on.
pub(crate) fn write_words(ram: &Ram, addr: u64, words: &[u64]) -> Result<(), MiniVmError> {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    write_bytes(ram, addr, &bytes)
}

/// Writes `bytes` from `addr` on.
pub(crate) fn write_bytes(ram: &Ram, addr: u64, bytes: &[u8]) -> Result<(), MiniVmError> {
    ram.write_slice(bytes, GuestAddress(addr))
        .map_err(|source| MiniVmError::AccessRam {
            addr: GuestAddr::new(addr),
            source,
        })
}
