//! The machine on KVM: a slot for each region of RAM, a thread for each vCPU.
//!
//! Invariant: a thread other than the vCPU's uses its descriptor only while that thread is
//! parked, since the thread hands it over then.

#[cfg(target_arch = "aarch64")]
mod aarch64;
mod failed;
mod guest;
mod shared;
mod tracked;
mod vcpu;
mod vm;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "aarch64")]
use aarch64 as arch;
#[cfg(target_arch = "x86_64")]
use x86_64 as arch;

pub use tracked::KvmWritten;
pub use vm::{MiniVm, check_kvm, probe_host};
