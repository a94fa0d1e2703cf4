//! userfaultfd(2) and `PAGEMAP_SCAN` of Linux: page faults answered by a program, and dirty pages
//! found without a walk of the page table.
//!
//! For VMMs and for those who write their page-fault handlers. [`Uffd`] has every operation of the
//! kernel up to 6.18: filling by copy, zeros, page cache or move, write protection (synchronous and
//! asynchronous), poison, and events. [`PagemapScan`] finds the pages of a category, and write
//! protects them in the same step. Memory is [`Mapping`], or a range of the caller's own.
//!
//! ```
//! # #[cfg(target_os = "linux")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use coldframe_uffd::{Event, EventBuffer, Features, Filled, Mapping, Modes, Origin, Uffd, Wake};
//! use coldframe_units::ByteLen;
//!
//! // Faults of the kernel's own, such as KVM's, need a privilege; those of a program do not.
//! let uffd = Uffd::open(Features::EVENT_REMOVE, Origin::UserModeOnly)?;
//! let page = coldframe_uffd::host_page();
//! let memory = Mapping::anonymous(ByteLen::new(page.bytes()))?;
//! uffd.register(&memory, Modes::MISSING)?;
//!
//! let content = vec![0x5a; page.bytes() as usize];
//! std::thread::scope(|scope| {
//!     let reader = scope.spawn(|| memory.load(0));
//!     uffd.wait(None)?;
//!     let mut events = EventBuffer::new(16);
//!     for event in uffd.read(&mut events)? {
//!         if let Event::PageFault(fault) = event {
//!             let filled = uffd.copy(fault.addr.align_down(page), &content, Wake::Yes)?;
//!             assert_eq!(filled, Filled::All);
//!         }
//!     }
//!     assert_eq!(reader.join().ok(), Some(0x5a5a_5a5a_5a5a_5a5a));
//!     Ok::<(), coldframe_uffd::UffdError>(())
//! })?;
//! # Ok(())
//! # }
//! # #[cfg(not(target_os = "linux"))]
//! # fn main() {}
//! ```
//!
//! What it does not do: decide anything. Which page gets what, in what order, and what happens when
//! its bytes cannot be had, is `coldframe-fault`'s. It asks for no privilege, starts no thread, and
//! is empty on other systems than Linux.
#![deny(missing_docs)]

#[cfg(not(target_pointer_width = "64"))]
compile_error!("coldframe supports 64-bit targets only");

#[cfg(all(target_os = "linux", target_endian = "big"))]
compile_error!("coldframe-uffd supports little-endian hosts only");

#[cfg(target_os = "linux")]
mod addr;
#[cfg(target_os = "linux")]
mod error;
#[cfg(target_os = "linux")]
mod event;
#[cfg(target_os = "linux")]
mod features;
#[cfg(target_os = "linux")]
mod mapping;
#[cfg(target_os = "linux")]
mod open;
#[cfg(target_os = "linux")]
mod pagemap;
#[cfg(target_os = "linux")]
mod sys;
#[cfg(target_os = "linux")]
mod uffd;

#[cfg(target_os = "linux")]
pub use addr::{HostAddr, HostRange, host_page};
#[cfg(target_os = "linux")]
pub use error::{Operation, UffdError};
#[cfg(target_os = "linux")]
pub use event::{Event, EventBuffer, Events, FaultKind, PageFault};
#[cfg(target_os = "linux")]
pub use features::{Features, Ioctls, Modes};
#[cfg(target_os = "linux")]
pub use mapping::{HugePages, Mapping, Sharing};
#[cfg(target_os = "linux")]
pub use open::{OpenedBy, Origin, Support};
#[cfg(target_os = "linux")]
pub use pagemap::{Categories, PagemapScan, ScanFilter, ScannedRange};
#[cfg(target_os = "linux")]
pub use sys::pidfd_of;
#[cfg(target_os = "linux")]
pub use uffd::{Filled, Protection, Uffd, Wake};
