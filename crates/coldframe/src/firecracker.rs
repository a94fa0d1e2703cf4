//! Firecracker's state file: checked by its CRC and its magic, then kept whole.
//!
//! Layout (Firecracker, `src/vmm/src/snapshot`): a body that holds magic, version and microVM
//! state, then its CRC-64 as eight little-endian bytes. The CRC over body and trailer together is
//! zero, as it is for a file of zeros, so that the magic is checked too. Its codec moves the
//! magic off the first byte: it is looked for near the start.

use coldframe_units::{Arch, ByteLen, GuestAddr, GuestRegion, RamLayout, RamLayoutError};
use crc::{CRC_64_REDIS, Crc};

/// CRC-64 with the polynomial of Jones, reflected, no initial value: what Firecracker writes.
const CRC: Crc<u64> = Crc::<u64>::new(&CRC_64_REDIS);

/// Firecracker refuses longer states.
pub const STATE_BYTES_MAX: u64 = 10_000_000;

/// How far into the file the magic may begin, in bytes.
const MAGIC_BEGINS_MAX: usize = 16;

/// Why a file is not a sound Firecracker state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Too short to hold anything but a CRC, or longer than Firecracker takes.
    #[error("a Firecracker state has 9 to {STATE_BYTES_MAX} bytes, this file has {len}")]
    Length {
        /// Bytes in the file.
        len: usize,
    },
    /// The magic is not where it belongs.
    #[error("no Firecracker magic in the first {MAGIC_BEGINS_MAX} bytes")]
    NoMagic,
    /// The CRC does not match: the file is damaged.
    #[error("the CRC at offset {offset:#x} does not match the {offset} bytes before it")]
    Crc {
        /// Where the trailer begins.
        offset: usize,
    },
}

/// Checks a state file and says for which architecture it is.
pub fn check_state(file: &[u8]) -> Result<Arch, StateError> {
    let len = file.len();
    if len <= 8 || len as u64 > STATE_BYTES_MAX {
        return Err(StateError::Length { len });
    }
    let start = &file[..len.min(MAGIC_BEGINS_MAX + 8)];
    let arch = start
        .windows(8)
        .find_map(|window| match window {
            [0, 0, 0x64, 0x86, 0x84, 0x19, 0x10, 0x07] => Some(Arch::X86_64),
            [0, 0, 0xaa, 0xaa, 0x84, 0x19, 0x10, 0x07] => Some(Arch::Aarch64),
            _ => None,
        })
        .ok_or(StateError::NoMagic)?;
    if CRC.checksum(file) != 0 {
        return Err(StateError::Crc { offset: len - 8 });
    }
    Ok(arch)
}

/// Where Firecracker puts this much memory (`src/vmm/src/arch`): from 0 up to the MMIO hole that
/// ends at 4 GiB on x86_64, from 2 GiB on on aarch64. The dump holds the regions back to back.
pub fn ram_layout(arch: Arch, len: ByteLen) -> Result<RamLayout, RamLayoutError> {
    const GIB: u64 = 1 << 30;
    let region = |addr, len| GuestRegion::new(GuestAddr::new(addr), ByteLen::new(len));
    let len = len.get();
    match arch {
        Arch::X86_64 if len > 3 * GIB => {
            RamLayout::new(vec![region(0, 3 * GIB)?, region(4 * GIB, len - 3 * GIB)?])
        }
        Arch::Aarch64 => RamLayout::new(vec![region(2 * GIB, len)?]),
        _ => RamLayout::contiguous(ByteLen::new(len)),
    }
}

#[cfg(test)]
mod tests;
