//! Packs of content-addressed chunks, chunk indexes of disks and memory, and tags.
//!
//! For people who store disks and snapshots by content. A *pack* holds many chunks in one file,
//! each named by the BLAKE3 hash of its bytes, and says at its end where each lies. A *chunk
//! index* says of every 64 KiB block of an image which chunk it is, that it is zero, or that its
//! parent has it; one block is found by reading one page of rows. A *tag* names a root.
//!
//! ```
//! use coldframe_chunkfile::{Entry, Index, IndexBuilder, IndexOrigin, INDEX_LIMITS};
//! use coldframe_envelope::Producer;
//! use coldframe_units::{ByteLen, ChunkId};
//!
//! let (by, id) = (Producer::new("example", "1.0")?, ChunkId::from_bytes([7; 32]));
//! let mut builder = IndexBuilder::new(ByteLen::new(1 << 40), IndexOrigin::None, by)?;
//! builder.push_chunk(0, id)?;
//! builder.push_zeros(1, (1 << 24) - 1)?;
//! let file = builder.finish()?.into_file();
//!
//! let index = Index::open(&file, INDEX_LIMITS)?;
//! assert_eq!(index.read(&file, 0)?, Entry::Chunk(id));
//! assert_eq!(index.read(&file, 9999)?, Entry::Zero);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What it does not do: no I/O, no compression, no store; those are coldframe-chunks's. Specs:
//! `specs/chunk-pack.md`, `specs/chunk-index.md`, `specs/chunk-store.md`.
#![no_std]
#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![deny(
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::arithmetic_side_effects
)]

#[cfg(not(target_pointer_width = "64"))]
compile_error!("coldframe supports 64-bit targets only");

extern crate alloc;

mod error;
mod index;
mod layout;
mod ledger;
mod pack;
mod parts;
mod tag;

pub use error::BuildError;
pub use index::{
    BaseId, EncodedIndex, Entry, IMAGE_BYTES_MAX, INDEX_FORMAT, INDEX_LIMITS, Index, IndexBuilder,
    IndexOrigin, IndexPage, IndexRow, PageRef, PartRow, PartSource, ROWS_PER_PAGE,
};
pub use layout::LAYOUTS;
pub use ledger::{CondemnedFile, LEDGER_FORMAT, Ledger, Round};
pub use pack::{
    CHUNK_BYTES_MAX, CHUNK_COUNT_MAX, Compression, EncodedPack, PACK_FORMAT, PACK_LIMITS, Pack,
    PackBuilder, PackedChunk,
};
pub use tag::{DiskId, LogId, LogPlace, TAG_FORMAT, Tag, TagFile, TagKind};
