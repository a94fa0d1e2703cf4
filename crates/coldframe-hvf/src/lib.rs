//! Hypervisor.framework adapter: freeze and thaw vCPUs, the interrupt controller and guest memory.
//!
//! For VMMs on Apple silicon (macOS 15 and later, with the framework's own GIC). The threads of
//! the vCPUs park in a [`ParkingLot`], [`HvfMachine`] reads and writes all that the framework keeps
//! of the machine, in the order of its [`plan`], and [`Stage2`] maps guest memory, fills
//! it on demand, and learns what the guest writes from the faults of pages that it protects.
//!
//! ```no_run
//! # #[cfg(all(target_os = "macos", target_arch = "aarch64"))]
//! # mod example {
//! use std::time::Duration;
//!
//! use coldframe_hv::{Machine, aarch64::PowerState};
//! use coldframe_hvf::{AppleVcpu, AppleVm, Exit, HvfHost, HvfMachine, ParkingLot, Ready};
//!
//! # type Vm = applevisor::vm::VirtualMachineInstance<applevisor::vm::GicEnabled>;
//! # fn vmm(vm: Vm) -> Result<(), Box<dyn std::error::Error>> {
//! let (calls, lot, host) = (AppleVm::new(vm.clone()), ParkingLot::new(1), AppleVm::host()?);
//! std::thread::scope(|scope| {
//!     scope.spawn(|| {
//!         let vcpu = vm.vcpu_create().expect("a vCPU");
//!         let vcpu = AppleVcpu::new(&vcpu);
//!         let seat = lot.seat(0, vcpu.number()).expect("the first to sit");
//!         let mut ready = Ready::fresh(&vcpu, 0, PowerState::On);
//!         while let Ok(Exit::Canceled(stopped)) = ready.run() {
//!             ready = seat.park(stopped); // returns at once if nobody wants a pause
//!         }
//!     });
//!     let parked = lot.pause(&calls, Duration::from_secs(1))?;
//!     let state = HvfMachine::new(&host, &calls, &parked).save()?;
//!     parked.resume();
//!     # let _ = state;
//!     Ok(())
//! })
//! # }
//! # }
//! ```
//!
//! All of it stands on two traits, [`VmCalls`] and [`VcpuCalls`], one function for each call of the
//! framework: it builds and is tested on any host, against a model; `AppleVm` and `AppleVcpu`, the
//! implementations on the framework itself, are there on Apple silicon only.
//!
//! What it does not do: it makes no machine, stands in for no device, and copies no memory to
//! files; nested guests and SME are refused. Spec: `specs/architecture.md`.
#![deny(missing_docs)]

#[cfg(not(target_pointer_width = "64"))]
compile_error!("coldframe supports 64-bit targets only");

mod calls;
mod error;
mod host;
mod machine;
mod park;
pub mod plan;
mod regs;
mod run;
mod stage2;
mod sync;
#[cfg(all(target_os = "macos", target_arch = "aarch64"))]
mod sys;
mod vcpu;

pub use calls::{CoreReg, ExitReason, HvStatus, Line, Perms, RawExit, VcpuCalls, VmCalls};
pub use error::{HvfError, Place};
pub use host::{HostFacts, HvfHost};
pub use machine::HvfMachine;
pub use park::{Parked, ParkingLot, Seat, Woken};
pub use run::{Abort, Exit, Mmio, Ready, Resolved, SystemAccess};
pub use stage2::{Contents, FILL_BYTES, HostRegion, HvfDirty, Stage2, Watch};
#[cfg(all(target_os = "macos", target_arch = "aarch64"))]
pub use sys::{AppleVcpu, AppleVm};
