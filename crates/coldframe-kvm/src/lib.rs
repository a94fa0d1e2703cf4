//! KVM adapter: freeze and thaw vCPUs and VM state, dirty logs and rings.
//!
//! For VMMs on Linux that use `kvm-ioctls`. [`KvmMachine`] reads and writes all that KVM keeps of
//! a machine on x86_64 or aarch64, in the order of its [`plan`]; [`KvmHost`] says what a
//! guest would find different on this host; [`KvmDirty`] says which pages the guest wrote; the
//! threads of the vCPUs come to rest in a [`ParkingLot`].
//!
//! ```
//! # #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use coldframe_hv::Machine;
//! use coldframe_kvm::{KvmHost, KvmMachine};
//!
//! # if !std::path::Path::new("/dev/kvm").exists() { return Ok(()); }
//! let kvm = kvm_ioctls::Kvm::new()?;
//! let (host, vm, other) = (KvmHost::probe(&kvm)?, kvm.create_vm()?, kvm.create_vm()?);
//! let (vcpu, thawed) = (vm.create_vcpu(0)?, other.create_vcpu(0)?);
//!
//! let state = KvmMachine::new(&host, &vm, [&vcpu]).save()?;
//! let accepted = host.compare(&state).accept(&[])?;
//! let restored = KvmMachine::new(&host, &other, [&thawed]).restore(&accepted)?;
//! println!("tell the guest that it is now {}", restored.generation());
//! # Ok(())
//! # }
//! # #[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
//! # fn main() {}
//! ```
//!
//! What it does not do: it makes no machine, runs no vCPU and copies no memory. On aarch64
//! [`KvmMachine`] is also told what the vCPUs were initialised with and which interrupt controller
//! there is. On other systems the crate has its plans and nothing else.
#![deny(missing_docs)]

#[cfg(not(target_pointer_width = "64"))]
compile_error!("coldframe supports 64-bit targets only");

#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
mod aarch64;
#[cfg(target_os = "linux")]
mod dirty;
#[cfg(target_os = "linux")]
mod error;
#[cfg(target_os = "linux")]
mod park;
#[cfg(target_os = "linux")]
mod pending;
pub mod plan;
#[cfg(all(
    target_os = "linux",
    any(target_arch = "aarch64", target_arch = "x86_64")
))]
mod restore;
#[cfg(target_os = "linux")]
mod slot;
#[cfg(target_os = "linux")]
mod sys;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod x86_64;

#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
pub use aarch64::{KvmGic, KvmHost, KvmMachine};
#[cfg(target_os = "linux")]
pub use dirty::{KvmDirty, is_ring_full};
#[cfg(target_os = "linux")]
pub use error::{KvmError, Place};
#[cfg(target_os = "linux")]
pub use park::{Parked, ParkingLot, Seat, Woken};
#[cfg(target_os = "linux")]
pub use pending::complete_pending_io;
#[cfg(target_os = "linux")]
pub use slot::{RegisteredSlot, SlotTable, Tracking};
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub use x86_64::{KvmHost, KvmMachine};
