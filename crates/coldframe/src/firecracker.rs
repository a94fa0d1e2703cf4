//! Firecracker's state file: checked by its CRC and its magic, then kept whole; of what is in it
//! only the RAM layout is read.
//!
//! Layout (Firecracker, `src/vmm/src/snapshot`): a body that holds magic, format version and
//! microVM state, then its CRC-64 as eight little-endian bytes. The CRC over body and trailer
//! together is zero, as it is for a file of zeros, so that the magic is checked too. Its codec
//! moves the magic off the first byte: it is looked for near the start.

use coldframe_units::{Arch, ByteLen, RamLayout};
use crc::{CRC_64_REDIS, Crc};

mod bitcode;
mod regions;

pub use regions::{Regions, RegionsError};

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
    /// The state of a release before 1.7, whose magic has the format version in its low bits.
    #[error(
        "written by Firecracker 1.6 or older (versionize format {format}): load it with \
         Firecracker 1.6 and migrate the guest to 1.7 or later, whose snapshots are read"
    )]
    Versionize {
        /// The version in the magic.
        format: u16,
    },
    /// The CRC does not match: the file is damaged.
    #[error("the CRC at offset {offset:#x} does not match the {offset} bytes before it")]
    Crc {
        /// Where the trailer begins.
        offset: usize,
    },
}

/// A state file whose CRC holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State<'a> {
    /// The guest's architecture.
    pub arch: Arch,
    /// All from the magic's first byte on, without the CRC.
    body: &'a [u8],
    /// Whether the body is packed by bitcode, which puts a byte before the magic.
    is_bitcode: bool,
}

impl<'a> State<'a> {
    /// Checks a state file.
    pub fn check(file: &'a [u8]) -> Result<Self, StateError> {
        let len = file.len();
        if len <= 8 || len as u64 > STATE_BYTES_MAX {
            return Err(StateError::Length { len });
        }
        let start = &file[..len.min(MAGIC_BEGINS_MAX + 8)];
        let (at, format, arch) = start
            .windows(8)
            .enumerate()
            .find_map(|(at, window)| match *window {
                [low, high, 0x64, 0x86, 0x84, 0x19, 0x10, 0x07] => {
                    Some((at, u16::from_le_bytes([low, high]), Arch::X86_64))
                }
                [low, high, 0xaa, 0xaa, 0x84, 0x19, 0x10, 0x07] => {
                    Some((at, u16::from_le_bytes([low, high]), Arch::Aarch64))
                }
                _ => None,
            })
            .ok_or(StateError::NoMagic)?;
        if format != 0 {
            return Err(match at {
                0 => StateError::Versionize { format },
                _ => StateError::NoMagic,
            });
        }
        if CRC.checksum(file) != 0 {
            return Err(StateError::Crc { offset: len - 8 });
        }
        // A file may end right behind the magic.
        let body = &file[at..at.max(len - 8)];
        let is_bitcode = at == 1;
        Ok(Self {
            arch,
            body,
            is_bitcode,
        })
    }

    /// The RAM layout of the guest, whose memory file has `len` bytes.
    ///
    /// `stated` is what the user says; it is needed for versions that are not known, and must
    /// agree with the state otherwise.
    pub fn ram_layout(
        &self,
        len: ByteLen,
        stated: Option<&RamLayout>,
    ) -> Result<RamLayout, RegionsError> {
        let layout = match (
            Regions::decode(self.body, self.is_bitcode, self.arch),
            stated,
        ) {
            (Err(RegionsError::UnknownVersion { .. }), Some(stated)) => stated.clone(),
            (regions, stated) => {
                let layout = regions?.layout;
                if let Some(stated) = stated.filter(|stated| **stated != layout) {
                    return Err(RegionsError::Stated {
                        stated: regions::list(stated),
                        found: regions::list(&layout),
                    });
                }
                layout
            }
        };
        if layout.total() != len {
            return Err(RegionsError::MemoryLength {
                regions: regions::list(&layout),
                expected: layout.total(),
                found: len,
            });
        }
        Ok(layout)
    }
}

#[cfg(test)]
mod tests;
