//! Capture, restore, diff, merge and flatten guest memory.
//!
//! For VMMs that freeze their guests. In the pause pages are copied straight from guest memory to
//! the file and nothing else is done; memory that the guest never touched is not touched either.
//! A guest comes back by copying, or by mapping the files, which takes as long for any size.
//!
//! ```
//! use coldframe_mem::{CaptureSpec, Layers, GuestRam, MapOptions, MemoryFile, MergeBudget};
//! use coldframe_mem::{capture_full, restore_map};
//! # use coldframe_envelope::Producer;
//! # use coldframe_storage::{Overwrite, PendingFile};
//! # use coldframe_units::{Arch, PageSize};
//! fn freeze_and_thaw(ram: &dyn GuestRam) -> Result<(), Box<dyn std::error::Error>> {
//!     # let dir = coldframe_testkit::scratch::on_disk();
//!     # let path = dir.path().join("memory");
//!     # let producer = Producer::new("example", "1.0")?;
//!     # let (arch, page_size) = (Arch::X86_64, PageSize::SIZE_4K);
//!     # let spec = CaptureSpec { arch, page_size, producer, merge: MergeBudget::MODEST };
//!     let file = PendingFile::create(&path, Overwrite::Refuse)?;
//!     let captured = capture_full(ram, &spec, &file)?; // the guest is paused
//!     let made = captured.finish(&file)?; // the guest runs again
//!     file.publish()?;
//!     # let pool = Default::default();
//!     let chain = Layers::open(vec![MemoryFile::open(&path, &pool)?])?;
//!     assert_eq!(chain.root(), made.root);
//!     let thawed = restore_map(&chain, MapOptions::default())?;
//!     assert_eq!(thawed.layout(), chain.layout());
//!     Ok(())
//! }
//! # let guest = vm_memory::GuestMemoryMmap::<()>::from_ranges(&[(Default::default(), 1 << 20)])?;
//! # #[cfg(feature = "vm-memory")]
//! # freeze_and_thaw(&guest)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What it does not do: pause a guest, find out what is dirty, publish files or find parents.
//!
//! Guest memory is not always plain, and the VMM knows best: see [`RamRegion`] and [`Described`].
//! Missing pages of a range that is registered with a userfaultfd are refused unless the VMM says
//! what they are; parts that are not plugged in are named and never read; what cannot be read (a
//! protected part, a poisoned page) is an error of the capture. Linux's /proc says what was touched
//! and may be read; without it, in a jail, all of memory is read through the kernel, once.
//! Spec: `specs/memfile.md`.
#![deny(missing_docs)]

#[cfg(not(target_pointer_width = "64"))]
compile_error!("coldframe supports 64-bit targets only");

mod algebra;
mod capture;
mod chain;
mod error;
mod file;
mod hash;
mod output;
mod ram;
mod raw;
mod residency;
mod restore;
mod sys;
mod verify;
#[cfg(feature = "vm-memory")]
mod vmm;

pub use algebra::{Rewrite, diff, flatten, merge};
pub use capture::{
    CaptureSpec, CaptureStats, Captured, MemRoot, MergeBudget, capture_diff,
    capture_diff_discarded, capture_full, capture_full_discarded,
};
pub use chain::{Layers, Segment};
pub use error::MemError;
pub use file::{FilePool, MemoryFile};
pub use ram::{Described, Fill, GuestRam, RamRegion, RawRam};
pub use raw::{DiffHoles, Dump, DumpParent, HoleDoubt, Holes, export_raw, import_raw};
pub use residency::dontneed_reads_zero;
pub use restore::{
    CopyInto, CopyOptions, Map, MapOptions, MappedRam, Source, Target, Verify, discard, map_over,
    restore_copy, restore_map,
};
pub use verify::{Damage, DamageKind, verify_deep};
#[cfg(feature = "vm-memory")]
pub use vmm::{MapVmMemory, restore_map_vm_memory};
