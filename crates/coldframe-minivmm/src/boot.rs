//! What the guest finds in low memory before its first instruction, laid out as Firecracker does:
//! GDT at 0x500, boot parameters at 0x7000, stack below 0x8ff0, page tables from 0x9000.
//!
//! Invariant: all of it lies below [`END`], where no program may be placed.

use coldframe_units::GuestAddr;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

use crate::error::MiniVmError;
use crate::memory::Ram;

/// The GDT: null, code, data, task.
pub(crate) const GDT: u64 = 0x500;
/// An empty interrupt descriptor table.
pub(crate) const IDT: u64 = 0x520;
/// The boot parameters ("zero page") of the Linux 64-bit boot protocol.
pub(crate) const BOOT_PARAMS: u64 = 0x7000;
/// The first stack pointer.
pub(crate) const STACK: u64 = 0x8ff0;
/// The top page table.
pub(crate) const PML4: u64 = 0x9000;
/// The one below it.
const PDPT: u64 = 0xa000;
/// The first of the page directories, one for each GiB.
const PD: u64 = 0xb000;
/// Where the boot structures of a machine with one page directory end.
pub(crate) const END: u64 = 0xc000;
/// The most page directories: they end below 0x9f000.
const PD_MAX: u64 = 148;

/// Present and writable.
const TABLE: u64 = 0x3;
/// Present, writable, and a 2 MiB page.
const PAGE_2M: u64 = 0x83;

/// The descriptors; see [`GDT`]. Code is 64-bit.
pub(crate) const GDT_LONG: [u64; 4] = [
    0,
    0x00af_9b00_0000_ffff,
    0x00cf_9300_0000_ffff,
    0x008f_8b00_0000_ffff,
];
/// The same with 32-bit code.
pub(crate) const GDT_PROTECTED: [u64; 4] = [
    0,
    0x00cf_9b00_0000_ffff,
    0x00cf_9300_0000_ffff,
    0x008f_8b00_0000_ffff,
];

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

/// The GDT, and an empty IDT.
pub(crate) fn write_gdt(ram: &Ram, gdt: &[u64; 4]) -> Result<(), MiniVmError> {
    write_words(ram, GDT, gdt)?;
    write_words(ram, IDT, &[0])
}

/// Page tables that map the first `gib` GiB to themselves, in pages of 2 MiB.
pub(crate) fn write_page_tables(ram: &Ram, gib: u64) -> Result<(), MiniVmError> {
    let gib = gib.min(PD_MAX);
    write_words(ram, PML4, &[PDPT | TABLE])?;
    let directories: Vec<u64> = (0..gib).map(|i| (PD + (i << 12)) | TABLE).collect();
    write_words(ram, PDPT, &directories)?;
    let pages: Vec<u64> = (0..gib * 512).map(|i| (i << 21) | PAGE_2M).collect();
    write_words(ram, PD, &pages)
}

/// How many GiB cover all RAM and the local APIC.
pub(crate) fn gib_for_all(ram: &Ram) -> u64 {
    ram.last_addr().0.div_ceil(1 << 30).max(4)
}

/// Boot parameters with the memory map alone: RAM below 0x9fc00, and from 1 MiB up.
///
/// Offsets from the kernel's `Documentation/arch/x86/zero-page.rst`.
pub(crate) fn write_boot_params(ram: &Ram) -> Result<(), MiniVmError> {
    let mut entries = vec![(0, 0x9_fc00)];
    for region in ram.iter() {
        let (start, end) = (region.start_addr().0, region.start_addr().0 + region.len());
        let start = start.max(0x10_0000);
        if end > start {
            entries.push((start, end - start));
        }
    }
    for (index, (addr, len)) in (0u64..).zip(&entries) {
        let at = BOOT_PARAMS + 0x2d0 + index * 20;
        write_words(ram, at, &[*addr, *len])?;
        write_bytes(ram, at + 16, &1u32.to_le_bytes())?;
    }
    let count = u8::try_from(entries.len()).unwrap_or(u8::MAX);
    write_bytes(ram, BOOT_PARAMS + 0x1e8, &[count])?;
    write_bytes(ram, BOOT_PARAMS + 0x1fe, &0xaa55u16.to_le_bytes())?;
    write_bytes(ram, BOOT_PARAMS + 0x202, b"HdrS")?;
    write_bytes(ram, BOOT_PARAMS + 0x210, &[0xff])
}
