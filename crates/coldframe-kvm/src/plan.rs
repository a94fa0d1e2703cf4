//! The orders in which a machine on KVM is read and written, a plan for each architecture.
//!
//! The plans are data and there on every host, so that tools can print them; each architecture's
//! adapter walks its own, arm by arm.

pub mod aarch64;
pub mod x86_64;
