//! State of an x86_64 machine: read and written by the plans of `coldframe-hv`.

mod clocks;
mod cpuid;
mod host;
mod item;
mod listed;
mod machine;
mod msr;
mod refuse;
mod restore;
mod save;
mod wide;

pub use host::KvmHost;
pub use machine::KvmMachine;
