//! Lock-free dirty-page tracking with tokens that lose nothing on failure.
//!
//! For VMMs that take incremental snapshots. A [`DirtyBitmap`] has one bit for each page of guest
//! RAM; any thread marks it, a capture takes the marks away as a [`DirtyToken`] and either commits
//! them, once the snapshot is safe, or puts them back. An early return puts them back too.
//!
//! ```
//! use coldframe_dirty::DirtyBitmap;
//! use coldframe_units::{ByteLen, PageIndex, PageSize, RamOffset};
//!
//! let dirty = DirtyBitmap::new(ByteLen::new(1 << 20), PageSize::SIZE_4K)?;
//! dirty.mark(RamOffset::new(0x1ffe), ByteLen::new(4))?; // touches pages 1 and 2
//! let token = dirty.take();
//! dirty.mark_page(PageIndex::new(9))?; // the guest runs on
//! assert_eq!(token.pages().count(), 2);
//! token.rollback(); // the capture failed
//! assert_eq!(dirty.count(), 3);
//! # Ok::<(), coldframe_dirty::DirtyError>(())
//! ```
//!
//! [`DirtyPages`] is a plain set of pages, what a capture reads. [`AdaptiveBitmap`] tracks write
//! faults by blocks of 2 MiB and goes down to pages where a block is hot. With the feature
//! `vm-memory`, `RegionDirty` lets device writes through vm-memory mark the same bitmap.
//!
//! What it does not do: it reads no dirty log and protects no memory (the hypervisor adapters do),
//! and it keeps nothing on disk, so it has no format page.
#![cfg_attr(not(loom), no_std)]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

#[cfg(not(target_pointer_width = "64"))]
compile_error!("coldframe supports 64-bit targets only");

extern crate alloc;

mod adaptive;
mod bitmap;
mod error;
mod geometry;
mod pages;
#[cfg(feature = "vm-memory")]
mod region;
mod sync;
mod token;
mod words;

pub use adaptive::{AdaptiveBitmap, BLOCK_SIZE};
pub use bitmap::DirtyBitmap;
pub use error::DirtyError;
pub use geometry::PAGES_MAX;
pub use pages::DirtyPages;
#[cfg(feature = "vm-memory")]
pub use region::RegionDirty;
pub use token::DirtyToken;
