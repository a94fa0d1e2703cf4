//! What is of x86_64: model-specific registers, in which step of a restore each is written, and
//! the names of the bits of CPUID.

pub(crate) mod cpuid;
pub mod msr;
mod xsave;

pub use xsave::xsave_in_use;
