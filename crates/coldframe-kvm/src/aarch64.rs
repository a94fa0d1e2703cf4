//! State of an aarch64 machine: read and written by the plans of `coldframe-hv`.

mod counters;
mod events;
mod gic;
mod host;
mod init;
mod machine;
mod regs;
mod restore;
mod save;

pub use gic::KvmGic;
pub use host::KvmHost;
pub use machine::KvmMachine;
