//! The guest-memory file: full and diff, extents, explicit zeros, block hashes.
//!
//! For people who freeze guest memory, and for tools that look into a frozen one. A Full file
//! holds all of RAM so that one mapping restores it; a Diff holds the pages that changed, and says
//! apart from them which became zero. Tables are read straight from the bytes of the file, and
//! opening costs the same whatever the size of RAM.
//!
//! ```
//! use coldframe_envelope::{Limits, Producer};
//! use coldframe_memfile::{MemFile, MemFileBuilder};
//! use coldframe_units::{Arch, ByteLen, PageIndex, PageRun, PageSize, RamLayout, RootHash};
//!
//! let layout = RamLayout::contiguous(ByteLen::new(1 << 20))?;
//! let (by, parent) = (Producer::new("example", "1.0")?, RootHash::from_bytes([7; 32]));
//! let mut diff = MemFileBuilder::diff(Arch::X86_64, PageSize::SIZE_4K, &layout, by, parent)?;
//! diff.push_zero(PageRun::new(PageIndex::new(3), 2).expect("not empty"))?;
//! let file = diff.finish([])?;
//!
//! let (at, limits) = (file.tail_offset, Limits::MEMORY_FILE);
//! let view = MemFile::from_parts(&file.header, &file.tail, at, limits)?;
//! assert!(view.extents()?.find(PageIndex::new(4)).is_some_and(|extent| extent.is_zero()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What it does not do: no I/O, no guest memory, no chains; those are coldframe-mem's and
//! coldframe-snapshot's. Spec: `specs/memfile.md`.
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

mod absent;
mod blocks;
mod decode;
mod encode;
mod error;
mod extent;
mod extents;
mod layout;
mod plan;
mod sections;
mod skeleton;

pub use absent::AbsentPart;
pub use blocks::{BlockRow, Blocks};
pub use decode::{MemFile, head_ranges, table_range, tail_range};
pub use encode::{Encoded, MemFileBuilder};
pub use error::BuildError;
pub use extent::{Content, Extent, Kind};
pub use extents::Extents;
pub use layout::{FORMAT, FULL_DATA_OFFSET, LAYOUTS, PAGE_SIZE_MAX, ROWS_PER_HASH};
pub use plan::{BlockPlan, BlockPlans, Piece};
