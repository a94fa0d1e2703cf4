//! Puts a program into guest RAM, with the boot structures that it expects.
//!
//! Invariant: a program never overlaps the boot structures it is entered with, and never reaches
//! outside RAM; memory that the file leaves zero is not touched.

use coldframe_units::{ByteLen, GuestAddr};
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

use crate::boot;
use crate::config::{Entry, Program};
use crate::elf::{self, ElfError};
use crate::error::MiniVmError;
use crate::memory::Ram;
use crate::payload;

/// Why a program cannot be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file has no bytes.
    #[error("the program is empty")]
    Empty,
    /// The program does not fit into RAM at this place.
    #[error("{len} bytes at {addr} do not lie within one region of RAM")]
    OutsideRam {
        /// Where it should go.
        addr: GuestAddr,
        /// Its length in memory.
        len: ByteLen,
    },
    /// The program would overwrite what it is entered with.
    #[error("{len} bytes at {addr} overlap the boot structures below {end}")]
    OverlapsBoot {
        /// Where it should go.
        addr: GuestAddr,
        /// Its length in memory.
        len: ByteLen,
        /// Where the boot structures end.
        end: GuestAddr,
    },
    /// Real mode reaches only the first MiB, protected mode only the first 4 GiB, and paging at
    /// entry only the first GiB.
    #[error("a program at {addr} cannot be entered in this mode, which reaches {reach} bytes")]
    OutOfReach {
        /// Where it should go.
        addr: GuestAddr,
        /// How far the mode reaches.
        reach: ByteLen,
    },
    /// The mode is another architecture's.
    #[error("this host's architecture has no such mode of entry")]
    NoSuchEntry,
    /// Two segments of an image overlap.
    #[error("the image has overlapping segments at {addr}")]
    OverlappingSegments {
        /// Where the second begins.
        addr: GuestAddr,
    },
    /// The file is no image that can be loaded.
    #[error("the file cannot be read as an ELF image")]
    Elf(#[source] ElfError),
}

/// Where and how a loaded program is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    /// The mode.
    pub(crate) entry: Entry,
    /// The first instruction.
    pub(crate) addr: u64,
}

/// Loads `program` and its boot structures into `ram`.
pub(crate) fn load(ram: &Ram, program: &Program) -> Result<Start, MiniVmError> {
    match program {
        Program::Workload(workload, parameters) => {
            let (image, offset) = payload::image(*workload).ok_or(MiniVmError::NoPayloads)?;
            boot::for_workload(ram)?;
            boot::write_words(ram, payload::PARAMETERS, &parameters.words())?;
            boot::write_bytes(ram, payload::IMAGE, image)?;
            Ok(Start {
                entry: Entry::NATIVE,
                addr: payload::IMAGE + offset,
            })
        }
        Program::Flat {
            bytes,
            load_at,
            entry,
        } => load_flat(ram, bytes, load_at.get(), *entry),
        Program::Elf { bytes } => load_elf(ram, bytes),
    }
}

/// Places a flat binary.
fn load_flat(ram: &Ram, bytes: &[u8], addr: u64, entry: Entry) -> Result<Start, MiniVmError> {
    let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    if len == 0 {
        return Err(MiniVmError::Load(LoadError::Empty));
    }
    let (reach, below) = match entry {
        Entry::Real => (1 << 20, 0),
        Entry::Protected => (1 << 32, boot::END),
        Entry::Long => (1 << 30, boot::END),
        Entry::El1 => (u64::MAX, boot::END),
    };
    check_place(ram, addr, len, below).map_err(MiniVmError::Load)?;
    if addr >= reach {
        return Err(MiniVmError::Load(LoadError::OutOfReach {
            addr: GuestAddr::new(addr),
            reach: ByteLen::new(reach),
        }));
    }
    boot::for_program(ram, entry)?;
    boot::write_bytes(ram, addr, bytes)?;
    Ok(Start { entry, addr })
}

/// Places the segments of an ELF image.
fn load_elf(ram: &Ram, bytes: &[u8]) -> Result<Start, MiniVmError> {
    let image = elf::decode(bytes).map_err(|e| MiniVmError::Load(LoadError::Elf(e)))?;
    for (index, segment) in image.segments.iter().enumerate() {
        check_place(ram, segment.addr, segment.memory_len, boot::END).map_err(MiniVmError::Load)?;
        let overlaps = image.segments[..index].iter().any(|earlier| {
            segment.addr < earlier.addr + earlier.memory_len
                && earlier.addr < segment.addr + segment.memory_len
        });
        if overlaps {
            let addr = GuestAddr::new(segment.addr);
            return Err(MiniVmError::Load(LoadError::OverlappingSegments { addr }));
        }
    }
    if Entry::NATIVE == Entry::Long && image.entry >= 1 << 30 {
        return Err(MiniVmError::Load(LoadError::OutOfReach {
            addr: GuestAddr::new(image.entry),
            reach: ByteLen::new(1 << 30),
        }));
    }
    boot::for_program(ram, Entry::NATIVE)?;
    for segment in &image.segments {
        let file = bytes.get(segment.file.clone()).unwrap_or_default();
        boot::write_bytes(ram, segment.addr, file)?;
    }
    Ok(Start {
        entry: Entry::NATIVE,
        addr: image.entry,
    })
}

/// Whether `len` bytes at `addr` lie within one region, and above `below`.
fn check_place(ram: &Ram, addr: u64, len: u64, below: u64) -> Result<(), LoadError> {
    let (at, size) = (GuestAddr::new(addr), ByteLen::new(len));
    if addr < below {
        return Err(LoadError::OverlapsBoot {
            addr: at,
            len: size,
            end: GuestAddr::new(below),
        });
    }
    let fits = ram.find_region(GuestAddress(addr)).is_some_and(|region| {
        let room = region.start_addr().0 + region.len() - addr;
        len <= room
    });
    if fits {
        Ok(())
    } else {
        Err(LoadError::OutsideRam {
            addr: at,
            len: size,
        })
    }
}
