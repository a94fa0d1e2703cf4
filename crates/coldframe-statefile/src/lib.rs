//! The machine-state file: typed, versioned, hashed sections.
//!
//! For VMMs that save a paused machine, and for tools that read what was saved. State is keyed by
//! the kernel's own numbers (register ids, MSR indexes, raw structures by item number), never by
//! the layout of a Rust structure; the VMM's devices and its own sections stand in the same table.
//!
//! ```
//! use coldframe_envelope::{Limits, Producer, SectionFlags, SectionKind};
//! use coldframe_statefile::{StateBuilder, StateFile};
//! use coldframe_units::Arch;
//!
//! const CLOCK: SectionKind = SectionKind::new(*b"rtcx"); // lower case: the VMM's own
//! let mut builder = StateBuilder::new(Arch::X86_64, Producer::new("my-vmm", "1.0")?);
//! builder.opaque(CLOCK, 0, 1, SectionFlags::MUST_UNDERSTAND, b"2026".to_vec())?;
//! let (file, root) = builder.finish()?;
//!
//! let state = StateFile::decode(&file, &[CLOCK], Limits::SMALL_FILE)?;
//! assert_eq!(state.opaque(CLOCK, 0).map(|body| body.body()), Some(&b"2026"[..]));
//! assert_eq!(state.root(), root);
//! assert!(StateFile::decode(&file, &[], Limits::SMALL_FILE).is_err()); // nobody knows `rtcx`
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Bodies are written and read here, as bitcode 0.6 lays them out, without that crate. Feature
//! `bitcode` links it for sections of the VMM's own: `StateBuilder::typed`, `StateFile::typed`.
//!
//! What it does not do: no I/O, no system call, no look into the bytes of an item; whether a state
//! fits a host is for `coldframe-hv`. Spec: `specs/statefile.md`.
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

mod body;
mod columns;
mod decode;
mod encode;
mod layout;
pub mod limits;
pub mod schema;

pub use decode::{SectionInfo, StateFile};
pub use encode::StateBuilder;
pub use layout::{DEVC, FORMAT, HOST, LAYOUTS, MACH, META, VCPU, is_vmm_kind};
