//! Crash and fault storage, hypervisor models, hostile-byte checks, poor hosts and a server of S3
//! for coldframe's own tests.
//!
//! For the tests of the other crates; never published. Doubles live here, so that no production
//! crate has a public type that only tests need.
//!
//! ```
//! use coldframe_storage::{MemStorage, Storage};
//! use coldframe_testkit::fault::{Fault, FaultStorage};
//! use coldframe_testkit::hostile::check_bit_flips;
//! use coldframe_units::FileOffset;
//!
//! let full = FaultStorage::new(MemStorage::new(), &[Fault::FullAt(FileOffset::new(2))]);
//! let error = full.write_at(FileOffset::ZERO, b"abc").unwrap_err();
//! assert!(error.is_out_of_space());
//! check_bit_flips(b"snap", &mut |damaged| assert_ne!(damaged, b"snap"));
//! ```
//!
//! What it does not do: know any format; format crates depend on it for their tests.
//! Spec: `specs/conventions.md`.
#![deny(missing_docs)]

pub mod alloc;
pub mod cases;
pub mod child;
pub mod crash;
pub mod fault;
pub mod golden;
pub mod hostile;
pub mod hv;
pub mod hvf;
pub mod kills;
pub mod moto;
pub mod pagecache;
#[cfg(target_os = "linux")]
pub mod poor_host;
pub mod poor_service;
pub mod report;
pub mod require;
pub mod rng;
pub mod scratch;
#[cfg(target_os = "linux")]
pub mod small;
pub mod unreadable;
