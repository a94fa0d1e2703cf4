//! Whole snapshots of microVMs: capture, publish, chain, verify, restore.
//!
//! For people who write VMMs. A capture is three steps, each a type of its own: [`Freezer::begin`]
//! prepares files while the guest runs, [`Capture::copy`] is the pause, [`Frozen::publish`] hashes
//! and syncs while the guest runs again. A failure anywhere puts the dirty pages back and leaves
//! nothing under the final name. Thawing is the mirror: [`Snapshot::thaw`] opens and reads,
//! [`Thaw::compare`] holds the state against a host, [`Thaw::memory`] gives the guest its memory,
//! and what was accepted restores the machine.
//!
//! ```
//! use coldframe_snapshot::{DirtyTracker, Freezer, Kind, Map, Snapshot};
//! # use coldframe_dirty::DirtyBitmap;
//! # use coldframe_envelope::Producer;
//! # use coldframe_hv::DirtySource;
//! # use coldframe_testkit::hv::{FakeMachine, sample_state};
//! # use coldframe_units::{ByteLen, PageSize, RamOffset};
//! # use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
//! # struct NoGuest;
//! # impl DirtySource for NoGuest {
//! #     type Error = std::io::Error;
//! #     fn harvest(&mut self, _: &DirtyBitmap) -> std::io::Result<()> { Ok(()) }
//! # }
//! # let dir = coldframe_testkit::scratch::on_disk();
//! # let producer = Producer::new("example", "1.0")?;
//! # let memory: GuestMemoryMmap<()> =
//! #     GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 20)])?;
//! # let bitmap = DirtyBitmap::new(ByteLen::new(1 << 20), PageSize::SIZE_4K)?;
//! # let machine = FakeMachine::new(sample_state(1));
//! # let source = NoGuest;
//! let mut dirty = DirtyTracker::new(bitmap.clone(), source, None);
//! memory.write_slice(b"hello", GuestAddress(0x2000))?;
//! let capture = Freezer::new(dir.path().join("full"), producer).begin(Kind::Full)?;
//! // pause the guest here
//! let frozen = capture.copy(&memory, &mut dirty, &machine)?;
//! // resume it here
//! let full = frozen.publish()?;
//!
//! memory.write_slice(b"world", GuestAddress(0x2000))?;
//! bitmap.mark(RamOffset::new(0x2000), ByteLen::new(5))?;
//! let diff = Freezer::new(dir.path().join("diff"), producer).begin(Kind::Diff { parent: &full })?;
//! let diff = diff.copy(&memory, &mut dirty, &machine)?.publish()?;
//!
//! // Another day, in another process.
//! # let host = machine.state().host.clone();
//! # let mut machine = FakeMachine::new(sample_state(1));
//! let thaw = Snapshot::open(diff.path())?.thaw(&[])?; // chain and state are read once
//! let accepted = thaw.compare(&host).accept(&[])?; // or an error that names each difference
//! let ram = thaw.memory(Map::default())?;
//! let thawed = accepted.restore(&mut machine)?;
//! let id = thawed.generation(); // tell the guest that it is a new run, then let it run
//! # let _ = (ram, id);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Feature `store`: whole chains to and from a chunk store, in module `store`. Feature `catalog`: a
//! directory of snapshots with pins, leases and deletion, in module `catalog`.
//!
//! [`verify`] checks snapshots and goes on after a
//! damage; [`mod@derive`] makes snapshots of snapshots; [`import`] and [`export`] exchange guest
//! memory with other programs.
//!
//! What it does not do: it pauses no vCPU and calls no hypervisor (the VMM brings an adapter that
//! implements [`coldframe_hv::Machine`]), and it stores no disks. Spec: `specs/manifest.md`.
#![deny(missing_docs)]

#[cfg(not(target_pointer_width = "64"))]
compile_error!("coldframe supports 64-bit targets only");

#[cfg(feature = "catalog")]
pub mod catalog;
mod chain;
mod children;
mod convert;
pub mod derive;
mod error;
pub mod export;
mod files;
mod flight;
mod freeze;
pub mod import;
mod lease;
mod listing;
mod parent;
mod publication;
mod snapshot;
#[cfg(feature = "store")]
pub mod store;
mod thaw;
mod tracker;
pub mod verify;

pub use chain::{CHAIN_LEN_MAX, Chain};
pub use children::CHILD_NOT_NOTED;
pub use coldframe_hv::{Accepted, Comparison, DeviceState, DirtySource, Machine, Thawed};
pub use coldframe_mem::{CopyInto, FilePool, GuestRam, Map, MemoryFile, Source};
pub use error::SnapshotError;
pub use files::{MANIFEST, MEMORY, STATE, is_reserved};
pub use freeze::{Capture, Freezer, Frozen, Kind, Section};
pub use listing::{Damaged, Link, Listing, snapshots_in};
pub use parent::{AsParent, Unpublished};
pub use snapshot::{SavedState, Snapshot};
pub use thaw::Thaw;
pub use tracker::DirtyTracker;
