//! Page faults of guest memory, served while the guest runs.
//!
//! For VMMs that start a guest before its memory is there. [`Core`] decides what happens to each
//! page: which block is fetched next, what a fault is answered with, what a removal (a balloon,
//! free page reporting) does to pages that are on their way, and what becomes of a block that
//! cannot be had. [`Claims`] says who copies a block of a running guest, so that a capture has it
//! as it was. Neither has a thread, a clock or a system call: `coldframe-uffd` has those.
//!
//! ```
//! use std::time::Duration;
//!
//! use coldframe_fault::{
//!     Answer, Batch, Content, Core, Fault, Geometry, Poisoning, Region, Step, Task,
//! };
//! use coldframe_units::{ByteLen, PageIndex, PageSize, RamOffset};
//!
//! let region = Region {
//!     host: 0x7f00_0000_0000,
//!     ram: RamOffset::ZERO,
//!     len: ByteLen::new(1 << 20),
//! };
//! let geometry = Geometry::new(vec![region], PageSize::SIZE_4K)?;
//! let mut core = Core::new(geometry, Poisoning::Available, ByteLen::new(8 << 20));
//!
//! // A vCPU waits for page 5. Its block of 16 pages is fetched and put into memory.
//! let mut batch = Batch::default();
//! batch.fault(Fault { page: PageIndex::new(5), thread: 1 });
//! core.apply(&batch, Duration::ZERO);
//! let Some(Task::Fetch { ticket, .. }) = core.next_task() else { panic!() };
//! // ... the block is read and its hash is checked ...
//! core.fetched(&ticket, Some(Content::Data));
//! let step = core.step(&ticket);
//! assert!(matches!(step, Step::Copy(pages) if pages.count() == 16));
//! // ... UFFDIO_COPY ...
//! core.answered(&ticket, step, Answer::All);
//! assert_eq!(core.step(&ticket), Step::Done);
//! assert_eq!(core.waiting().count(), 0);
//! # Ok::<(), coldframe_fault::FaultError>(())
//! ```
//!
//! What it does not do yet: fetch, fill and wait by itself.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

#[cfg(not(target_pointer_width = "64"))]
compile_error!("coldframe supports 64-bit targets only");

mod claims;
mod core;
mod error;
mod geometry;
mod sync;

pub use claims::{Claim, Claimed, Claims};
pub use core::{
    Answer, Batch, Cause, Class, Content, Core, Counts, Depth, Fault, Notice, PageOrigin,
    Poisoning, Step, Task, Ticket,
};
pub use error::FaultError;
pub use geometry::{BlockIndex, Geometry, Region};
