//! Page sizes, addresses, lengths and ids: the words that all coldframe crates speak.
//!
//! For people who write VMMs and snapshot tools. Every integer that means something is a type of
//! its own with a private field, so a page index cannot be passed for a byte offset, and values
//! that make no sense (a page size of 0 or 3000, an empty run, overlapping RAM regions) cannot be
//! built.
//!
//! ```
//! use coldframe_units::{ByteLen, GuestAddr, GuestRegion, PageSize, RamLayout, RamOffset};
//!
//! let page = PageSize::SIZE_4K;
//! assert_eq!(page.page_of(RamOffset::new(0x2fff)).get(), 2);
//! assert!(PageSize::new(3000).is_err());
//!
//! // Two regions with the usual x86 hole below 4 GiB, seen as one run of RAM offsets.
//! let layout = RamLayout::new(vec![
//!     GuestRegion::new(GuestAddr::new(0), ByteLen::new(0xc000_0000))?,
//!     GuestRegion::new(GuestAddr::new(0x1_0000_0000), ByteLen::new(0x1000_0000))?,
//! ])?;
//! let offset = layout.ram_offset(GuestAddr::new(0x1_0000_1000)).expect("mapped");
//! assert_eq!(offset, RamOffset::new(0xc000_1000));
//! # Ok::<(), coldframe_units::RamLayoutError>(())
//! ```
//!
//! What it does not do: no I/O, no allocation but for [`RamLayout`], no hashing (the ids are just
//! bytes here). Spec: `specs/conventions.md`.
#![no_std]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

#[cfg(not(target_pointer_width = "64"))]
compile_error!("coldframe supports 64-bit targets only");

extern crate alloc;

mod arch;
mod id;
mod layout;
mod page;
mod scalar;

pub use arch::Arch;
pub use id::{ChunkId, GenerationId, ParseIdError, RootHash, SnapshotId};
pub use layout::{GuestRegion, RamLayout, RamLayoutError};
pub use page::{PageIndex, PageRun, PageSize, PageSizeError};
pub use scalar::{ByteLen, FileOffset, GuestAddr, RamOffset};

/// Bytes in one hash block: the unit of verification and of content addressing (64 KiB).
pub const BLOCK_BYTES: u64 = 64 * 1024;
