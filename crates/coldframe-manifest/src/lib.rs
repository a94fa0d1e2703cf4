//! The snapshot manifest: identity, parent, and the roots of the other files.
//!
//! For tools that must know what a snapshot is without opening its memory: its id, what it stands
//! on, when and where it was made, how RAM lies, and the 32-byte roots of state and memory. A child
//! names its parent by the root of the parent's manifest, so a chain hangs from one value.
//!
//! ```
//! use coldframe_envelope::Producer;
//! use coldframe_manifest::{FileRef, Manifest, SnapshotKind, Timestamp};
//! use coldframe_units::{ByteLen, PageSize, RamLayout, RootHash, SnapshotId};
//!
//! let manifest = Manifest {
//!     producer: Producer::new("my-vmm", "1.0")?,
//!     arch: None,
//!     id: SnapshotId::from_bytes([7; 16]),
//!     kind: SnapshotKind::Full,
//!     parent_name: None,
//!     created: Timestamp { seconds: 1_767_225_600, nanos: 0 },
//!     ram: RamLayout::contiguous(ByteLen::new(256 << 20))?,
//!     page_size: PageSize::SIZE_4K,
//!     memory: FileRef { len: ByteLen::new(258 << 20), root: RootHash::from_bytes([1; 32]) },
//!     state: None,
//!     host: None,
//!     disks: Vec::new(),
//!     labels: [("owner".into(), "build farm".into())].into(),
//! };
//! let (file, root) = manifest.encode()?;
//! assert_eq!(Manifest::decode(&file)?, (manifest, root));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What it does not do: no I/O, no clock, no ids of its own making, no look into the files that it
//! names. [`ChildNote`] says that a child was made in another directory.
//! Specs: `specs/manifest.md`, `specs/catalog.md`.
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

mod child;
mod decode;
mod encode;
mod host;
mod layout;
mod manifest;

pub use child::{CHILD_FORMAT, CHILD_PATH_BYTES_MAX, ChildNote, PATH, PRNT};
pub use host::HostSummary;
pub use layout::{
    DISK, DISK_COUNT_MAX, DISK_NAME_BYTES_MAX, FILE, FILE_MEMORY, FILE_STATE, FORMAT, HOST, IDNT,
    LABEL_COUNT_MAX, LABEL_KEY_BYTES_MAX, LABEL_VALUE_BYTES_MAX, LABL, LAYOUTS, LIMITS,
    PARENT_NAME_BYTES_MAX, PNAM, RAML, REGION_COUNT_MAX,
};
pub use manifest::{Disk, FileRef, Manifest, Parent, SnapshotKind, Timestamp};
