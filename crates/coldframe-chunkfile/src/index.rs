//! Chunk indexes: what each 64 KiB block of an image is.

mod decode;
mod encode;
mod page;
mod part;

pub use decode::{Index, PageRef};
pub use encode::{EncodedIndex, IndexBuilder};
pub use page::{IndexPage, IndexRow};
pub use part::{PartRow, PartSource};

use core::fmt;

use coldframe_envelope::{Format, Limits};
use coldframe_units::{BLOCK_BYTES, ByteLen, ChunkId, RootHash};

use crate::layout::{BASE, IMAG, PAGE, PART, PRNT, ROWS};
use crate::parts::Shape;

/// The format as it is written: version 1.0, or 1.1 with blocks that are made of parts; plain
/// bodies.
pub const INDEX_FORMAT: Format = Format::new(*b"CIDX", 1, 0);

/// The format with blocks that are made of parts.
const WITH_PARTS: Format = Format::new(*b"CIDX", 1, 1);

/// The pages that parts are made of, in bytes.
const PART_PAGE_BYTES: u64 = 4096;

/// Rows under one hash: a block is found without reading the others.
pub const ROWS_PER_PAGE: usize = 1024;

/// The largest image, in bytes.
pub const IMAGE_BYTES_MAX: u64 = 1 << 60;

/// For indexes: 16 sections, tables of 256 MiB (the rows are read page by page), files of 64 TiB.
pub const INDEX_LIMITS: Limits = Limits {
    sections_max: 16,
    section_bytes_max: 256 << 20,
    file_bytes_max: 64 << 40,
};

const SHAPE: Shape = Shape {
    format: INDEX_FORMAT,
    front: ROWS,
    tail: &[IMAG, PRNT, BASE, PAGE, PART],
};

const SHAPE_WITH_PARTS: Shape = Shape {
    format: WITH_PARTS,
    ..SHAPE
};

/// What a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Entry {
    /// The bytes of this chunk.
    Chunk(ChunkId),
    /// All zero, whatever the origin has there.
    Zero,
    /// What the origin has there.
    Inherit,
    /// Pages that come from several places: see [`Index::parts_of`].
    Parts,
}

/// The identity of a base image, by which a changed one is recognised: 32 bytes that the importer
/// makes of what names its content. Compared, never interpreted.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct BaseId([u8; 32]);

impl BaseId {
    /// From its bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for BaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BaseId({self})")
    }
}

/// Where blocks come from that the index itself does not name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexOrigin {
    /// Nowhere: the index names every block.
    None,
    /// Another index.
    Parent {
        /// Its root.
        root: RootHash,
        /// The length of its image.
        size: ByteLen,
    },
    /// A flat image, from which blocks are taken when they are first read.
    Base {
        /// Which.
        id: BaseId,
        /// Its length.
        size: ByteLen,
    },
}

impl IndexOrigin {
    /// The length of the image that blocks are inherited from, in bytes.
    const fn size(&self) -> Option<u64> {
        match self {
            Self::None => None,
            Self::Parent { size, .. } | Self::Base { size, .. } => Some(size.get()),
        }
    }
}

/// What image the rows are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Geometry {
    size: u64,
    origin_size: Option<u64>,
}

impl Geometry {
    /// Blocks in the image, the last perhaps shorter.
    fn blocks(&self) -> u64 {
        self.size.div_ceil(BLOCK_BYTES)
    }

    /// The first block from which on all have a row: what the origin lacks, or has at another
    /// length, cannot be inherited.
    fn explicit_from(&self) -> u64 {
        match self.origin_size {
            None => 0,
            Some(size) if size == self.size => self.blocks(),
            Some(size) => size.min(self.size) >> BLOCK_BYTES.trailing_zeros(),
        }
    }
}
