//! Page faults of guest memory, served while the guest runs.
//!
//! For VMMs that start a guest before its memory is there. [`Lazy`] serves memory from a
//! [`BlockSource`], such as the files of a snapshot ([`ChainSource`]): no byte reaches the guest
//! that was not checked, what cannot be had **fails** and is never zeros, and what the guest gives
//! up (a balloon, free page reporting) is zeros from then on.
//!
//! ```
//! # #[cfg(target_os = "linux")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::convert::Infallible;
//! use std::sync::Arc;
//!
//! use coldframe_fault::{BlockReader, BlockSource, Content, Lazy, LazyOptions};
//! use coldframe_uffd::{Mapping, Origin};
//! use coldframe_units::{BLOCK_BYTES, ByteLen};
//!
//! /// Every block is its own number.
//! struct Numbers;
//!
//! impl BlockSource for Numbers {
//!     type Error = Infallible;
//!     type Reader<'a> = Numbers;
//!
//!     fn reader(&self) -> Result<Numbers, Infallible> {
//!         Ok(Numbers)
//!     }
//! }
//!
//! impl BlockReader for Numbers {
//!     type Error = Infallible;
//!
//!     fn read(&mut self, block: u64, buf: &mut [u8]) -> Result<Content, Infallible> {
//!         buf.fill(block as u8);
//!         Ok(Content::Data)
//!     }
//! }
//!
//! let memory = Arc::new(Mapping::anonymous(ByteLen::new(16 * BLOCK_BYTES))?);
//! // KVM's faults are the kernel's: a VMM wants the default, which takes a privilege.
//! let options = LazyOptions { origin: Origin::UserModeOnly, ..LazyOptions::default() };
//! let lazy = Lazy::new(vec![memory.clone()], Numbers, options, |event| println!("{event:?}"))?;
//! // The guest runs. It reads a word of block 3, and nothing else is fetched.
//! assert_eq!(memory.load(3 * 65536 + 8), 0x0303_0303_0303_0303);
//! assert_eq!(lazy.counts().demanded, 1);
//! # Ok(())
//! # }
//! # #[cfg(not(target_os = "linux"))]
//! # fn main() {}
//! ```
//!
//! [`Template`] is one such memory for any number of clones of a guest: filled once, sealed, and
//! mapped by each.
//!
//! Under it, and on any system, are three parts without a thread, a clock or a system call of their
//! own: [`Core`] decides what happens to each page, [`Dispatcher`] what each thread of a driver
//! does next, and [`Claims`] who copies a block of a running guest, so that a capture has it as it
//! was.
//!
//! Features: `store` adds `StoreSource`, a chain in a chunk store.
//!
//! What it does not do: it makes no snapshot, pauses no vCPU ([`Lazy::quiesce`] says when that is
//! possible), and does not end a guest whose memory has failed: the VMM is told, and decides.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

#[cfg(not(target_pointer_width = "64"))]
compile_error!("coldframe supports 64-bit targets only");

mod chain;
mod claims;
mod compose;
mod core;
mod dispatch;
mod error;
mod geometry;
#[cfg(target_os = "linux")]
mod lazy;
mod source;
#[cfg(feature = "store")]
mod store;
mod sync;
#[cfg(target_os = "linux")]
mod template;

pub use chain::{ChainReader, ChainSource};

pub use claims::{Claim, Claimed, Claims};
pub use core::{
    Answer, Batch, Cause, Class, Content, Core, Counts, Depth, Fault, Notice, PageOrigin,
    Poisoning, Step, Task, Ticket,
};
pub use dispatch::{Dispatcher, Next};
pub use error::FaultError;
pub use geometry::{BlockIndex, Geometry, Region};
#[cfg(target_os = "linux")]
pub use lazy::{BlockFailure, Lazy, LazyEvent, LazyOptions, probe};
pub use source::{BlockReader, BlockSource};
#[cfg(feature = "store")]
pub use store::{StoreReader, StoreSource, StoreSourceError};
#[cfg(target_os = "linux")]
pub use template::{Template, TemplateClone, TemplateError, TemplateReader, TemplateSource};
