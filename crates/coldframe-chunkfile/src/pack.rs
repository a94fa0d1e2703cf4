//! Packs: many chunks in one file, and at its end where each lies.

mod decode;
mod encode;

pub use decode::{Pack, PackedChunk};
pub use encode::{EncodedPack, PackBuilder};

use coldframe_envelope::{Format, Limits};

use crate::layout::{BODY, CHNK};
use crate::parts::Shape;

/// The format as it is written: version 1.0, plain bodies.
pub const PACK_FORMAT: Format = Format::new(*b"PACK", 1, 0);

/// The longest chunk, in bytes, before compression.
pub const CHUNK_BYTES_MAX: u32 = 2 << 20;

/// The most chunks in a pack.
pub const CHUNK_COUNT_MAX: u32 = 1 << 17;

/// For packs: 16 sections, tables of 8 MiB, files of 4 GiB.
pub const PACK_LIMITS: Limits = Limits {
    sections_max: 16,
    section_bytes_max: 8 << 20,
    file_bytes_max: 4 << 30,
};

const SHAPE: Shape = Shape {
    format: PACK_FORMAT,
    front: BODY,
    tail: &[CHNK],
};

/// How a chunk is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Compression {
    /// As it is.
    None,
    /// One block of LZ4, without a frame.
    Lz4,
    /// One frame of Zstandard (RFC 8878).
    Zstd,
}

impl Compression {
    const fn code(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Lz4 => 1,
            Self::Zstd => 2,
        }
    }

    const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::None),
            1 => Some(Self::Lz4),
            2 => Some(Self::Zstd),
            _ => None,
        }
    }

    /// Whether a chunk of `raw_len` bytes may be stored so in `stored_len`.
    const fn allows(self, raw_len: u32, stored_len: u32) -> bool {
        let sound = raw_len > 0 && raw_len <= CHUNK_BYTES_MAX && stored_len > 0;
        match self {
            Self::None => sound && stored_len == raw_len,
            Self::Lz4 | Self::Zstd => sound && stored_len < raw_len,
        }
    }
}
