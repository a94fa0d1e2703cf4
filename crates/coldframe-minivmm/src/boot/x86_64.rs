//! Boot structures of x86_64, laid out as Firecracker does: GDT at 0x500, boot parameters at
//! 0x7000, stack below 0x8ff0, page tables from 0x9000.

use vm_memory::{GuestMemoryBackend, GuestMemoryRegion};

use super::{write_bytes, write_words};
use crate::config::Entry;
use crate::error::MiniVmError;
use crate::load::LoadError;
use crate::memory::Ram;

/// EM_X86_64: the machine of the ELF images that can be run.
pub(crate) const ELF_MACHINE: u16 = 62;
/// The GDT: null, code, data, task.
pub(crate) const GDT: u64 = 0x500;
/// An empty interrupt descriptor table.
pub(crate) const IDT: u64 = 0x520;
/// The boot parameters ("zero page") of the Linux 64-bit boot protocol.
pub(crate) const BOOT_PARAMS: u64 = 0x7000;
/// The top page table.
pub(crate) const PML4: u64 = 0x9000;
/// The one below it.
const PDPT: u64 = 0xa000;
/// The first of the page directories, one for each GiB.
const PD: u64 = 0xb000;
/// The most page directories: they end below 0x9f000.
const PD_MAX: u64 = 148;

/// Present and writable.
const TABLE: u64 = 0x3;
/// Present, writable, and a 2 MiB page.
const PAGE_2M: u64 = 0x83;

/// The descriptors; see [`GDT`]. Code is 64-bit.
const GDT_LONG: [u64; 4] = [
    0,
    0x00af_9b00_0000_ffff,
    0x00cf_9300_0000_ffff,
    0x008f_8b00_0000_ffff,
];
/// The same with 32-bit code.
const GDT_PROTECTED: [u64; 4] = [
    0,
    0x00cf_9b00_0000_ffff,
    0x00cf_9300_0000_ffff,
    0x008f_8b00_0000_ffff,
];

/// What a payload of ours finds: long mode, all of RAM and the devices' addresses mapped.
pub(crate) fn for_workload(ram: &Ram) -> Result<(), MiniVmError> {
    write_gdt(ram, &GDT_LONG)?;
    write_page_tables(ram, gib_for_all(ram))
}

/// What a program finds that is entered in this mode.
pub(crate) fn for_program(ram: &Ram, entry: Entry) -> Result<(), MiniVmError> {
    match entry {
        Entry::Real => Ok(()),
        Entry::Protected => write_gdt(ram, &GDT_PROTECTED),
        Entry::Long => {
            write_gdt(ram, &GDT_LONG)?;
            write_page_tables(ram, 1)?;
            write_boot_params(ram)
        }
        Entry::El1 => Err(MiniVmError::Load(LoadError::NoSuchEntry)),
    }
}

/// The GDT, and an empty IDT.
fn write_gdt(ram: &Ram, gdt: &[u64; 4]) -> Result<(), MiniVmError> {
    write_words(ram, GDT, gdt)?;
    write_words(ram, IDT, &[0])
}

/// Page tables that map the first `gib` GiB to themselves, in pages of 2 MiB.
fn write_page_tables(ram: &Ram, gib: u64) -> Result<(), MiniVmError> {
    let gib = gib.min(PD_MAX);
    write_words(ram, PML4, &[PDPT | TABLE])?;
    let directories: Vec<u64> = (0..gib).map(|i| (PD + (i << 12)) | TABLE).collect();
    write_words(ram, PDPT, &directories)?;
    let pages: Vec<u64> = (0..gib * 512).map(|i| (i << 21) | PAGE_2M).collect();
    write_words(ram, PD, &pages)
}

/// How many GiB cover all RAM and the local APIC.
fn gib_for_all(ram: &Ram) -> u64 {
    ram.last_addr().0.div_ceil(1 << 30).max(4)
}

/// Boot parameters with the memory map alone: RAM below 0x9fc00, and from 1 MiB up.
///
/// Offsets from the kernel's `Documentation/arch/x86/zero-page.rst`.
fn write_boot_params(ram: &Ram) -> Result<(), MiniVmError> {
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
