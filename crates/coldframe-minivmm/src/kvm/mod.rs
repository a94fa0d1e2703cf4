//! The machine on KVM: a slot for each region of RAM, a thread for each vCPU.
//!
//! Invariant: whoever is not the thread of a vCPU uses its descriptor only while that thread is
//! parked, which the lock around the descriptor enforces.

mod control;
mod guest;
mod kick;
mod park;
mod regs;
mod setup;
mod tracked;
mod vcpu;
mod vm;

pub use tracked::KvmWritten;
pub use vm::{MiniVm, check_kvm, probe_host};
